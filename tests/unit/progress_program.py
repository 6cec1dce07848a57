"""A program with a progress bar, for a terminal that a test looks at; no trainer needed."""

import os
import sys
import time
from pathlib import Path

import nightbus as nb
from nightbus.bus.bus import Bus
from nightbus.bus.events import LoopEnded, LoopStarted, Put, RunEnded, RunStarted
from nightbus.bus.log.place import Place
from nightbus.bus.log.writer import LogIdentity, LogWriter
from nightbus.bus.runs.cursor import Position
from nightbus.bus.runs.run_folder import RunFolder
from nightbus.bus.system.terminal_message import STDERR, end_drawing, write_urgently
from nightbus.bus.system.terminal_relay import TerminalRelay, carry_over

EPOCHS = 2
STEPS = 40
OTHERS_TERMINAL = TerminalRelay().lend()


def main(root: str, what: str) -> None:
    run = RunFolder.create(Path(root), "shown")
    lock = run.begin_attempt()
    place, store = Place(), run.store(lock.attempt)
    bus, bar = Bus(place, (), run), nb.ProgressBar(leave=what == "steps")
    writer = LogWriter(store, LogIdentity(run.info.id, lock.attempt), place)
    bus.open_log(writer, store)
    bus.routes.refresh()
    bus.start()
    bus.register(bar)
    bus.observe(bar, Position(0, 0))
    bus.emit(RunStarted, run.info.id, lock.attempt, "fit", time.time_ns(), {}, {})
    bus.emit(LoopStarted, EPOCHS, "epoch", source="fit")
    for epoch in range(EPOCHS):
        place.move(stage="train", epoch=epoch)
        bus.emit(LoopStarted, STEPS, "batch", source="train")
        for batch in range(STEPS if what != "endless" else 10**9):
            place.move(step=epoch * STEPS + batch, batch_idx=batch)
            if batch % 8 == 7 and epoch == 1:
                act(what, batch // 8)
            time.sleep(0.008)  # the work of a step
            bus.emit(Put, "loss", batch / STEPS, ("progress_bar",), "training_step")
            bus.routes.call("on_train_batch_end")
            bus.flush()
        bus.emit(LoopEnded, STEPS, source="train")
    bus.emit(LoopEnded, EPOCHS, source="fit")
    place.move(batch_idx=-1)
    bus.emit(RunEnded, "completed", "")
    for observer in bus.close(10):
        print(f"{observer.name} stopped: {observer.gave_up}")
    lock.release()


def act(what: str, number: int) -> None:
    """What the program itself does on the terminal meanwhile."""
    if what == "prints":
        print(f"line {number} of the user")
    elif what == "says urgently":
        write_urgently(f"message {number}")
    elif what == "leaves the terminal to others":
        end_drawing()
        os.write(STDERR, f"line {number} of another process\n".encode())
    elif what == "relays":
        os.write(OTHERS_TERMINAL, f"line {number} of \x1b[1manother\x1b[0m process\nend".encode())
        carry_over()
    elif what == "fork" and number == 0:
        worker = os.fork()
        if worker == 0:
            print("from the worker", flush=True)
            os._exit(0)
        os.waitpid(worker, 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
