"""TestTubeLogger: what Lightning 1.x had for test-tube, as event files for TensorBoard."""

import os
import warnings

from .tensorboard_logger import TensorBoardLogger


class TestTubeLogger(TensorBoardLogger):
    """Writes what test-tube wrote for TensorBoard: event files in ``save_dir/name/version_N/tf``.

    The library test-tube is no longer kept, and is not needed. Its ``metrics.csv`` is that of the
    sink ``CSV``, and its tags are in ``hparams.yaml``.

    Args:
        save_dir: folder of the experiments.
        name: name of the experiment, a folder in ``save_dir``.
        description: without effect, which a warning says.
        debug: without effect, which a warning says.
        version: number of the version; the next free one if None.
        create_git_tag: without effect, which a warning says: each run has its commit.
        log_graph: write the graph of the module's operations.
        prefix: stands before each metric's name.
    """

    __test__ = False  # its name begins as that of a class of tests

    def __init__(
        self,
        save_dir: str | os.PathLike[str],
        name: str = "default",
        description: str | None = None,
        debug: bool = False,
        version: int | None = None,
        create_git_tag: bool = False,
        log_graph: bool = False,
        prefix: str = "",
    ) -> None:
        given = {"description": description, "debug": debug, "create_git_tag": create_git_tag}
        if unused := [name for name, value in given.items() if value]:
            warnings.warn(
                f"TestTubeLogger: {', '.join(unused)} without effect; a run has notes= and the "
                "commit of its code",
                UserWarning,
                2,
            )
        super().__init__(save_dir, name, version, log_graph, False, prefix, sub_dir="tf")
