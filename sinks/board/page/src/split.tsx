// The edge between the table and what is beside it, which can be moved.

import { useRef } from "preact/hooks";

const USUAL = 42; // percent, as in the style sheet
const [LEAST, MOST] = [20, 85];
const STEP = 2;

export function Split({ share, move }: {
  /** Of the table, in percent of the width; null as usual. */
  share: number | null;
  move: (share: number | null) => void;
}) {
  const isMoved = useRef(false);
  const to = (wanted: number): void => move(Math.round(Math.min(Math.max(wanted, LEAST), MOST) * 10) / 10);
  const now = share ?? USUAL;
  return (
    <div class="split" role="separator" tabIndex={0} aria-orientation="vertical" aria-label="width of the table"
      aria-valuenow={Math.round(now)} aria-valuemin={LEAST} aria-valuemax={MOST} title="drag to resize, double-click for the usual width"
      onPointerDown={(event) => {
        isMoved.current = true;
        event.currentTarget.setPointerCapture(event.pointerId);
      }}
      onPointerMove={(event) => {
        const box = event.currentTarget.parentElement?.getBoundingClientRect();
        if (isMoved.current && box) to((100 * (event.clientX - box.left)) / box.width);
      }}
      onLostPointerCapture={() => { isMoved.current = false; }}
      onDblClick={() => move(null)}
      onKeyDown={(event) => {
        if (event.key === "ArrowLeft") to(now - STEP);
        if (event.key === "ArrowRight") to(now + STEP);
        if (event.key === "Home") move(null);
      }} />
  );
}
