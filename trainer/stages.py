"""The functions of a trainer, and the stage that each begins in."""

from typing import Literal, get_args

from ..bus.events import Stage

Function = Literal["fit", "validate", "test", "predict"]
FUNCTIONS: tuple[Function, ...] = get_args(Function)
STAGE_OF: dict[Function, Stage] = {
    "fit": "train",
    "validate": "validate",
    "test": "test",
    "predict": "predict",
}
