"""SegmentationTask: training and evaluation steps, the optimizer, and the logged metrics."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator
from functools import partial
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from imageseg.batch import Batch
from imageseg.errors import InputError, unknown_name
from imageseg.labels import LabelSpace
from imageseg.models.base import Network, classes_at
from imageseg.models.mask_classifier import MaskClassifier
from imageseg.scoring.confusion import ConfusionMatrix
from imageseg.scoring.scores import Scores
from imageseg.training.losses.mask_matching import mask_classification
from imageseg.training.losses.tiled_pixel import UpsampledLoss, upsampled_cross_entropy, upsampled_focal, upsampled_ohem
from imageseg.training.losses.tiled_region import (
    upsampled_cross_entropy_dice,
    upsampled_cross_entropy_lovasz,
    upsampled_dice,
    upsampled_lovasz,
)
from imageseg.training.schedule import SCHEDULES, factor_at

PIXEL_LOSSES: dict[str, UpsampledLoss] = {
    "cross_entropy": upsampled_cross_entropy,
    "ohem": upsampled_ohem,
    "focal": upsampled_focal,
    "dice": upsampled_dice,
    "cross_entropy_dice": upsampled_cross_entropy_dice,
    "lovasz": upsampled_lovasz,
    "cross_entropy_lovasz": upsampled_cross_entropy_lovasz,
}
"""Each equals the loss of the same name in ``losses.plain.LOSSES``, applied to resized logits."""


class SegmentationTask(pl.LightningModule):
    """Train a network and score it on complete splits with one exact confusion matrix.

    Args:
        network: Network to train.
        labels: Classes of the dataset; their number is the number of logits per pixel.
        optimizer: Optimizer: "sgd" (momentum 0.9) or "adamw".
        lr: Learning rate of the decode head at the peak of the schedule.
        encoder_lr_factor: Learning rate of the encoder relative to ``lr``; "auto" means 0.1 for a pretrained encoder and 1
            otherwise.
        weight_decay: Weight decay of convolution and linear weights. Biases and normalization layers are not decayed.
        schedule: Learning rate schedule, updated at every optimizer step: "poly", "cosine" or "constant".
        warmup_steps: Number of optimizer steps of linear warm-up at the start of the schedule.
        loss: Loss: "cross_entropy", "ohem" (cross-entropy of the hard pixels), "focal", "dice", "lovasz", "cross_entropy_dice"
            and "cross_entropy_lovasz" (sums of two losses), or "mask_classification" for networks that predict masks (EoMT).
        label_smoothing: Share of each label that is spread evenly over all classes; for loss "cross_entropy" only.
        class_weights: One weight per class, in the order of the labels; not supported by "dice" and "lovasz".
        aux_weight: Weight of the loss of each auxiliary head, if the network has any.
        channels_last: Store images and weights in channels_last memory format, which is faster for most networks.
    """

    def __init__(
        self,
        network: Network,
        labels: LabelSpace,
        *,
        optimizer: Literal["sgd", "adamw"] = "sgd",
        lr: float = 0.01,
        encoder_lr_factor: float | Literal["auto"] = "auto",
        weight_decay: float = 1e-4,
        schedule: Literal["poly", "cosine", "constant"] = "poly",
        warmup_steps: int = 0,
        loss: Literal[
            "cross_entropy",
            "ohem",
            "focal",
            "dice",
            "lovasz",
            "cross_entropy_dice",
            "cross_entropy_lovasz",
            "mask_classification",
        ] = "cross_entropy",
        label_smoothing: float = 0.0,
        class_weights: list[float] | None = None,
        aux_weight: float = 0.4,
        channels_last: bool = True,
    ) -> None:
        super().__init__()
        for kind, name, table in (
            ("loss", loss, (*PIXEL_LOSSES, _MASK_LOSS)),
            ("schedule", schedule, SCHEDULES),
            ("optimizer", optimizer, _OPTIMIZERS),
        ):
            if name not in table:
                raise unknown_name(kind, name, table)
        if min(lr, weight_decay, warmup_steps, aux_weight) < 0:
            raise InputError("lr, weight_decay, warmup_steps and aux_weight must be at least 0")
        if not 0 <= label_smoothing < 1 or (label_smoothing and loss != "cross_entropy"):
            raise InputError(
                f"label_smoothing must be at least 0 and below 1, and requires loss 'cross_entropy'; found {label_smoothing} with "
                f"loss '{loss}'"
            )
        if class_weights is not None and loss in _EQUAL_CLASSES:
            raise InputError(
                f"loss '{loss}' does not support class_weights; remove class_weights or use loss 'cross_entropy_{loss}'"
            )
        if class_weights is not None and not all(0 <= weight < math.inf for weight in class_weights):
            raise InputError(f"class_weights must be finite numbers of at least 0, found {class_weights}")
        if class_weights is not None and len(class_weights) != len(labels):
            raise InputError(
                f"class_weights has {len(class_weights)} entries for {len(labels)} classes ({', '.join(labels.names)}); "
                "give one weight per class"
            )
        if loss == _MASK_LOSS and not isinstance(network, MaskClassifier):
            raise InputError(
                f"loss '{loss}' needs a network that predicts masks, found {type(network).__name__}; "
                "use EoMT or pass --task.loss cross_entropy"
            )
        self.network = network.to(memory_format=torch.channels_last) if channels_last else network
        self.labels = labels
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.optimizer_name = optimizer
        self.lr = lr
        if encoder_lr_factor == "auto":
            encoder_lr_factor = 0.1 if network.pretrained else 1.0
        self.encoder_lr_factor = encoder_lr_factor
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.warmup_steps = warmup_steps
        self.loss_name = loss
        self.loss = PIXEL_LOSSES.get(loss, upsampled_cross_entropy)
        if label_smoothing:
            self.loss = partial(upsampled_cross_entropy, label_smoothing=label_smoothing)
        self.aux_weight = aux_weight
        self.class_weights: Tensor | None
        self.register_buffer(
            "class_weights",
            None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32),
            persistent=False,
        )
        self.confusion = ConfusionMatrix(len(labels), ignore_index=labels.ignore_index)
        self._loss_sum = torch.zeros(2, dtype=torch.float64)  # sums of loss * valid pixels and of valid pixels

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of one batch, auxiliary heads included."""
        loss = self._mask_loss(batch) if self.loss_name == _MASK_LOSS else self._pixel_loss(batch)
        self.log("train/loss", loss.detach())
        return loss

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Pass the training progress to a network that anneals masked attention."""
        if self.loss_name == _MASK_LOSS:
            assert isinstance(self.network, MaskClassifier)
            self.network.anneal(self.trainer.global_step / self.trainer.estimated_stepping_batches)

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Add one batch to the confusion matrix; return its (N, H, W) class indices for callbacks."""
        return self._score(batch)

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Do the same as ``validation_step``, always in float32, so that the result equals that of ``evaluate``."""
        with torch.autocast(self.device.type, enabled=False):
            return self._score(batch)

    def on_validation_epoch_start(self) -> None:
        """Reset the confusion matrix."""
        self._reset()

    def on_test_epoch_start(self) -> None:
        """Reset the confusion matrix."""
        self._reset()

    def on_validation_epoch_end(self) -> None:
        """Log the scores of the split."""
        self._log_scores("val")

    def on_test_epoch_end(self) -> None:
        """Log the scores of the split."""
        self._log_scores("test")

    def configure_optimizers(self) -> Any:
        """Return the optimizer (parameter groups for encoder and head, with and without weight decay) and the schedule."""
        # Fused optimizers read each parameter once per step instead of once per operation, on CPUs too. Lightning does not
        # clip the gradients of fused optimizers; None selects torch's second fastest form (foreach) on GPUs, False would not.
        fused = True if self.trainer.gradient_clip_val is None else None
        optimizer = _OPTIMIZERS[self.optimizer_name](self.parameter_groups(), lr=self.lr, fused=fused)
        total = int(self.trainer.estimated_stepping_batches)
        factor = partial(
            factor_at, schedule=SCHEDULES[self.schedule], total_steps=total, warmup_steps=self.warmup_steps
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": LambdaLR(optimizer, factor), "interval": "step", "name": "lr"},
        }

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return named parameter groups; every trainable parameter is in exactly one of them."""
        encoder = {id(parameter) for parameter in self.network.encoder.parameters()}
        # Position embeddings, tokens and queries have as many dimensions as weights but are not decayed.
        decaying = {id(m.weight) for m in self.network.modules() if isinstance(m, nn.modules.conv._ConvNd | nn.Linear)}
        groups: dict[str, dict[str, Any]] = {}
        for parameter in self._trainable():
            part = "encoder" if id(parameter) in encoder else "head"
            decays = id(parameter) in decaying
            name = part if decays else f"{part}_no_decay"
            group = groups.setdefault(
                name,
                {
                    "name": name,
                    "params": [],
                    "lr": self.lr * (self.encoder_lr_factor if part == "encoder" else 1.0),
                    "weight_decay": self.weight_decay if decays else 0.0,
                },
            )
            group["params"].append(parameter)
        return list(groups.values())

    def compile_network(self) -> None:
        """Compile the forward pass that a training step runs; parameter names and everything else stay the same.

        Raises:
            InputError: No C++ compiler is installed, or the loss does not use this forward pass.
        """
        if self.loss_name == _MASK_LOSS:
            raise InputError(
                f"trainer.compile: loss '{_MASK_LOSS}' does not support compilation; remove --trainer.compile"
            )
        compiler = os.environ.get("CXX", "").split()[:1] or ["g++", "clang++", "cl"]
        if not any(map(shutil.which, compiler)):
            raise InputError(
                f"trainer.compile: no C++ compiler found ({', '.join(compiler)}); install g++ or remove --trainer.compile"
            )
        compiled = torch.compile(self.network.coarse_logits_with_aux, dynamic=False)
        self.network.coarse_logits_with_aux = compiled  # type: ignore[method-assign]

    def scores(self, dialect: str = "default") -> Scores:
        """Return the scores of the split evaluated last, by the metric protocol ``dialect``."""
        return self.confusion.scores(dialect)

    def _trainable(self) -> Iterator[nn.Parameter]:
        return (parameter for parameter in self.network.parameters() if parameter.requires_grad)

    def _pixel_loss(self, batch: Batch) -> Tensor:
        images = self.network.normalize(self._images(batch))
        logits, aux = self.network.coarse_logits_with_aux(images)
        loss = self._loss_of(logits, batch)
        for aux_logits in aux:
            loss = loss + self.aux_weight * self._loss_of(aux_logits, batch)
        return loss

    def _loss_of(self, logits: Tensor, batch: Batch) -> Tensor:
        return self.loss(logits, batch["mask"], self.class_weights, align_corners=self.network.align_corners)

    def _mask_loss(self, batch: Batch) -> Tensor:
        assert isinstance(self.network, MaskClassifier)
        predictions = self.network.mask_predictions(self._images(batch))
        return mask_classification(predictions, batch["mask"], self.class_weights)

    def _images(self, batch: Batch) -> Tensor:
        return batch["image"].contiguous(memory_format=self.memory_format)

    def _score(self, batch: Batch) -> dict[str, Tensor]:
        mask, align_corners = batch["mask"], self.network.align_corners
        logits = self.network.coarse_logits(self.network.normalize(self._images(batch)))
        classes = classes_at(logits, mask.shape[1:], align_corners=align_corners)
        self.confusion.update(classes, mask)
        valid = (mask != self.labels.ignore_index).sum()
        # Always plain cross-entropy, whatever the training loss, so that runs can be compared.
        loss = upsampled_cross_entropy(logits, mask, align_corners=align_corners)
        # On the CPU, because MPS does not support float64.
        mean, pixels = torch.stack([loss, valid.to(loss.dtype)]).cpu().double()
        self._loss_sum += torch.stack([mean * pixels, pixels])
        return {"classes": classes}

    def _reset(self) -> None:
        self.confusion.reset()
        self._loss_sum.zero_()

    def _log_scores(self, stage: str) -> None:
        counts = self.confusion.to_tensor().to(self.device)
        self.confusion.load_tensor(self.trainer.strategy.reduce(counts, reduce_op="sum"))
        loss_sum = self.trainer.strategy.reduce(self._loss_sum.float().to(self.device), reduce_op="sum")
        scores = self.scores()
        if math.isnan(scores.miou) and not self.trainer.sanity_checking:
            raise InputError(f"{stage}: all pixels of its {scores.images} images are ignored; check the label table")
        loss = float(loss_sum[0] / loss_sum[1].clamp(min=1))
        if not math.isfinite(loss) and not self.trainer.sanity_checking:
            raise InputError(
                f"{stage}/loss is {loss}: training has diverged; lower --task.lr, or set --task.warmup_steps or "
                "--trainer.gradient_clip_val"
            )
        metrics = {
            "loss": loss,
            "miou": scores.miou,
            "pixel_accuracy": scores.pixel_accuracy,
            "class_accuracy": scores.class_accuracy,
            "fw_iou": scores.fw_iou,
        }
        metrics |= {f"iou/{name}": value for name, value in zip(self.labels.names, scores.iou, strict=True)}
        # Undefined metrics (a class that does not occur in the split) are not logged: NaN would break early stopping.
        self.log_dict(
            {f"{stage}/{name}": float(value) for name, value in metrics.items() if not math.isnan(value)},
            rank_zero_only=False,
        )


_MASK_LOSS = "mask_classification"
_EQUAL_CLASSES = ("dice", "lovasz")

_OPTIMIZERS: dict[str, Any] = {"sgd": partial(torch.optim.SGD, momentum=0.9), "adamw": torch.optim.AdamW}
