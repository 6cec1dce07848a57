"""How fast a run of a million events opens after its process was killed.

python tests/bench/after_crash.py
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import best_of_runs_s

from nightbus.bus.log.place import Place
from nightbus.bus.log.reader import LogReader
from nightbus.bus.log.writer import LogIdentity, LogWriter
from nightbus.bus.routes import Routes
from nightbus.bus.runs.run_folder import RunFolder

EVENTS = 1_000_000
PUT_EVERY = 8  # a value, and seven hooks


def record_and_die(root: Path) -> None:
    """Record a million events, and be killed."""
    from nightbus.bus.events import Put

    run = RunFolder.create(root, "crash")
    lock = run.begin_attempt()
    place = Place()
    writer = LogWriter(run.store(lock.attempt), LogIdentity(run.info.id), place)
    routes = Routes(place)
    routes.refresh()
    for step in range(EVENTS // PUT_EVERY):
        place.complete_step(step)
        for _ in range(PUT_EVERY - 1):
            routes.call("on_train_batch_start")
        value = 1 / (step + 1)
        writer.append(writer.event(Put, "loss", value, ("loggers",), "h", source="module"))
        writer.flush()
    os.kill(os.getpid(), signal.SIGKILL)


def after_crash(folder: Path) -> dict[str, str]:
    """Figures of opening it."""
    root = folder / "crashed"
    subprocess.run([sys.executable, __file__, str(root)], check=False)
    (path,) = root.iterdir()
    opened_s, read_s = [], []
    for _ in range(5):
        begin_s = time.perf_counter()
        reader = LogReader(RunFolder.open(path).store(0))
        reader.seek(EVENTS - 1)
        (last,) = reader.events()
        opened_s.append(time.perf_counter() - begin_s)
        reader.close()
        assert last.seq == EVENTS - 1
        begin_s = time.perf_counter()
        reader = LogReader(RunFolder.open(path).store(0))
        assert sum(1 for _ in reader.events()) == EVENTS
        read_s.append(time.perf_counter() - begin_s)
        reader.close()
    show_s = best_of_runs_s("-m", "nightbus", "show", str(path))
    return {
        "a million events after a kill: to the last, ms": f"{min(opened_s) * 1e3:.0f}",
        "all of them read, ms": f"{min(read_s) * 1e3:.0f}",
        "show on them, ms": f"{show_s * 1e3:.0f}",
    }


def main() -> None:
    if len(sys.argv) > 1:
        record_and_die(Path(sys.argv[1]))
    with tempfile.TemporaryDirectory() as folder:
        for what, figure in after_crash(Path(folder)).items():
            print(f"{what:50}{figure:>8}")


if __name__ == "__main__":
    main()
