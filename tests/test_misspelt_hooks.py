"""Methods whose names are near a hook's: what was meant to be called, and never would be."""

import warnings
from pathlib import Path
from typing import Any

import pytest
from models import Small, loader, trainer

import nightbus as nb

TYPOS_OF_A_MODULE = {
    "validaton_step": "validation_step",
    "training_stpe": "training_step",
    "configure_gradient_cliping": "configure_gradient_clipping",
    "configure_gradient_clip": "configure_gradient_clipping",
    "configure_optimisers": "configure_optimizers",
    "optimzer_step": "optimizer_step",
    "lr_sheduler_step": "lr_scheduler_step",
    "foward": "forward",
    "bakward": "backward",
    "val_dataloder": "val_dataloader",
    "prepare_dta": "prepare_data",
    "set_up": "setup",
    "tearDown": "teardown",
    "transfer_batch_to_devcie": "transfer_batch_to_device",
    "on_trian_epoch_end": "on_train_epoch_end",
    "on_trainepoch_end": "on_train_epoch_end",
    "on_save_chekpoint": "on_save_checkpoint",
    "validationEpochEnd": "validation_epoch_end",
}
OTHER_WORDS = {
    "on_train_begin": "on_train_start",
    "on_val_epoch_end": "on_validation_epoch_end",
    "on_training_batch_end": "on_train_batch_end",
    "on_epoch_train_end": "on_train_epoch_end",
    "on_traning_epoch_end": "on_train_epoch_end",
    "val_epoch_end": "on_validation_epoch_end or validation_epoch_end",
    "train_batch_start": "on_train_batch_start",
    "train_step_end": "training_step_end",
}
# As modules of real projects call them.
HELPERS = """
    _step accuracy act adapt adversarial_loss augment backward_pass base_step batch_loss
    batch_to_device best_step build_loss build_model build_optimizer calc_loss clone collate
    collate_fn common_step compute_loss compute_metrics configure_loss configure_losses
    configure_metrics configure_models configure_module configure_scheduler configure_schedulers
    contrastive_loss create_dataloader data_step decode denormalize detach_hidden dev_dataloader
    disc_step discriminator_step distill_loss download early_stop ema_step encode end_epoch energy
    epoch_loss epoch_metrics eval_dataloader eval_step evaluate export fast_adapt forward_encoder
    forward_features forward_head forward_loss forward_pass forward_step forward_test forward_train
    freeze_backbone gen_step generate generator_step get_dataloader get_loss get_lr get_optimizer
    get_optimizers get_scheduler gradient_penalty hidden_state init_hidden init_weights inner_loop
    inner_step kl_divergence last_step load_checkpoint load_data load_dataset load_model load_state
    load_weights log_epoch log_images log_metrics log_step loss lr_lambda lr_schedule
    make_dataloader make_optimizer mask_step max_steps meta_step metrics model_step next_step
    normalize num_steps off_policy_step on_click on_data on_improvement on_log on_message on_metrics
    on_plateau on_policy_step on_request on_step on_tick on_update optimize_step optimizer_params
    outer_step param_groups parameter_groups play_step plot populate postprocess predict
    predict_batch predict_class predict_image predict_logits predict_loop predict_next predict_one
    predict_proba predictive_step prepare_batch prepare_inputs prepare_sample prepare_targets
    preprocess process_batch product_step random_split reparameterize reset reset_metrics
    reset_parameters reward rollout run_step sample save_checkpoint save_images save_model
    save_predictions save_state scheduler_step score select_action set_epoch set_lr set_seed
    setup_data setup_metrics setup_model setup_optimizers shared_step should_stop soft_update
    start_epoch state step step_scheduler student_step teacher_step teardown_pool test_accuracy
    test_batch test_data test_dataset test_epoch test_loader test_loop test_loss
    test_metrics test_mode test_split test_stats test_transform to_device to_numpy token_step
    tokenize total_steps
    train_batch train_data train_dataset train_epoch train_loader train_loop train_loss
    train_metrics train_mode train_one_epoch train_sampler train_split train_stats train_step
    train_transform training_data training_dataloader training_loop training_loss training_metrics
    training_mode training_step2 training_step_a training_step_generator transform
    tta_step unfreeze_backbone update_ema update_metrics update_target val_data val_dataset
    val_epoch val_loader val_loss val_metrics val_split val_step val_transform validate
    validation_data validation_dataloader validation_loop validation_metrics visualize warmup_steps
""".split()  # noqa: SIM905  readable so


def named(base: type, *names: str) -> Any:
    """An object of a class that has methods of these names."""
    methods = {name: eval("lambda self, *_: None") for name in names}
    return type("Theirs", (base,), methods)()


def warnings_of(folder: Path, module: Any = None, **arguments: Any) -> list[str]:
    """What a fit warns of."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        given = {name: arguments.pop(name) for name in ("datamodule",) if name in arguments}
        data = () if given else (loader(),)
        trainer(folder, **arguments).fit(module or Small(), *data, **given)
    return [str(entry.message) for entry in found]


@pytest.mark.parametrize(("name", "meant"), [*TYPOS_OF_A_MODULE.items(), *OTHER_WORDS.items()])
def test_a_method_of_a_module_near_a_hook_is_warned_of_with_the_hook(
    tmp_path: Path, name: str, meant: str
) -> None:
    assert warnings_of(tmp_path, named(Small, name)) == [
        f"Theirs.{name} is not a hook and will not be called; did you mean {meant}?"
    ]


@pytest.mark.parametrize("name", ["on_validaton_epoch_end", "on_epoch_begin", "stup"])
def test_so_is_one_of_a_callback(tmp_path: Path, name: str) -> None:
    (told,) = warnings_of(tmp_path, callbacks=[named(nb.Callback, name)])

    assert told.startswith(f"Theirs.{name} is not a hook and will not be called; did you mean ")


class Data(nb.LightningDataModule):
    def train_dataloader(self) -> Any:
        return loader()


@pytest.mark.parametrize("name", ["val_dataloadr", "perpare_data", "test_data_loader"])
def test_so_is_one_of_a_datamodule(tmp_path: Path, name: str) -> None:
    (told,) = warnings_of(tmp_path, datamodule=named(Data, name))

    assert told.startswith(f"Theirs.{name} is not a hook and will not be called; did you mean ")


def test_a_method_of_an_actor_is_told_to_subscribe(tmp_path: Path) -> None:
    actor = named(nb.Actor, "on_train_end", "on_trian_start", "trainingStep")

    assert warnings_of(tmp_path, actors=[actor]) == [
        'Theirs.on_train_end will not be called: subscribe it with @nb.on("on_train_end")',
        "Theirs.on_trian_start is not a hook and will not be called; did you mean "
        '@nb.on("on_train_start")?',
    ]


@pytest.mark.parametrize(
    ("base", "argument", "name", "meant"),
    [
        (nb.Sink, "sinks", "wirte", "write"),
        (nb.Sink, "sinks", "finnish", "finish"),
        (nb.Actor, "actors", "load_state_dcit", "load_state_dict"),
        (nb.EarlyStopping, "callbacks", "on_validaton_end", "on_validation_end"),
    ],
)
def test_what_is_called_on_a_sink_or_an_actor_is_looked_for_too(
    tmp_path: Path, base: type, argument: str, name: str, meant: str
) -> None:
    made = {"monitor": "train_loss"} if base is nb.EarlyStopping else {}
    kind = type("Theirs", (base,), {name: eval("lambda self, *_: None")})

    (told,) = warnings_of(tmp_path, **{argument: [kind(**made)]})

    assert told.endswith(f"did you mean {meant}?")


def test_so_is_what_is_called_on_a_loop(tmp_path: Path) -> None:
    class Mine(nb.FitLoop):
        def on_advance_strat(self) -> None: ...

        def fold_step(self) -> None: ...

    run = trainer(tmp_path)
    run.fit_loop = Mine()

    with pytest.warns(
        UserWarning, match=r"on_advance_strat .* did you mean on_advance_start?"
    ) as w:
        run.fit(Small(), loader())
    assert len(w) == 1


def test_an_actors_methods_that_subscribe_are_called_as_they_like(tmp_path: Path) -> None:
    class Watch(nb.Actor):
        @nb.on("on_train_start")
        def on_train_begin(self, hook: Any) -> None: ...

    assert warnings_of(tmp_path, actors=[Watch()]) == []


@pytest.mark.parametrize(
    ("base", "name", "kind"),
    [
        (Small, "on_sanity_check_start", "module"),
        (nb.Callback, "on_after_batch_transfer", "callback"),
        (Data, "on_train_epoch_end", "datamodule"),
    ],
)
def test_a_hook_that_only_others_have_is_warned_of(
    tmp_path: Path, base: type, name: str, kind: str
) -> None:
    owner = named(base, name)
    given: dict[str, Any] = {
        "module": {"module": owner},
        "callback": {"callbacks": [owner]},
        "datamodule": {"datamodule": owner},
    }[kind]

    assert warnings_of(tmp_path, **given) == [
        f"Theirs.{name} is a hook, but not of a {kind}, and will not be called"
    ]


@pytest.mark.parametrize("base", [Small, nb.Callback, Data, nb.Actor])
def test_usual_names_of_helpers_are_not_warned_of(tmp_path: Path, base: type) -> None:
    owner = named(base, *(name for name in HELPERS if not hasattr(base, name)))
    given: dict[type, Any] = {
        Small: {"module": owner},
        nb.Callback: {"callbacks": [owner]},
        Data: {"datamodule": owner},
        nb.Actor: {"actors": [owner]},
    }

    assert warnings_of(tmp_path, **given[base]) == []


def test_a_helper_that_the_class_itself_calls_is_not_warned_of(tmp_path: Path) -> None:
    class Helped(Small):
        def on_train_begin(self) -> None: ...

        def validation_steps(self) -> None: ...

        def configure_optimizer(self) -> Any:
            return super().configure_optimizers()

        def configure_optimizers(self) -> Any:
            getattr(self, "validation_steps")()  # noqa: B009  as code that chooses by name does
            return [self.configure_optimizer() for _ in range(1)]

        def on_train_start(self) -> None:
            self.on_train_begin()

    assert warnings_of(tmp_path, Helped()) == []


def test_a_method_that_a_parent_or_a_mixin_brings_is_warned_of(tmp_path: Path) -> None:
    class Mixin:
        def on_trian_end(self) -> None: ...

    class Parent(Small):
        def validaton_step(self) -> None: ...

    class Child(Parent, Mixin): ...

    told = warnings_of(tmp_path, Child())

    assert [line.split()[0] for line in told] == ["Child.validaton_step", "Child.on_trian_end"]


def test_a_class_is_warned_of_once_and_where_the_method_is(tmp_path: Path) -> None:
    owner = named(Small, "validaton_step")

    with pytest.warns(UserWarning, match="validaton_step") as found:
        trainer(tmp_path).fit(owner, loader())

    assert [entry.filename for entry in found] == ["<string>"]  # where eval made it
    assert warnings_of(tmp_path, owner) == []
