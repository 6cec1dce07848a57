"""A curve in braille dots: each character is two dots wide and four high."""

from collections.abc import Iterator, Sequence

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # row from above, column


def braille(lows: Sequence[float], highs: Sequence[float], columns: int, rows: int) -> list[str]:
    """Return lines that show values over their numbers, from left to right.

    Args:
        lows: the lowest value at each place.
        highs: the highest value there.
        columns: width in characters.
        rows: height in characters.
    """
    if not lows:
        return [" " * columns] * rows
    bottom, top = min(lows), max(highs)
    height = 4 * rows - 1
    scale = height / (top - bottom) if top > bottom else 0.0
    cells = [[0] * columns for _ in range(rows)]
    before: tuple[int, int] | None = None
    for x, (low, high) in enumerate(_columns(lows, highs, 2 * columns)):
        first = last = height // 2
        if scale:
            first, last = round((low - bottom) * scale), round((high - bottom) * scale)
        now = first, last
        if before is not None:  # so that the line has no holes
            first, last = min(first, before[1] + 1), max(last, before[0] - 1)
        for y in range(first, last + 1):
            row, within = divmod(height - y, 4)
            cells[row][x // 2] |= _DOTS[within][x % 2]
        before = now
    return ["".join(chr(0x2800 + cell) if cell else " " for cell in row) for row in cells]


def _columns(
    lows: Sequence[float], highs: Sequence[float], width: int
) -> Iterator[tuple[float, float]]:
    """Yield the lowest and the highest value for each column of dots."""
    size = len(lows)
    if size >= width:
        for x in range(width):
            part = slice(x * size // width, (x + 1) * size // width)
            yield min(lows[part]), max(highs[part])
        return
    for x in range(width):  # a straight line from each value to the next
        at, rest = divmod(x * (size - 1), width - 1)
        share, following = rest / (width - 1), min(at + 1, size - 1)
        low = lows[at] + share * (lows[following] - lows[at])
        yield low, max(low, highs[at] + share * (highs[following] - highs[at]))
