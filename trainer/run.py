"""Runs fit, validate, test or predict from its arguments to its end, which is always recorded."""

import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from msgspec import structs

from ..actors.arguments import as_plain
from ..actors.process.environment import environment
from ..actors.process.stop_signals import StopSignals
from ..actors.process.torch_settings import torch_settings
from ..actors.ranks.group import nothing_to_check
from ..actors.ranks.last_act import OTHERS_EXIT_CODE
from ..actors.ranks.link import LinkedRun
from ..actors.saving.rank_states import seq_of_rank, seqs_of_gone
from ..bus.errors import RankLostError
from ..bus.events import Ending, Fault, RankStarted
from ..bus.observer import describe
from ..bus.runs.run_folder import RunFolder, RunInfo
from ..bus.system.logging_setup import bind_run
from ..bus.system.own_frames import show_own_frames
from ..bus.system.paths import from_here
from ..bus.system.streams import notify_user
from ..bus.system.terminal_message import write_urgently
from ..loops.running_loss import RunningLoss
from .advice import add_advice, advice_on_folder
from .borrowed import borrowed_module
from .call_arguments import CallArguments
from .functions import tear_down
from .open_run import OpenRun, hyperparameters_of_run
from .parts import TrainerParts
from .resuming import Start, best_of_training, find_start
from .stages import Function
from .state import TrainerStatus


def run(
    trainer: TrainerParts,
    function: Function,
    body: Callable[[dict[str, Any] | None], Any],
    given: CallArguments,
) -> Any:
    """Run ``body`` as one attempt, whose end is always recorded.

    A forked child that gets to the end, for example by an exception, leaves the run alone: it
    continues in the parent, and the child closes, records and reports nothing of it.

    Args:
        trainer: trainer that runs.
        function: function that the user called.
        body: runs the function once the run is open; gets the state of the checkpoint to restore.
        given: arguments of the function.

    Returns:
        The result of ``body``; None if Ctrl-C ended it.

    Raises:
        SystemExit: a signal such as SIGTERM ended the run, or another rank was lost.
    """
    trainer.set_arguments(given)
    state = trainer.state
    state.begin(function)
    ended = TrainerStatus.INTERRUPTED
    show_own_frames(advice_on_folder)
    try:
        with ending_with_others(trainer):
            trainer.join_ranks()
            with _profiled(trainer, function):
                result = _run(trainer, function, body, given)
        if not trainer.interrupted:
            ended = TrainerStatus.FINISHED
        return result
    finally:
        state.status = ended


@contextmanager
def _profiled(trainer: TrainerParts, function: Function) -> Iterator[None]:
    """Have the trainer's profiler measure a function, and show what it found."""
    profiler = trainer.profiler

    def folder() -> Path:
        return Path(trainer.log_dir or trainer.default_root_dir)

    rank = None if trainer.world.is_alone else trainer.local_rank
    profiler.setup(function, rank, folder)
    try:
        yield
    finally:
        profiler.teardown(function)
    profiler.describe()


@contextmanager
def ending_with_others(trainer: TrainerParts) -> Iterator[None]:
    """End this process if another rank has ended, so that this one cannot go on.

    Args:
        trainer: trainer of the ranks.

    Raises:
        SystemExit: another rank has ended.
    """
    try:
        yield
    except RankLostError as error:
        if trainer.group.link is None:  # it would have told the user
            notify_user(f"nightbus: rank {trainer.global_rank} ends: {error}")
        raise SystemExit(OTHERS_EXIT_CODE) from error


def _run(
    trainer: TrainerParts,
    function: Function,
    body: Callable[[dict[str, Any] | None], Any],
    given: CallArguments,
) -> Any:
    module, signals = trainer.lightning_module, trainer.safe_points.signals
    first: BaseException | None = None
    how: Ending = "completed"
    reason = ""
    is_unsaved = False
    with signals, borrowed_module(module):
        try:
            try:
                with _telling_others(trainer):
                    opened, checkpoint = _open(trainer, function, given)
            except BaseException as error:
                how, reason = _how_it_ended(error, signals)
                add_advice(error, trainer.place, "")
                raise
            try:
                with signals.undisturbed():
                    opened.black_box.begin()
                with torch_settings(trainer.deterministic, trainer.detect_anomaly):
                    with _telling_others(trainer):
                        _link(trainer, opened)
                        trainer.safe_points.begin()
                        result = body(checkpoint)
                        _unlink(trainer)
                    opened.bus.check_is_here(f"{function} ended")
                if function == "fit" and (trainer.should_stop or trainer.stop_reason):
                    how, reason = "stopped", trainer.stop_reason or "should_stop was set"
            except BaseException as error:
                if opened.is_left:
                    raise
                how, reason = _how_it_ended(error, signals)
                # Read now: a second signal may also come after the first has saved the run.
                is_unsaved = signals.at_once and trainer.checkpointer.can_save
                _on_exception(trainer, opened, error, how)
                if how != "interrupted" or signals.at_once:
                    raise
                trainer.interrupted = True
                return None
            if signals.preempted:  # after the last safe point
                raise SystemExit(signals.exit_code)
            trainer.interrupted = signals.interrupted
            return result
        except BaseException as error:
            first = error
            raise
        finally:
            # At most one signal raises before signals are held: the run is ended all the same.
            try:
                signals.hold(trainer.bus.hurry)
            finally:
                _end(trainer, first, how, reason, is_unsaved)


def _end(
    trainer: TrainerParts,
    first: BaseException | None,
    how: Ending,
    reason: str,
    is_unsaved: bool,
) -> None:
    """Close the run; an error meanwhile is added to the first as a note.

    The module stays attached to the trainer of its last run, unless that lies within another run,
    which gets it back. A forked child leaves the run to its parent.
    """
    opened = trainer.open_run
    try:
        if opened is not None:
            opened.black_box.end()
    finally:
        if opened is not None and opened.is_left:
            trainer.open_run = None
        elif opened is not None:
            try:
                _close(trainer, opened, how, reason, is_unsaved)
            except Exception as second:
                if first is None:
                    raise
                _add_note(first, second)
        trainer.enrolment.borrowed.give_back()


@contextmanager
def _telling_others(trainer: TrainerParts) -> Iterator[None]:
    """Tell the other ranks of an exception, or raise RankLostError if it came from them."""
    signals = trainer.safe_points.signals
    try:
        yield
    except RankLostError:
        raise
    except BaseException as error:
        agreed = trainer.safe_points.has_agreed_to_end and not signals.at_once
        if agreed and isinstance(error, SystemExit | KeyboardInterrupt):  # all ranks end here
            _unlink(trainer)
            raise
        lost = trainer.group.lost(error)
        if lost is None or isinstance(error, KeyboardInterrupt):  # Ctrl-C ends each by itself
            raise
        raise lost from error


def _link(trainer: TrainerParts, opened: OpenRun) -> None:
    """Have the link to the other ranks know of this run."""
    link, world = trainer.group.link, trainer.world
    if link is None:
        return
    trainer.bus.emit(
        RankStarted,
        world.size,
        world.local_rank,
        world.node_rank,
        platform.node(),
        os.getpid(),
        str(trainer.device.device),
        world.restart,
        source="ranks",
    )
    bus = trainer.bus
    link.begin_run(
        LinkedRun(
            trainer.place,
            lambda: trainer.paused,
            bus.emit,
            lambda reason: _end_by_force(trainer, opened, reason),
            opened.black_box.hang,
            trainer.hang_timeout,
            lambda: trainer.group.met,
        )
    )


def _end_by_force(trainer: TrainerParts, opened: OpenRun, reason: str) -> None:
    """Write the run's end, because another rank is lost and the training thread waits for it.

    The progress bar does not come to it any more, so rank 0 says where the run is.
    """
    trainer.bus.write_last("failed", reason)
    run = trainer.run_folder
    if run is None or trainer.progress_bar is None or not trainer.is_global_zero:
        return
    steps, saved = trainer.global_step, trainer.checkpointer.last_path
    told = f"{opened.function} failed after {steps} steps; run: {from_here(run.path)}"
    write_urgently(told if saved is None else f"{told}; saved last: {from_here(saved)}")


def _unlink(trainer: TrainerParts) -> None:
    """Wait until all ranks have come to the last safe point of this run."""
    link = trainer.group.link
    if link is not None:
        link.end_run()
        trainer.safe_points.share_signals()
        trainer.group.wait_for_all("the end of the run")


def _how_it_ended(error: BaseException, signals: StopSignals) -> tuple[Ending, str]:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", "Ctrl-C"
    if isinstance(error, SystemExit) and signals.preempted:
        return "preempted", signals.preempted_by.name
    return "failed", f"{describe(error)[0]}: {error}"


def _open(
    trainer: TrainerParts, function: Function, given: CallArguments
) -> tuple[OpenRun, dict[str, Any] | None]:
    """Create or find the run's folder, begin an attempt, and start the bus.

    Returns:
        The open run, and the state of the checkpoint to restore, if any.
    """
    module = trainer.lightning_module
    start = _agree_on_start(trainer, function, given)
    if function == "fit":
        trainer.checkpointer.begin(start.fork, start.state)
    fork = start.fork
    if fork is not None and start.state is not None:
        fork = structs.replace(fork, gone=seqs_of_gone(start.state, trainer.world_size))
    opened = OpenRun(trainer, trainer.for_loggers, function, fork)
    trainer.enter_run(opened)
    trainer.metrics.begin(trainer.bus, module)
    trainer.running_loss = RunningLoss(trainer.metrics) if trainer.progress_bar else None
    trainer.wiring.forget_hooks_of_loops()
    try:
        observers = trainer.enrolment.enrol_everyone(function)
        if observers or opened.records:
            opened.open_log()
    except BaseException:
        trainer.open_run = None
        opened.release()
        raise
    _begin_to_show(trainer)
    opened.start(trainer.config, observers)
    return opened, start.state


def _begin_to_show(trainer: TrainerParts) -> None:
    """Print where the run is; the bar then says which hook it begins with."""
    bar, place, run = trainer.progress_bar, trainer.place, trainer.run_folder
    if bar is None:
        return
    bar.running_hook, bar.is_run_told = lambda: place.hook, False
    bar.known_metrics = lambda: list(trainer.metrics.in_progress_bar)
    if run is not None:
        notify_user(f"run: {from_here(run.path)}")


def _agree_on_start(trainer: TrainerParts, function: Function, given: CallArguments) -> Start:
    """Have rank 0 choose the checkpoint to start from and the run's folder; all ranks take both."""
    begun: list[Start] = []

    def choose() -> tuple[str | None, str | None]:
        start = _find_start(trainer, function, given)
        begun.append(start)
        if start.run is not None:
            trainer.run_folder = start.run
        elif trainer.run_folder is None and _needs_folder(trainer):
            trainer.run_folder = RunFolder.create(
                _root(trainer), _name(trainer), _said(trainer, start)
            )
        folder = trainer.run_folder
        return (
            None if start.path is None else str(start.path),
            None if folder is None else str(folder.path.absolute()),
        )

    path, folder = trainer.group.decide("the run and its start", choose)
    trainer.note_checkpoint(function, path)
    if begun:
        return begun[0]
    if folder is not None and (
        trainer.run_folder is None or str(trainer.run_folder.path) != folder
    ):
        trainer.run_folder = RunFolder.open(folder)
    if path is None:
        return Start()
    found = find_start(function, path, _root(trainer), "", [])
    if found.fork is None or found.state is None:
        return found
    seq = seq_of_rank(trainer.global_rank, found.state)
    return found._replace(fork=structs.replace(found.fork, seq=seq))


def _find_start(trainer: TrainerParts, function: Function, given: CallArguments) -> Start:
    ckpt_path, callbacks = given.ckpt_path, trainer.checkpoint_callbacks
    if ckpt_path is None and given.model is None and function != "fit" and trainer.global_step:
        ckpt_path = best_of_training(function, callbacks, trainer.fast_dev_run)
    if ckpt_path is None:
        return Start()
    best = [e.best_model_path for e in callbacks if hasattr(e, "best_model_path")]
    return find_start(function, ckpt_path, _root(trainer), _name(trainer), best)


def _root(trainer: TrainerParts) -> Path:
    root = trainer.default_root_dir / "runs"
    return root if trainer.group.world.is_alone else root.absolute()  # the same on all ranks


def _name(trainer: TrainerParts) -> str:
    return trainer.run_name or type(trainer.lightning_module).__name__


def _said(trainer: TrainerParts, start: Start) -> RunInfo:
    """Return what run.json says besides the run's id."""
    parent = "" if start.state is None else str(start.state.get("run") or "")
    config = {name: trainer.config[name] for name in trainer.changed_arguments}
    found = {name: value for own in hyperparameters_of_run(trainer) for name, value in own.items()}
    return structs.replace(
        trainer.noted,
        config=config,
        environment=environment(),
        hparams=as_plain(found),
        parent=parent,
    )


def _needs_folder(trainer: TrainerParts) -> bool:
    """Return whether the run writes into its folder: a log, checkpoints, or files of sinks."""
    return (
        trainer.recording != "off"
        or trainer.enable_checkpointing
        or any(sink.needs_run_folder for sink in trainer.sinks)
    )


def _on_exception(
    trainer: TrainerParts, opened: OpenRun, error: BaseException, how: Ending
) -> None:
    """Record the exception as a fault, call ``on_exception``, and tear down.

    Exceptions of these are recorded as faults too, and added to the first as notes.
    """
    hook = trainer.place.hook
    trainer.place.move()  # an interrupt may have come between a move and its recording
    trainer.optimization.toggle.end()

    if how == "failed":
        try:
            add_advice(error, trainer.place, hook)
            trainer.bus.emit(Fault, *describe(error), hook, source="module")
            if isinstance(error, Exception):
                opened.black_box.crash(error)
        except Exception as second:  # such as no memory: the user has to see the first
            _add_note(error, second)
    for step in (
        lambda: trainer.routes.call("on_exception", error),
        lambda: tear_down(trainer, opened.function),
    ):
        trainer.safe_points.signals.rearm()
        try:
            step()
        except Exception as second:
            trainer.bus.emit(Fault, *describe(second), trainer.place.hook, source="trainer")
            _add_note(error, second)
    if how == "failed" and not isinstance(error, RankLostError):
        _say_where_in(error, trainer)


def _say_where_in(error: BaseException, trainer: TrainerParts) -> None:
    """Have the last line of the error's traceback say where the run is."""
    run, bar = trainer.run_folder, trainer.progress_bar
    if run is not None and bar is not None:
        error.add_note(f"run: {from_here(run.path)}")
        bar.is_run_told = True


def _add_note(error: BaseException, second: Exception) -> None:
    error.add_note(f"while ending the run: {type(second).__name__}: {second}")


def _close(
    trainer: TrainerParts, opened: OpenRun, how: Ending, reason: str, is_unsaved: bool
) -> None:
    """Record the end, let sinks finish, and report what went wrong."""
    trainer.is_training_under_way = False
    trainer.group.before_exchange = nothing_to_check
    trainer.safe_points.end()
    trainer.checkpointer.close()
    trainer.place.move(epoch=trainer.current_epoch, batch_idx=-1)
    try:
        unfinished = opened.close(how, reason)
    finally:
        trainer.open_run = None
        trainer.place.move(stage="")
        bind_run("", None)
    opened.report(unfinished)
    if how == "completed":
        opened.report_missed_names()
    if is_unsaved and trainer.is_global_zero:
        _report_unsaved(trainer.checkpointer.last_path)
    signals = trainer.safe_points.signals
    if signals.terminated_while_ending:
        raise SystemExit(signals.exit_code)
    if signals.interrupts_while_ending:  # it ended the wait for sinks; the run itself was over
        trainer.interrupted = True
    if signals.interrupts_while_ending > 1:
        raise KeyboardInterrupt


def _report_unsaved(saved_last: Path | None) -> None:
    """Report what is saved of a run that a second signal ended in the middle of a step."""
    what = "it has no checkpoint"
    if saved_last is not None:
        what = f'ckpt_path="last" resumes from {saved_last.name}; later steps are not saved'
    notify_user(f"nightbus: the run ended at once: {what}")
