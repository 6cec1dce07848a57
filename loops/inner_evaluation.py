"""Lightning's EvaluationLoop of 2.x, which is made with a trainer."""

from typing import Any

from ..bus.errors import UsageError
from .evaluation import EvaluationLoop


class InnerEvaluationLoop(EvaluationLoop):
    """An EvaluationLoop for packages that derive one, such as to print results in another form.

    It is private in Lightning, and made there with what it asks the Trainer for here.

    Args:
        trainer: the trainer that it is assigned to.
        trainer_fn: not needed.
        stage: validate or test.
        verbose: print the results of ``validate`` or ``test``, if those are called with
            ``verbose``, too.
        inference_mode: as the Trainer's argument.

    Raises:
        UsageError: inference_mode is not that of the trainer.
    """

    def __init__(
        self,
        trainer: Any,
        trainer_fn: Any,
        stage: Any,
        verbose: bool = True,
        inference_mode: bool = True,
    ) -> None:
        super().__init__("test" if stage == "test" else "validate")
        self.verbose = verbose
        if inference_mode != trainer.inference_mode:
            raise UsageError(
                f"inference_mode={inference_mode!r} of a loop: its trainer has "
                f"{trainer.inference_mode!r}; give it to the Trainer"
            )

    def print_results(self, results: Any) -> None:
        """Print results, unless ``verbose`` is False.

        Args:
            results: metrics of each dataloader by name.
        """
        if self.verbose:
            super().print_results(results)
