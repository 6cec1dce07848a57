"""What pytest needs to know of a repository whose root is itself the package."""

import gc
import os
import signal
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import Recording

# Models here are small: threads that compute together would wait for each other most of the time,
# 20 ms a step instead of 0.2 where other programs run too. Processes that tests start are told by
# the variable; torch has read it here already.
os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))

SIGNALS = ("SIGINT", "SIGQUIT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM")


class RootIsNotAPackage:
    """Keep pytest from importing the root ``__init__.py`` under the checkout's folder name."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_collect_directory(
        self, path: Path, parent: pytest.Collector
    ) -> pytest.Collector | None:
        if path == parent.config.rootpath:
            return pytest.Dir.from_parent(parent, path=path)
        return None


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(RootIsNotAPackage())
    # A shell has these ignored by what it does not wait for, and so by all that tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Have the garbage collector leave alone what lives as long as the session: 0.7 s each time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    faults = config.rootpath / "tests" / "faults"
    has_gpu = torch.cuda.is_available()
    for item in items:
        if item.path.is_relative_to(faults):
            item.add_marker(pytest.mark.long)
        if not has_gpu and item.get_closest_marker("gpu") is not None:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(scope="session", autouse=True)
def _no_test_waits_for_the_disk() -> Iterator[None]:
    """Only a power cut can tell what was synced, and tests simulate it on top of these calls; a
    third of the time of a small run goes by in them. Processes that tests start do sync.
    """

    def sync(fd: int) -> None:
        os.fstat(fd)  # raises what these would if it is closed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", sync)
        patch.setattr(os, "fdatasync", sync)
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_test_finds_what_this_user_keeps(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[None]:
    """The token of this user's boards is not for tests, nor what they do for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(autouse=True)
def _no_test_leaves_a_recording_open() -> Iterator[None]:
    """Many tests look at what a process leaves that died, and so never close the log. A run of all
    of them would need more open files than many systems give a process.
    """
    yield
    while Recording.begun:
        Recording.begun.pop().abandon()


@pytest.fixture(autouse=True)
def _no_test_leaves_a_signal_handled() -> Iterator[None]:
    """What one test leaves would be found by another one, in whose name it would be reported."""
    before = _handled()
    yield
    left = {name: now for name, now in _handled().items() if now != before[name]}
    if left:
        signal.set_wakeup_fd(before["wakeup fd"])
        for name in left.keys() - {"wakeup fd"}:
            signal.signal(signal.Signals[name], before[name])
        pytest.fail(f"signals are handled otherwise than before the test: {left}")


def _handled() -> dict[str, Any]:
    """Return the handlers of the signals that a run has to do with, and who is woken by them."""
    woken = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(woken)
    return {name: signal.getsignal(signal.Signals[name]) for name in SIGNALS} | {"wakeup fd": woken}


@pytest.fixture
def spawns(pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is spawned gets this one's path, and finds the tests' classes by it."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(pytestconfig.rootpath)])
