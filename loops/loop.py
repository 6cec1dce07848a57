"""Loop: the base of all loops."""

import inspect
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from ..actors.optimization.progress import Progress
from ..bus.actor import Actor, actor_name
from ..bus.errors import NotAttachedError, UsageError
from ..bus.events import Pause, Resume, SaveCheckpoint, Stop
from ..bus.subscription import on

if TYPE_CHECKING:
    from ..actors.trainer_type import Trainer
    from .context import LoopContext


class _NoTrainerYet:
    """Raises an error about a missing trainer; an instance's own attribute hides it."""

    def __get__(self, loop: object, owner: type) -> Any:
        raise NotAttachedError(
            f"{owner.__name__} belongs to no trainer yet; assign it (trainer.fit_loop = MyLoop()) "
            "and use its trainer only during a run"
        )


class _ItsTrainer:
    """A loop's trainer, for the loops of users; those built in know it as a LoopContext."""

    def __get__(self, loop: Any, owner: Any) -> Any:
        return owner._loop_context if loop is None else loop._loop_context

    def __set__(self, loop: Any, trainer: Any) -> None:
        loop._loop_context = trainer


class Loop(Actor):
    """Repeats iterations until it is done; an actor with a name and commands.

    Override ``done`` and ``advance``. Attributes that are loops are its children: they get the
    trainer, and their state is saved with its own, by attribute name. It takes the commands Stop,
    Pause, Resume and SaveCheckpoint, and those of its own methods with ``@on``.

    ``run`` is::

        if self.skip:
            return self.on_skip()
        self.reset()
        self.on_run_start(*args)
        while not self.done:
            self.on_advance_start(*args)
            self.advance(*args)          # StopIteration ends the loop
            self.on_advance_end()
            # Safe point: events are written, commands are taken, Ctrl-C takes effect;
            # trainer.should_stop ends the loop, after min_epochs and min_steps.
        return self.on_run_end()
    """

    _of_run: ClassVar[tuple[str, ...]] = ("_loop_context",)
    if TYPE_CHECKING:
        trainer: Trainer
        _loop_context: LoopContext
    else:
        trainer = _ItsTrainer()
        _loop_context = _NoTrainerYet()
    restarting: bool = False
    safe_points: bool = True
    """Whether the end of an iteration is a safe point: set it to False in a loop that runs while a
    batch is being worked on."""
    shows_iterations: bool = True
    """Whether the progress bar shows how far it is; a loop without safe points is never shown."""
    expected_iterations: int | None = None
    """How many iterations the next run of it takes, if it knows."""

    # -- what users define -------------------------------------------------------------------

    @property
    def done(self) -> bool:
        """True if the loop has to end."""
        raise UsageError(f"{type(self).__name__} must define the property done")

    @property
    def skip(self) -> bool:
        """True if the loop has nothing to run."""
        return False

    def reset(self) -> None:
        """Prepare for a new run, or with ``self.restarting`` to continue a restored one."""

    def on_skip(self) -> Any:
        """Return the result of ``run`` if it is skipped."""

    def on_run_start(self, *args: Any, **kwargs: Any) -> None:
        """Called before the first iteration.

        Args:
            args: of ``run``.
            kwargs: of ``run``.
        """

    def on_advance_start(self, *args: Any, **kwargs: Any) -> None:
        """Called before each iteration.

        Args:
            args: of ``run``.
            kwargs: of ``run``.
        """

    def advance(self, *args: Any, **kwargs: Any) -> None:
        """Run one iteration; raise StopIteration to end the loop.

        Args:
            args: of ``run``.
            kwargs: of ``run``.

        Raises:
            UsageError: a subclass does not define it.
        """
        raise UsageError(f"{type(self).__name__} must define advance()")

    def on_advance_end(self) -> None:
        """Called after each iteration."""

    def on_run_end(self) -> Any:
        """Called after the last iteration; returns the result of ``run``."""

    def teardown(self) -> None:
        """Clean up when the run ends, however it ends."""

    # -- running -----------------------------------------------------------------------------

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Run to the end; see the class.

        Args:
            args: passed to ``on_run_start``, ``on_advance_start`` and ``advance``.
            kwargs: as args.

        Returns:
            What ``on_run_end`` returns, or ``on_skip``.
        """
        if self.skip:
            return self.on_skip()
        self.reset()
        self.restarting = False
        self.on_run_start(*args, **kwargs)
        if not (self.safe_points and self.shows_iterations):
            self._iterate(None, *args, **kwargs)
            return self.on_run_end()
        shown = _Shown(self._loop_context, actor_name(self))
        self._loop_context.announce_loop(shown.name, self.expected_iterations, "iteration")
        try:
            self._iterate(shown, *args, **kwargs)
        finally:
            self._loop_context.announce_loop_end(shown.name, shown.completed)
        return self.on_run_end()

    def _iterate(self, shown: "_Shown | None", *args: Any, **kwargs: Any) -> None:
        context = self._loop_context if self.safe_points else None
        while not self.done:
            try:
                if self._go_fast():
                    continue
                self.on_advance_start(*args, **kwargs)
                self.advance(*args, **kwargs)
                self.on_advance_end()
            except StopIteration:
                break
            if shown is not None:
                shown.advance()
            if context is not None:
                context.safe_point()
                if context.stops.any and context.may_stop:
                    break

    def _go_fast(self) -> bool:
        """Run iterations on the fast path, including safe points; return whether there were any.

        See ``fast/`` for the built-in loops that have one.
        """
        return False

    def hook(self, name: str, *values: Any) -> Any:
        """Run a hook: one of nightbus, or one of this loop's own.

        It is recorded, and handled by the methods of that name: of callbacks, called with the
        trainer, the module and the values, of the module, called with the values, and by actors
        that subscribe with ``@on(name)``, which find the values in ``hook.values``.

        Args:
            name: the hook; ``on_...`` if it is the loop's own.
            values: arguments of its handlers.

        Returns:
            The last result of a handler that is not None.

        Raises:
            UsageError: the name cannot be a hook's.
        """
        return self._loop_context.wiring.call_hook_of_loop(name, *values)

    # -- the tree ----------------------------------------------------------------------------

    def attach(self, trainer: Any) -> None:
        """Set the trainer of this loop and all below it, when a run begins."""
        self._loop_context = trainer
        for _, child in self.children():
            child.attach(trainer)

    def children(self) -> Iterator[tuple[str, "Loop"]]:
        """Yield child loops by attribute name."""
        for name, value in vars(self).items():
            if isinstance(value, Loop):
                yield name, value

    def walk(self) -> Iterator["Loop"]:
        """Yield this loop and all below it."""
        yield self
        for _, child in self.children():
            yield from child.walk()

    def connect(self, *in_order: "Loop", **loops: "Loop") -> None:
        """Replace children by other loops.

        Args:
            in_order: for the first children, in the order in which the loop defines them.
            loops: by the child's name; a new name becomes a child.

        Raises:
            UsageError: there are fewer children, or an argument is not a loop.
        """
        names = [name for name, _ in self.children()]
        if len(in_order) > len(names):
            raise UsageError(
                f"{type(self).__name__} has {len(names)} child loops ({', '.join(names)}), "
                f"{len(in_order)} were given; connect others by name: connect(name=loop)"
            )
        for name, loop in {**dict(zip(names, in_order, strict=False)), **loops}.items():
            self._adopt(name, loop)

    def _adopt(self, name: str, loop: "Loop") -> None:
        if not isinstance(loop, Loop):
            raise UsageError(f"connect({name}=...) expects a loop, not {type(loop).__name__}")
        former = getattr(self, name, None)
        setattr(self, name, loop)
        if "_loop_context" in self.__dict__:
            loop.attach(self._loop_context)
            self._loop_context.loop_connected(loop, former if isinstance(former, Loop) else None)

    def replace(self, **loops: "Loop | type[Loop]") -> None:
        """Replace children by instances, or by classes that are created like the old ones.

        The grandchildren move to the new loop where it has none of its own.

        Raises:
            UsageError: there is no child of that name, or a class's ``__init__`` differs.
        """
        for name, new in loops.items():
            old = self._check_child(name)
            loop = new if isinstance(new, Loop) else _built_like(old, new)
            for child_name, child in old.children():
                if getattr(loop, child_name, None) is None or not isinstance(new, Loop):
                    setattr(loop, child_name, child)
            self._adopt(name, loop)

    def _check_child(self, name: str) -> "Loop":
        child = getattr(self, name, None)
        if not isinstance(child, Loop):
            known = ", ".join(child_name for child_name, _ in self.children()) or "none"
            raise UsageError(f"{type(self).__name__} has no child loop {name!r}; it has {known}")
        return child

    # -- commands ----------------------------------------------------------------------------

    @on(Stop)
    def _on_stop(self, command: Stop) -> str:
        """End at this safe point, after min_epochs and min_steps."""
        context = self._loop_context
        context.stops.add("should_stop", "")
        context.stop_reason = command.reason or "a Stop command"
        context.paused = False
        return "stopping"

    @on(Pause)
    def _on_pause(self, _: Pause) -> str:
        """Hold here until Resume or Stop."""
        self._loop_context.paused = True
        return "paused"

    @on(Resume)
    def _on_resume(self, _: Resume) -> str:
        """Continue."""
        self._loop_context.paused = False
        return "running"

    @on(SaveCheckpoint)
    def _on_save(self, _: SaveCheckpoint) -> str:
        """Save the run at this safe point; the reply comes once it is complete on disk."""
        return str(self._loop_context.checkpointer.save_now())

    # -- state -------------------------------------------------------------------------------

    def on_save_checkpoint(self) -> dict[str, Any]:
        """Return this loop's own state: plain data and tensors."""
        return {}

    def on_load_checkpoint(self, state_dict: Mapping[str, Any]) -> None:
        """Restore what ``on_save_checkpoint`` returned."""

    def state_dict(self) -> dict[str, Any]:
        """Return own state, progress and children, by attribute name."""
        state: dict[str, Any] = {"state": self.on_save_checkpoint()}
        for name, value in vars(self).items():
            if isinstance(value, Progress | Loop):
                state[name] = value.state_dict()
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore a state; the next run of the loop continues from there.

        Raises:
            UsageError: it is no state that ``state_dict`` returned.
        """
        if "state" not in state_dict:
            raise UsageError(
                f"{type(self).__name__}.load_state_dict() got a state that no loop of nightbus "
                f"returned: {', '.join(map(str, state_dict)) or 'nothing'}; to resume a run, call "
                "trainer.fit(..., ckpt_path=...)"
            )
        for name, value in vars(self).items():
            if isinstance(value, Progress | Loop) and name in state_dict:
                value.load_state_dict(state_dict[name])
        self.on_load_checkpoint(state_dict["state"])
        self.restarting = True


class _Shown:
    """Records the position of a loop, with an event for each iteration.

    Args:
        context: the loop's.
        name: the loop's.

    Attributes:
        completed: iterations.
    """

    def __init__(self, context: "LoopContext", name: str) -> None:
        self._context, self.name = context, name
        self.completed = 0

    def advance(self) -> None:
        """Record one more iteration."""
        self.completed += 1
        self._context.announce_iteration(self.name, self.completed)


def _built_like(old: Loop, new: type[Loop]) -> Loop:
    wanted = list(inspect.signature(type(old).__init__).parameters)[1:]
    offered = list(inspect.signature(new.__init__).parameters)[1:]
    if wanted != offered:
        raise UsageError(
            f"{new.__name__}.__init__({', '.join(offered)}) has other parameters than "
            f"{type(old).__name__}.__init__({', '.join(wanted)}); pass an instance instead"
        )
    return new(**{name: getattr(old, name) for name in wanted})
