"""What it costs to read what the machine uses, as a share of one core.

python tests/bench/system_metrics.py
"""

import time
from pathlib import Path

from nightbus.bus.system.usage import MachineUsage, ProcessUsage
from nightbus.bus.system_sampling import SAMPLE_EVERY_S

READINGS = 1000


def main() -> None:
    """Measure and print."""
    process, machine = ProcessUsage(time.monotonic), MachineUsage(time.monotonic, Path.cwd())
    process.read()
    machine.read()
    begin_s = time.process_time()
    for _ in range(READINGS):
        process.read()
        machine.read()
    each_s = (time.process_time() - begin_s) / READINGS
    share = each_s / SAMPLE_EVERY_S
    print(
        f"a reading takes {each_s * 1e3:.2f} ms: {share:.3%} of a core, every {SAMPLE_EVERY_S:g} s"
    )


if __name__ == "__main__":
    main()
