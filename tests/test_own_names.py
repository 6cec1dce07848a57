"""Names in classes of users: what is theirs stays theirs, what cannot be is said."""

from pathlib import Path
from typing import Any

import pytest
from models import Small, loader, trainer

import nightbus as nb

OF_LIGHTNING = {"_hparams", "_trainer"}  # so called there too


class Data(nb.LightningDataModule):
    def train_dataloader(self) -> Any:
        return loader()


class Steps(nb.Sink):
    def write(self, batch: list[nb.Put]) -> None: ...


class Watches(nb.Actor):
    @nb.on(nb.Put)
    async def watch(self, put: nb.Put) -> None: ...


def test_what_a_run_sets_on_objects_of_users_has_names_that_nobody_uses(tmp_path: Path) -> None:
    objects: list[Any] = [Small(), Data(), Steps(), Watches(), nb.Callback()]
    before = [set(vars(each)) for each in objects]
    module, data, sink, actor, callback = objects

    trainer(tmp_path, sinks=[sink], actors=[actor], callbacks=[callback]).fit(module, data)

    new = set[str]()
    for each, names in zip(objects, before, strict=True):
        new |= vars(each).keys() - names
    private = {name for name in new if name.startswith("_")}
    assert "_nightbus_address" in private
    assert {name for name in private if not name.startswith("_nightbus_")} == OF_LIGHTNING


def test_a_module_may_have_a_context_and_an_address_of_its_own(tmp_path: Path) -> None:
    class Chats(Small):
        def __init__(self) -> None:
            super().__init__()
            self._context = ["hello"]
            self._address = 7

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self._context = [*self._context, "again"]
            self.put("length", len(self._context))
            return super().training_step(batch, batch_idx)

    module = Chats()
    run = trainer(tmp_path)

    run.fit(module, loader())

    assert (module._address, len(module._context)) == (7, 1 + run.global_step)
    assert run.callback_metrics["length"] == len(module._context)


def test_a_sink_may_call_its_own_state_open(tmp_path: Path) -> None:
    class Lines(nb.Sink):
        def __init__(self) -> None:
            self._is_open = False
            self.seen: set[bool] = set()

        def open(self, resumed: bool) -> None:
            self._is_open = True

        def write(self, batch: list[nb.Put]) -> None:
            self.seen.add(self._is_open)

        def close(self) -> None:
            self._is_open = False

    sink = Lines()

    trainer(tmp_path, sinks=[sink], log_every_n_steps=1).fit(Small(), loader())

    assert (sink.seen, sink._is_open) == ({True}, False)


def test_a_class_that_replaces_a_private_method_is_refused(tmp_path: Path) -> None:
    class Lines(nb.Sink):
        def _write(self, batch: list[Any]) -> None: ...  # type: ignore[override]

    with pytest.raises(nb.UsageError, match=r"Lines defines _write.*nightbus\.Sink.*own_write"):
        trainer(tmp_path, sinks=[Lines()]).fit(Small(), loader())


def test_an_object_that_replaces_a_private_method_is_refused(tmp_path: Path) -> None:
    class Sends(nb.Actor):
        def __init__(self) -> None:
            self._deliver = print  # type: ignore[assignment]

    with pytest.raises(nb.UsageError, match=r"Sends sets self\._deliver.*nightbus\.Actor"):
        trainer(tmp_path, actors=[Sends()]).fit(Small(), loader())


def test_a_replay_refuses_it_too(tmp_path: Path) -> None:
    class Ends(nb.Sink):
        def _finish(self) -> None: ...

    run = trainer(tmp_path)
    run.fit(Small(), loader())
    assert run.log_dir is not None

    with pytest.raises(nb.UsageError, match="Ends defines _finish"):
        nb.replay(run.log_dir, sinks=[Ends()])
