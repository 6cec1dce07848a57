"""The names that users of event-camera tools know, with their arguments and defaults."""

import inspect
from typing import Any

import pytest

import nightbus as nb
from examples.event_classification import data_module, lightning_model, models, utils_metrics

MODULES = {
    "data_module": data_module,
    "lightning_model": lightning_model,
    "models": models,
    "utils_metrics": utils_metrics,
}


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("utils_metrics.calculate_time_to_prediction", "pred_seq, label_seq, delta_t=10000"),
        (
            "utils_metrics.evaluate_preds_seq",
            "preds_seq, labels_seq, res_per_recording, hparams, latency_seq",
        ),
        ("utils_metrics.get_1st_nonzeros", "tensor"),
        ("utils_metrics.plot_cm", "preds_all, labels_all, labels"),
        ("utils_metrics.plot_precision_recall_curve", "preds_all, labels_all, labels"),
        ("utils_metrics.plot_roc", "preds_all, labels_all, labels"),
        ("utils_metrics.unpack_metrics_dict", "metrics_per_category, label"),
        ("data_module.load_classes", "metadata, batch_start_time, duration, tensor"),
        ("data_module.ClassificationDataModule", "hparams"),
        ("data_module.ClassificationDataModule.test_dataloader", "self"),
        ("data_module.ClassificationDataModule.train_dataloader", "self"),
        ("data_module.ClassificationDataModule.val_dataloader", "self"),
        (
            "data_module.ClassificationDataModule.transfer_batch_to_device",
            "self, batch, device, dataloader_idx=0",
        ),
        ("models.ConvRNNClassifier", "cin=1, base=16, cout=256, num_classes=2"),
        ("models.LeNetClassifier", "cin=1, base=6, cout=256, num_classes=2"),
        (
            "models.Mobilenetv2Classifier",
            "cin=2, width_mul=1.0, num_classes=2, round_nearest=8, **kwargs",
        ),
        ("models.SqueezenetClassifier", "cin=2, num_classes=2, **kwargs"),
        ("models.ConvRNNClassifier.forward", "self, x"),
        ("lightning_model.ClassificationModel", "hparams"),
        ("lightning_model.ClassificationModel.configure_optimizers", "self"),
        (
            "lightning_model.ClassificationModel.demo_video",
            "self, test_data, epoch=0, num_batches=100, show_video=False, show_pred=True, fps=30",
        ),
        ("lightning_model.ClassificationModel.forward", "self, batch"),
        ("lightning_model.ClassificationModel.load_pretrained", "self, checkpoint_path"),
        ("lightning_model.ClassificationModel.test_epoch_end", "self, outputs"),
        ("lightning_model.ClassificationModel.test_step", "self, batch, batch_idx"),
        ("lightning_model.ClassificationModel.training_epoch_end", "self, outputs"),
        ("lightning_model.ClassificationModel.training_step", "self, batch, batch_nb"),
        ("lightning_model.ClassificationModel.validation_epoch_end", "self, outputs"),
        ("lightning_model.ClassificationModel.validation_step", "self, batch, batch_idx"),
    ],
)
def test_a_name_takes_the_arguments_that_its_users_give(name: str, arguments: str) -> None:
    module, *path = name.split(".")
    found: Any = MODULES[module]
    for part in path:
        found = getattr(found, part)

    bare = [
        str(each.replace(annotation=inspect.Parameter.empty))
        for each in inspect.signature(found).parameters.values()
    ]

    expected = arguments.split(", ")
    assert bare[: len(expected)] == expected
    assert found.__doc__


def test_the_modules_are_lightnings_kinds() -> None:
    assert issubclass(lightning_model.ClassificationModel, nb.LightningModule)
    assert issubclass(data_module.ClassificationDataModule, nb.LightningDataModule)
