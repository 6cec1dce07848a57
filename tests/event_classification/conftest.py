"""What the tests of event classification share: recordings, made once, and a small model's run."""

import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

# The examples are found from the repository's root, as `python -m examples...` finds them.
sys.path.append(str(Path(__file__).parents[2]))


@pytest.fixture(scope="package", autouse=True)
def _one_thread() -> Iterator[None]:
    """Models here are so small that threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of five recordings for training, one for validation and one for testing."""
    from examples.event_classification.simulate import make_recordings

    root = tmp_path_factory.mktemp("recordings")
    make_recordings(root, recordings=7, workers=0)
    return root


@pytest.fixture
def settings(recordings: Path, tmp_path: Path) -> Callable[..., Namespace]:
    """Hyperparameters of a model that is small and reads few long sequences."""
    from examples.event_classification.hyperparameters import hyperparameters

    small: dict[str, Any] = {
        "dataset_path": str(recordings),
        "root_dir": str(tmp_path),
        "base": 2,
        "cout": 8,
        "batch_size": 3,
        "num_tbins": 25,
        "epochs": 2,
    }

    def changed(**changes: Any) -> Namespace:
        return hyperparameters(**{**small, **changes})

    return changed
