"""Fits the arguments of a hook to users' overrides, which come from several generations."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from inspect import Parameter
from typing import Any

from ..bus.errors import UsageError

_NO_VALUES: Mapping[str, Any] = {}
# Arguments that overrides in an older style may have, after those that a hook has now.
FORMER_ARGUMENTS: dict[str, dict[str, Any]] = {
    "on_train_batch_start": {"dataloader_idx": 0},
    "on_train_batch_end": {"dataloader_idx": 0},
    "optimizer_step": {"on_tpu": False, "using_native_amp": False, "using_lbfgs": False},
}
# Arguments that newer overrides leave out although they take later ones.
_LEFT_OUT = "optimizer_idx"
# Arguments that ``*args`` and ``**kwargs`` get only if there are several: a step may pass them on
# to one that was written for a single optimizer or dataloader.
_NUMBERS = ("optimizer_idx", "dataloader_idx")
_ALWAYS_NUMBERED = (
    "on_before_batch_transfer",
    "transfer_batch_to_device",
    "on_after_batch_transfer",
)
# Arguments that they never get, because the function they are passed on to rarely takes them.
_ONLY_BY_NAME = {
    "backward": ("optimizer", "optimizer_idx"),
    "on_train_epoch_end": ("outputs",),
}
# Hooks whose arguments are passed by name, also to ``**kwargs`` where there are ``*args``.
_BY_NAME = ("setup", "teardown")
_OF_BATCHES = ("training_step", "validation_step", "test_step", "predict_step")
_POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


def parameters_of(method: Callable[..., Any]) -> list[Parameter]:
    """Return a callable's parameters; if it passes ``*args`` on to what it wraps, those of that.

    Args:
        method: any callable; one without a signature takes anything.
    """
    try:
        own = list(inspect.signature(method, follow_wrapped=False).parameters.values())
        if hasattr(method, "__wrapped__") and any(p.kind is p.VAR_POSITIONAL for p in own):
            return list(inspect.signature(method).parameters.values())
    except ValueError:  # built-in functions
        return [Parameter("args", Parameter.VAR_POSITIONAL)]
    return own


def there_are_several(argument: str) -> bool:
    """Assume that there are several optimizers or dataloaders, where it is not known."""
    return True


class _Fitting:
    """Finds the value of each parameter of a hook method.

    Attributes:
        positional: indices of the values passed by position, in order.
        by_name: parameter -> index of the value passed by name.
        rest: indices of the values for ``*args``, with the argument's name if that depends on
            whether there are several.
        rest_by_name: the same for ``**kwargs``.
    """

    def __init__(
        self, method: Callable[..., Any], name: str, arguments: Sequence[str], former: Sequence[str]
    ) -> None:
        self._method, self._hook, self._arguments = method, name, arguments
        self._former = list(former)
        self._free: list[str] = []
        self.positional: list[int] = []
        self.by_name: dict[str, int] = {}
        self.rest: list[tuple[int, str]] = []
        self.rest_by_name: list[tuple[int, str]] = []

    def fit(self, parameters: Sequence[Parameter], leading: int) -> None:
        """Find the values for these parameters, the first of which are given already."""
        own = [p for p in parameters if p.kind in _POSITIONAL][leading:]
        kinds = {p.kind for p in parameters}
        named = {p.name for p in parameters}
        self._free = [entry for entry in self._arguments if entry not in named]
        takes_any = Parameter.VAR_POSITIONAL in kinds
        if _LEFT_OUT in self._free and len(own) < len(self._arguments) and not takes_any:
            self._free.remove(_LEFT_OUT)
        has_gap = False
        for parameter in own:
            place = self._place_of(parameter)
            if place is None:
                has_gap = True
            elif has_gap or self._is_told_by_name(parameter):
                self.by_name[parameter.name] = place
            else:
                self.positional.append(place)
        for parameter in parameters:
            if parameter.kind is parameter.KEYWORD_ONLY:
                place = self._place_by_name(parameter)
                if place is not None:
                    self.by_name[parameter.name] = place
                elif parameter.default is parameter.empty:
                    raise UsageError(self._asks_for_more(parameter.name))
        by_name = Parameter.VAR_KEYWORD in kinds and self._hook in _BY_NAME
        if takes_any and not by_name:
            if not has_gap:
                behind = max((p for p in self.positional if p < len(self._arguments)), default=-1)
                self.rest = self._left(behind)
        elif by_name or (
            Parameter.VAR_KEYWORD in kinds and not (own and self._hook in _OF_BATCHES)
        ):
            self.rest_by_name = self._left(-1)

    def _is_told_by_name(self, parameter: Parameter) -> bool:
        """Return whether a parameter gets its value by name, as a decorator may expect."""
        can_be = parameter.kind is Parameter.POSITIONAL_OR_KEYWORD
        return can_be and self._hook in _BY_NAME and parameter.name in self._arguments

    def _place_by_name(self, parameter: Parameter) -> int | None:
        if parameter.name in self._arguments:
            return self._arguments.index(parameter.name)
        if parameter.name in self._former:
            return len(self._arguments) + self._former.index(parameter.name)
        return None

    def _place_of(self, parameter: Parameter) -> int | None:
        """Return the index of a parameter's value; None for one that keeps its default."""
        place = self._place_by_name(parameter)
        has_default = parameter.default is not parameter.empty
        if place is not None:
            return place
        if self._free and not (has_default and self._hook.endswith("_step")):
            return self._arguments.index(self._free.pop(0))
        if has_default:
            return None
        taken = {*self.positional, *self.by_name.values()}
        former = range(len(self._arguments), len(self._arguments) + len(self._former))
        for place in former:
            if place not in taken:
                return place
        raise UsageError(self._asks_for_more(parameter.name))

    def _left(self, behind: int) -> list[tuple[int, str]]:
        """Return indices of the arguments without a parameter, which are passed on."""
        taken = {*self.positional, *self.by_name.values()}
        left = []
        for place, argument in enumerate(self._arguments):
            is_number = argument in _NUMBERS and self._hook not in _ALWAYS_NUMBERED
            if (
                place > behind
                and place not in taken
                and argument not in _ONLY_BY_NAME.get(self._hook, ())
            ):
                left.append((place, argument if is_number else ""))
        return left

    def _asks_for_more(self, parameter: str) -> str:
        has = ", ".join(self._arguments) or "none"
        advice = ""
        if self._hook == "training_step" and parameter == "optimizer_idx":
            advice = "; optimizer_idx is passed if configure_optimizers returns several optimizers"
        if self._hook == "training_step" and parameter == "hiddens":
            advice = "; hiddens is passed if truncated_bptt_steps is set on the module"
        if parameter == "outputs" and self._hook.endswith("_epoch_end"):
            step = self._hook.removeprefix("on_").replace("epoch_end", "step")
            advice = f"; keep them in {step}, in a list of your own"
        return (
            f"{getattr(self._method, '__qualname__', self._hook)} asks for {parameter!r}, which "
            f"the hook {self._hook} does not have; its arguments: {has}{advice}"
        )


def fitted(
    method: Callable[..., Any],
    name: str,
    arguments: Sequence[str],
    leading: int = 0,
    several: Callable[[str], bool] = there_are_several,
    former: Mapping[str, Any] = _NO_VALUES,
) -> Callable[..., Any]:
    """Return a hook method as a callable of the hook's arguments.

    Parameters are matched by name, others by position among the rest; an override may take fewer
    arguments than the hook has. ``*args`` gets the arguments after the last one matched by
    position, ``**kwargs`` the rest if there is no ``*args``.

    Args:
        method: the bound method, or any callable.
        name: the hook.
        arguments: names of the hook's arguments, in order.
        leading: number of arguments before them: the trainer and the module.
        several: called each time to decide whether ``*args`` get ``optimizer_idx``,
            ``dataloader_idx``.
        former: values of those FORMER_ARGUMENTS that are known here.

    Returns:
        A callable of the hook's arguments by position.

    Raises:
        UsageError: the override has a parameter that the hook has no argument for.
    """
    if not callable(method):
        raise UsageError(
            f"{name} is {type(method).__name__}, which cannot be called; expected a method, or None"
        )
    parameters = parameters_of(method)
    constants = {**FORMER_ARGUMENTS.get(name, {})}
    constants |= {key: value for key, value in former.items() if key in constants}
    fitting = _Fitting(method, name, arguments, list(constants))
    fitting.fit(parameters, leading)
    behind = tuple(constants.values())
    places = [leading + place for place in fitting.positional]
    count = leading + len(arguments)
    is_whole = places == list(range(leading, count)) and not fitting.rest
    by_name, rest, rest_by_name = fitting.by_name, fitting.rest, fitting.rest_by_name
    if not by_name and not rest_by_name:
        if is_whole or (
            all(not argument for _, argument in rest)
            and [*fitting.positional, *(place for place, _ in rest)] == list(range(len(arguments)))
        ):
            return method
        if not rest:

            def call(*values: Any) -> Any:
                values += behind
                return method(*values[:leading], *[values[place] for place in places])

            return call

    def call_with_rest(*values: Any) -> Any:
        values += behind
        handed_on = [
            values[leading + place] for place, number in rest if not number or several(number)
        ]
        named = {key: values[leading + place] for key, place in by_name.items()}
        for place, number in rest_by_name:
            if not number or several(number):
                named[arguments[place]] = values[leading + place]
        return method(*values[:leading], *[values[p] for p in places], *handed_on, **named)

    return call_with_rest
