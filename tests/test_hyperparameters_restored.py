"""A module is made again with the hyperparameters it was made with, however they were given."""

import dataclasses
import enum
from argparse import Namespace
from collections.abc import Iterator, MutableMapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from models import Small, loader, trainer

import nightbus as nb


class Mode(enum.Enum):
    FAST = 1


@dataclasses.dataclass
class Inner:
    depth: int = 1


@dataclasses.dataclass
class Conf:
    width: int = 3
    inner: Inner = dataclasses.field(default_factory=Inner)


class Node(MutableMapping[str, Any]):
    """A mapping with attributes, as those of configuration libraries are."""

    def __init__(self, **items: Any) -> None:
        self.__dict__["_items"] = items

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_items"][name]
        except KeyError:
            raise AttributeError(name) from None

    def __getitem__(self, name: str) -> Any:
        return self._items[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._items[name] = value

    def __delitem__(self, name: str) -> None:
        del self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)


class Items(Sequence[Any]):
    """A list in all but its type."""

    def __init__(self, *items: Any) -> None:
        self._items = items

    def __getitem__(self, index: Any) -> Any:
        return self._items[index]

    def __len__(self) -> int:
        return len(self._items)


class Keeps(Small):
    """Keeps all arguments, and what it was made with as it is."""

    def __init__(self, conf: Any, depth: int = 2, **more: Any) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.made_with = conf, depth, more


class KeepsAnnotated(Small):
    def __init__(self, conf: Conf | None, inner: "Inner") -> None:
        super().__init__()
        self.save_hyperparameters()
        self.made_with = conf, inner


class KeepsItems(Small):
    """Keeps a configuration's items."""

    def __init__(self, conf: Any, extra: int = 1) -> None:
        super().__init__()
        self.save_hyperparameters(conf)
        self.conf = conf


class OtherName(KeepsItems):
    def __init__(self, hparams: Any, depth: int = 2) -> None:
        super().__init__(hparams)


class Merges(Small):
    """Keeps a configuration with defaults of its own."""

    def __init__(self, conf: Any) -> None:
        super().__init__()
        conf = {"lr": 0.5, **conf}
        self.save_hyperparameters(conf)
        self.conf = conf


class MergesMore(Merges):
    def __init__(self, conf: Any) -> None:
        super().__init__({"depth": 7, **conf})


def made_again(module: nb.LightningModule, folder: Path) -> Any:
    """The module as its checkpoint makes it."""
    run = trainer(folder)
    run.fit(module, loader(4))
    return type(module).load_from_checkpoint(Path(str(run.log_dir)) / "checkpoints" / "last")


@pytest.mark.parametrize(
    "value",
    [
        Namespace(width=3, inner=Namespace(depth=2)),
        {"a": [1, None, {"b": (1, 2)}]},
        [Namespace(width=3)],
        date(2024, 1, 2),
        Path("a/b"),
        Mode.FAST,
        {"mode": Mode.FAST, "day": date(2024, 1, 2)},
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_argument_comes_back_as_it_was(tmp_path: Path, value: Any) -> None:
    again = made_again(Keeps(value, 5, more=value), tmp_path)

    assert again.made_with == (value, 5, {"more": value})


def test_a_dataclass_comes_back_as_the_class_that_init_is_annotated_with(tmp_path: Path) -> None:
    again = made_again(KeepsAnnotated(Conf(5, Inner(6)), Inner(7)), tmp_path)

    assert again.made_with == (Conf(5, Inner(6)), Inner(7))


def test_a_dataclass_of_which_nothing_says_the_class_has_its_attributes_and_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    again = made_again(Keeps(Conf(5, Inner(6))), tmp_path)

    assert (again.made_with[0].width, again.made_with[0].inner.depth) == (5, 6)
    assert "call nightbus.register_type" in capsys.readouterr().err + caplog.text


def test_mappings_with_attributes_and_lists_of_other_libraries_keep_their_attributes(
    tmp_path: Path,
) -> None:
    conf = Node(model=Node(width=3), layers=Items(Node(size=1), Node(size=2)))

    again = made_again(Keeps(conf), tmp_path).made_with[0]

    assert again.model.width == again["model"]["width"] == 3
    assert [layer.size for layer in again.layers] == [1, 2]


@pytest.mark.parametrize(
    "conf",
    [{"width": 3}, Namespace(width=3), Conf(3), Node(width=3, inner=Node(depth=1))],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("kind", [KeepsItems, OtherName])
def test_a_configuration_whose_items_are_kept_comes_back_under_the_name_it_has_there(
    tmp_path: Path, kind: Any, conf: Any
) -> None:
    again = made_again(kind(conf), tmp_path)

    assert again.hparams.width == 3
    found = again.conf["width"] if isinstance(conf, dict) else again.conf.width
    assert found == 3
    if isinstance(conf, Namespace):
        assert again.conf == conf


def test_what_bases_merged_into_a_configuration_is_kept(tmp_path: Path) -> None:
    again = made_again(MergesMore({"width": 3}), tmp_path)

    assert again.conf == {"lr": 0.5, "depth": 7, "width": 3}


class KeepsItemsOfMany(Small):
    """Keeps a configuration's items, and needs one of the other arguments."""

    def __init__(self, conf: Any, **more: Any) -> None:
        super().__init__()
        assert "scale" in more
        self.save_hyperparameters(conf)
        self.made_with = more


def test_what_a_configuration_does_not_hold_is_handed_over_at_loading(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    run.fit(KeepsItemsOfMany({"width": 3}, scale=2.0), loader(4))
    path = Path(str(run.log_dir)) / "checkpoints" / "last"

    again = KeepsItemsOfMany.load_from_checkpoint(path, scale=5.0)

    assert again.made_with == {"scale": 5.0}
    assert again.hparams.width == 3


class OfOtherArguments(Keeps):
    def __init__(self, width: int, scale: float = 2.0) -> None:
        super().__init__({"width": width * 10})
        self.made_of = width, scale


def test_a_subclass_with_other_arguments_is_made_of_its_own(tmp_path: Path) -> None:
    again = made_again(OfOtherArguments(4, scale=3.0), tmp_path)

    assert again.made_of == (4, 3.0)
    assert again.hparams == {
        "conf": {"width": 40},
        "depth": 2,
        "width": 4,
        "scale": 3.0,
    }


class ByPlace(Small):
    def __init__(self, a: int, /, b: int, *rest: int, key: int = 1, **more: int) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.made_with = a, b, rest, key, more


def test_arguments_by_place_alone_and_star_arguments_come_back(tmp_path: Path) -> None:
    again = made_again(ByPlace(1, 2, 3, 4, key=5, z=6), tmp_path)

    assert again.made_with == (1, 2, (3, 4), 5, {"z": 6})


class Helper(Small):
    def __init__(self, a: int, b: int = 2) -> None:
        super().__init__()
        self.keep()

    def keep(self) -> None:
        self.save_hyperparameters()


class Mixin:
    def __init__(self, m: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.save_hyperparameters()  # type: ignore[attr-defined]


class OfMixin(Mixin, Small):
    def __init__(self, a: int) -> None:
        super().__init__(m=a + 1)


class Names(Small):
    def __init__(self, a: int, b: int) -> None:
        super().__init__()
        self.save_hyperparameters("a")
        self.save_hyperparameters("b")


class Beside(Small):
    def __init__(self, conf: Any, extra: int) -> None:
        super().__init__()
        self.save_hyperparameters(conf, "extra")


class Ignores(Small):
    def __init__(self, arg1: int, arg2: int) -> None:
        super().__init__()
        self.save_hyperparameters(ignore="arg1")


class SubIgnores(Ignores):
    def __init__(self, arg1: int, arg2: int, arg3: int) -> None:
        super().__init__(arg1, arg2)
        self.save_hyperparameters(ignore=["arg2"])


@pytest.mark.parametrize(
    ("make", "kept"),
    [
        (lambda: Helper(1), {"a": 1, "b": 2}),
        (lambda: OfMixin(1), {"m": 2, "a": 1}),
        (lambda: Names(1, 2), {"a": 1, "b": 2}),
        (lambda: Beside({"w": 1}, 2), {"w": 1, "extra": 2}),
        (lambda: SubIgnores(1, 2, 3), {"arg1": 1, "arg3": 3}),
    ],
    ids=[
        "a helper",
        "a mixin",
        "names in two calls",
        "names beside items",
        "ignored by a subclass",
    ],
)
def test_what_is_kept_is_what_lightning_keeps(make: Any, kept: dict[str, Any]) -> None:
    assert make().hparams == kept


def test_a_configuration_and_names_beside_it_come_back(tmp_path: Path) -> None:
    assert made_again(Beside({"w": 1}, 2), tmp_path).hparams == {"w": 1, "extra": 2}


class Adds(KeepsItems):
    def __init__(self, conf: Any, needed: int) -> None:
        super().__init__(conf)


def test_arguments_that_will_be_missing_are_said_before_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(nb.UsageError, match="needed; pass them to load_from_checkpoint"):
        made_again(Adds({"width": 3}, 1), tmp_path)

    said = capsys.readouterr().err + caplog.text
    assert "will need arguments of Adds" in said
    assert "needed" in said


def test_hyperparameters_are_saved_where_there_are_arguments() -> None:
    with pytest.raises(nb.UsageError, match="call it in __init__, or pass it a mapping"):
        Small().save_hyperparameters()


@pytest.mark.parametrize("given", [3, [1], {1}])
def test_what_has_no_items_is_refused(given: Any) -> None:
    with pytest.raises(nb.UsageError, match=r"got .*one mapping, Namespace or dataclass"):
        KeepsItems(given)


class Data(nb.LightningDataModule):
    def __init__(self, conf: Conf, size: int = 4) -> None:
        self.save_hyperparameters()
        self.made_with = conf, size

    def train_dataloader(self) -> Any:
        return loader(self.made_with[1])


def test_a_datamodule_is_made_again_too(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    run.fit(Small(), datamodule=Data(Conf(9), 8))

    again = Data.load_from_checkpoint(Path(str(run.log_dir)) / "checkpoints" / "last")

    assert again.made_with == (Conf(9), 8)


def test_a_name_that_is_no_text_is_reported_like_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Kept(Small):
        def __init__(self, conf: dict[Any, Any]) -> None:
            super().__init__()
            self.save_hyperparameters(conf)

    run = trainer(tmp_path, max_steps=1, limit_val_batches=0)
    run.fit(Kept({1: object(), 2: 2}), loader())

    assert "names=1 " in capsys.readouterr().err
