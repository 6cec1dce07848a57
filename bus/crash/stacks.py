"""The stacks of all threads and trio tasks, as text for people."""

import os
import sys
import threading
import traceback
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trio.lowlevel import Task

_OF_TRIO = f"{os.sep}trio{os.sep}"


def thread_stack(ident: int) -> str:
    """Return a thread's stack, innermost call last; empty when it has ended."""
    frame = sys._current_frames().get(ident)
    return "" if frame is None else "".join(traceback.format_stack(frame))


def all_threads(training: int) -> str:
    """Return the stacks of all threads except the caller's, the training thread first.

    Args:
        training: ident of the training thread.
    """
    frames = sys._current_frames()
    frames.pop(threading.get_ident())
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    parts = []
    for ident in sorted(frames, key=lambda ident: (ident != training, names.get(ident, ""))):
        what = " (training)" if ident == training else ""
        stack = "".join(traceback.format_stack(frames[ident]))
        parts.append(f"thread {names.get(ident, ident)}{what}\n{stack}")
    return "\n".join(parts)


def all_tasks(root: "Task | None") -> str:
    """Return where every trio task below ``root`` waits.

    Called from another thread while the tasks run: a task that changes meanwhile is listed as in
    motion.
    """
    if root is None:
        return "there are none\n"
    return "\n".join(_tasks(root, 0))


def _tasks(task: "Task", depth: int) -> Iterator[str]:
    indent = "  " * depth
    lines = [f"{indent}task {task.name}\n"]
    waits_in = ""
    try:
        stack = traceback.StackSummary.extract(task.iter_await_frames())
        # trio's own frames, at the end of each stack, tell nothing.
        while stack and _OF_TRIO in stack[-1].filename:
            waits_in = stack.pop().name
        lines += [f"{indent}{line}\n" for text in stack.format() for line in text.splitlines()]
        if stack and waits_in:
            lines.append(f"{indent}    in trio: {waits_in}\n")
        children = [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    except (RuntimeError, TypeError, AttributeError) as error:
        lines.append(f"{indent}  in motion: {error}\n")
        children = []
    yield "".join(lines)
    for child in sorted(children, key=lambda child: child.name):
        yield from _tasks(child, depth + 1)
