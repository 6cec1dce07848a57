"""What this process and its machine use: processor, memory, disk and network, from Linux's /proc.

The files are read directly: importing psutil takes longer than a thousand readings.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path

Reading = dict[str, float]

_TICKS_A_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_SECTOR_PAGE_BYTES = 1024  # what pgpgin and pgpgout of /proc/vmstat count
_VIRTUAL = ("lo", "docker", "veth", "br-", "ifb", "dummy", "virbr")


class ProcessUsage:
    """Reads what this process uses.

    Args:
        clock_s: monotonic clock.
        proc: the folder ``/proc``.
    """

    def __init__(self, clock_s: Callable[[], float], proc: Path = Path("/proc")) -> None:
        self._own = proc / "self"
        self._rates = _Rates(clock_s)

    def read(self) -> Reading:
        """Return what is used now, rates since the reading before; 100 % is one core."""
        rates = self._rates
        rates.begin()
        used = os.times()
        rates.add("process/cpu_percent", used.user + used.system, 100)
        pages = _text(self._own / "statm").split()
        if len(pages) > 1:
            rates.found["process/memory_bytes"] = int(pages[1]) * _PAGE_BYTES
        moved = _numbers(self._own / "io", r"^(\w+): (\d+)$")
        if "read_bytes" in moved:
            rates.add("process/disk_read_bytes_per_s", moved["read_bytes"])
            rates.add("process/disk_write_bytes_per_s", moved["write_bytes"])
        return rates.found


class MachineUsage:
    """Reads what the machine uses, all processes together.

    Args:
        clock_s: monotonic clock.
        disk: a folder on the disk whose free space counts.
        proc: the folder ``/proc``.
    """

    def __init__(
        self, clock_s: Callable[[], float], disk: Path, proc: Path = Path("/proc")
    ) -> None:
        self._proc = proc
        self._disk = disk
        self._cores = os.cpu_count() or 1
        self._rates = _Rates(clock_s)

    def read(self) -> Reading:
        """Return what is used now, rates since the reading before; 100 % is all cores."""
        rates = self._rates
        rates.begin()
        ticks = _text(self._proc / "stat").split("\n", 1)[0].split()[1:9]
        if len(ticks) == 8:
            user, nice, system, _idle, _waiting, *interrupts = map(int, ticks)
            busy_s = (user + nice + system + sum(interrupts)) / _TICKS_A_S
            rates.add("machine/cpu_percent", busy_s / self._cores, 100)
        memory = _numbers(self._proc / "meminfo", r"^(MemTotal|MemAvailable):\s+(\d+) kB$")
        if len(memory) == 2:
            used_kb = memory["MemTotal"] - memory["MemAvailable"]
            rates.found["machine/memory_bytes"] = used_kb * 1024
            rates.found["machine/memory_percent"] = 100 * used_kb / memory["MemTotal"]
        moved = _numbers(self._proc / "vmstat", r"^(pgpgin|pgpgout) (\d+)$")
        if len(moved) == 2:
            rates.add("machine/disk_read_bytes_per_s", moved["pgpgin"] * _SECTOR_PAGE_BYTES)
            rates.add("machine/disk_write_bytes_per_s", moved["pgpgout"] * _SECTOR_PAGE_BYTES)
        self._add_space()
        self._add_network()
        return rates.found

    def _add_space(self) -> None:
        try:
            disk = os.statvfs(self._disk)
        except OSError:  # the folder is gone; the bus says so
            return
        free = disk.f_bavail * disk.f_frsize
        self._rates.found["machine/disk_free_bytes"] = free

    def _add_network(self) -> None:
        received = sent = 0
        lines = _text(self._proc / "net" / "dev").splitlines()[2:]
        for name, _, counts in (line.strip().partition(":") for line in lines):
            fields = counts.split()
            if len(fields) >= 9 and not name.startswith(_VIRTUAL):
                received += int(fields[0])
                sent += int(fields[8])
        if lines:
            self._rates.add("machine/network_received_bytes_per_s", received)
            self._rates.add("machine/network_sent_bytes_per_s", sent)


class _Rates:
    """Makes rates of counters.

    Attributes:
        found: the reading that is made.
    """

    def __init__(self, clock_s: Callable[[], float]) -> None:
        self._clock_s = clock_s
        self._at_s = 0.0  # of this reading,
        self._since_s = 0.0  # and the time from the one before
        self._before: dict[str, float] = {}
        self.found: Reading = {}

    def begin(self) -> None:
        """Begin a reading."""
        now_s = self._clock_s()
        self._since_s, self._at_s = now_s - self._at_s, now_s
        self.found = {}

    def add(self, name: str, count: float, factor: float = 1) -> None:
        """Add the growth of a counter per second, from the second reading on."""
        before = self._before.get(name)
        self._before[name] = count
        if before is not None and self._since_s > 0:
            # Counters begin again, for example where a network interface is removed.
            self.found[name] = max(0.0, (count - before) * factor / self._since_s)


def _numbers(path: Path, pattern: str) -> dict[str, int]:
    return {name: int(text) for name, text in re.findall(pattern, _text(path), re.MULTILINE)}


def _text(path: Path) -> str:
    """Return a file of the system; empty where there is none, as on systems other than Linux."""
    try:
        return path.read_text("ascii", "replace")
    except (FileNotFoundError, PermissionError, NotADirectoryError):
        return ""
