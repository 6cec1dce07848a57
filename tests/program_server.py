"""Forks Python programs from a process that has imported what takes longest, such as torch.

    python program_server.py FD FOLDER

``programs.py`` starts it, and sends requests to the socket FD, each with four files: the program's
three streams, and one that gets the program's pid and then how it ended. FOLDER, which the server's
client removes, is for compiled modules if Python writes none elsewhere. Of nightbus a program finds
imported what says the same in every process; what reads the environment as it is imported, such as
the class of modules and the trainer, it imports by itself. What Python reads as it starts, such as
PYTHONHASHSEED, is the server's.
"""

import gc
import io
import json
import os
import random
import runpy
import signal
import socket
import sys
from contextlib import suppress
from types import ModuleType
from typing import Any

PRELOADED = (
    *("msgspec", "numpy", "psutil", "safetensors.torch", "structlog", "torch", "torch._dynamo"),
    *("torch.nn.parallel", "torch.utils.data", "torchmetrics", "trio"),
)
# What a run loads of nightbus, 215 modules of 281, by those that nothing else imports.
PRELOADED_OF_NIGHTBUS = (
    *("bus.crash.black_box", "bus.log.fast_flush", "bus.runs.lineage", "bus.runs.marks"),
    *("sinks.factory", "sinks.progress_bar", "sinks.refill", "loggers.folder_logger"),
    *(
        "actors.checkpoints.explained",
        "actors.checkpoints.files",
        "actors.checkpoints.module_modes",
    ),
    *("actors.checkpoints.lightning_format", "actors.collectives", "actors.datamodule"),
    *("actors.data.validation_schedule", "actors.export", "actors.former_arguments"),
    *("actors.former_states", "actors.metrics.metrics", "actors.metrics.predictions"),
    *("actors.misspelt_hooks", "actors.model_hooks", "actors.module_summary"),
    *("actors.optimization.lightning_optimizer", "actors.optimization.optimizers"),
    *("actors.optimization.progress", "actors.process.environment", "actors.process.slurm"),
    *("actors.process.stop_signals", "actors.process.torch_settings", "actors.profilers.choice"),
    *("actors.ranks.common_end", "actors.ranks.devices", "actors.ranks.seeds"),
    *("actors.saving.rank_states", "actors.saving.saved_hyperparameters", "actors.step_batches"),
    *("actors.throughput", "actors.truncated_bptt"),
)


def serve(requests: socket.socket) -> dict[str, Any]:
    """Fork a program for each request; return its request in the program, and never otherwise."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # wardens leave nothing
    while True:
        message, fds, _, _ = socket.recv_fds(requests, 1 << 20, 4)
        if not message:
            os._exit(0)
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            requests.close()
            *streams, status = fds
            if (pid := os.fork()) != 0:
                watch(pid, streams, status)
            os.close(status)
            for number, fd in enumerate(streams):
                os.dup2(fd, number)
                os.close(fd)
            request: dict[str, Any] = json.loads(message)
            return request
        for fd in fds:
            os.close(fd)


def watch(pid: int, streams: list[int], status: int) -> None:
    """Tell the program's pid, wait until it ends, and tell how."""
    for fd in (0, 1, 2, *streams):
        os.close(fd)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.write(status, b"%d\n" % pid)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with suppress(BrokenPipeError):  # nobody waits for it any more
        os.write(status, b"%d\n" % code)
    os._exit(0)


def stream(name: str, errors: str) -> io.TextIOWrapper:
    """What Python makes of a standard stream."""
    fd = ("stdin", "stdout", "stderr").index(name)
    is_raw = name != "stdin" and bool(os.environ.get("PYTHONUNBUFFERED"))
    file: Any = io.FileIO(fd, "r" if name == "stdin" else "w", closefd=False)
    if not is_raw:
        file = io.BufferedReader(file) if name == "stdin" else io.BufferedWriter(file)
    is_by_line = name == "stderr" or os.isatty(fd)
    return io.TextIOWrapper(file, "utf-8", errors, None, is_by_line, is_raw)


def become(request: dict[str, Any]) -> None:
    """Make this process what Python makes of itself as it starts."""
    if request["new_session"]:
        os.setsid()
    os.chdir(request["cwd"])
    paths_before = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ.clear()
    os.environ.update(request["env"])
    for name, errors in (("stdin", "strict"), ("stdout", "strict"), ("stderr", "backslashreplace")):
        setattr(sys, name, stream(name, errors))
        setattr(sys, f"__{name}__", getattr(sys, name))
    vars(sys.modules["nightbus._began_in"])["BEGAN_IN"] = os.getcwd()
    random.seed()
    sys.modules["numpy"].random.seed()
    sys.argv = list(request["arguments"])
    sys.orig_argv = [sys.executable, *sys.argv]
    paths = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    sys.path[:] = [*paths, *(each for each in sys.path[1:] if each not in paths_before)]


def run(arguments: list[str]) -> None:
    """Run the program: ``-c`` code, ``-m`` module, or a script."""
    main = sys.modules["__main__"] = ModuleType("__main__")
    first, *rest = arguments
    if first == "-m":
        sys.path.insert(0, os.getcwd())
        sys.argv = rest
        runpy._run_module_as_main(rest[0])  # type: ignore[attr-defined]
        return
    if first == "-c":
        sys.path.insert(0, "")
        sys.argv = ["-c", *rest[1:]]
        code = compile(rest[0], "<string>", "exec")
    else:
        sys.path.insert(0, os.path.dirname(os.path.realpath(first)))
        with open(first, "rb") as file:
            code = compile(file.read(), first, "exec")
        main.__file__ = first
    vars(main)["__builtins__"] = __builtins__
    exec(code, vars(main))


if __name__ == "__main__":
    for module in PRELOADED:
        __import__(module)
    if sys.dont_write_bytecode:  # the programs compile nightbus once, for all of them
        sys.dont_write_bytecode, sys.pycache_prefix = False, sys.argv[2]
    for module in PRELOADED_OF_NIGHTBUS:
        __import__(f"nightbus.{module}")
    gc.freeze()  # a program that ends would look at all of it, and so copy it
    its_request = serve(socket.socket(fileno=int(sys.argv[1])))
    become(its_request)
    try:
        run(its_request["arguments"])
    except BaseException as error:
        # As Python would show it, without the calls of this file.
        while error.__traceback__ and error.__traceback__.tb_frame.f_code.co_filename == __file__:
            error.__traceback__ = error.__traceback__.tb_next
        raise
