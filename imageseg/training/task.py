"""SegmentationTask: the steps of training and scoring, the optimiser, and what is logged."""

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
"""Each equals that of its name in ``losses.LOSSES``, on resized logits."""


class SegmentationTask(pl.LightningModule):
    """Trains a network and scores it over whole splits with one exact confusion matrix.

    Args:
        network: what to train.
        labels: its classes.
        optimizer: "sgd" (momentum 0.9) or "adamw".
        lr: learning rate of the head, at the top of the schedule.
        encoder_lr_factor: the encoder's rate as a share of ``lr``; "auto" is 0.1 for a pretrained encoder, else 1.
        weight_decay: of convolution and linear weights; normalisation and biases have none.
        schedule: "poly", "cosine" or "constant", per optimiser step.
        warmup_steps: optimiser steps of linear rise before it.
        loss: "cross_entropy"; "ohem" (only of hard pixels); "focal"; "dice"; "lovasz"; "cross_entropy_dice" and
            "cross_entropy_lovasz" (sums of two); or "mask_classification" for a network that predicts masks (EoMT).
        label_smoothing: of "cross_entropy": the share of a pixel's label that is spread evenly over all classes.
        class_weights: one factor per class, in the order of the labels; "dice" and "lovasz" have none.
        aux_weight: of the loss of each auxiliary head, where the network has any.
        channels_last: memory order of pictures and weights; the fast one for convolutions nearly everywhere.
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
            raise InputError("lr, weight_decay, warmup_steps and aux_weight must be 0 or more")
        if not 0 <= label_smoothing < 1 or (label_smoothing and loss != "cross_entropy"):
            raise InputError(
                f"label_smoothing must be 0 or more and below 1, and is of cross_entropy only; found {label_smoothing} with "
                f"loss '{loss}'"
            )
        if class_weights is not None and loss in _EQUAL_CLASSES:
            raise InputError(
                f"loss '{loss}' weighs all classes alike; leave class_weights out, or take cross_entropy_{loss}"
            )
        if class_weights is not None and not all(0 <= weight < math.inf for weight in class_weights):
            raise InputError(f"class_weights must be numbers of 0 or more, found {class_weights}")
        if class_weights is not None and len(class_weights) != len(labels):
            raise InputError(
                f"class_weights has {len(class_weights)} entries for {len(labels)} classes ({', '.join(labels.names)})"
            )
        if loss == _MASK_LOSS and not isinstance(network, MaskClassifier):
            raise InputError(
                f"loss '{loss}' needs a network that predicts masks, found {type(network).__name__}; "
                "take EoMT, or pass --task.loss cross_entropy"
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
        self._loss_sum = torch.zeros(2, dtype=torch.float64)  # of loss * valid pixels, and of valid pixels

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of one batch, auxiliary heads included."""
        loss = self._mask_loss(batch) if self.loss_name == _MASK_LOSS else self._pixel_loss(batch)
        self.log("train/loss", loss.detach())
        return loss

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Tells a network that trains on masks how far the training is."""
        if self.loss_name == _MASK_LOSS:
            assert isinstance(self.network, MaskClassifier)
            self.network.anneal(self.trainer.global_step / self.trainer.estimated_stepping_batches)

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Counts one batch; gives its (N, H, W) classes to the callbacks."""
        return self._score(batch)

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """As ``validation_step``, in float32 also when training is in mixed precision, as ``evaluate`` does it."""
        with torch.autocast(self.device.type, enabled=False):
            return self._score(batch)

    def on_validation_epoch_start(self) -> None:
        """Starts a new count."""
        self._reset()

    def on_test_epoch_start(self) -> None:
        """Starts a new count."""
        self._reset()

    def on_validation_epoch_end(self) -> None:
        """Logs the scores of the split."""
        self._log_scores("val")

    def on_test_epoch_end(self) -> None:
        """Logs the scores of the split."""
        self._log_scores("test")

    def configure_optimizers(self) -> Any:
        """The optimiser with a group for the encoder and one for the head, each split by weight decay."""
        # Fused: one pass over each parameter's memory instead of one per operation; on processors too. Lightning does not cut
        # the gradients of an optimizer that is; None leaves the other fast form on graphics cards, which False would not.
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
        """Named groups; every trainable parameter is in one of them."""
        encoder = {id(parameter) for parameter in self.network.encoder.parameters()}
        # Not those of positions, tokens and queries, which have as many dimensions.
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
        """Compiles what a training step runs of the network; its weights keep their names, and all else stays as it is.

        Raises:
            InputError: no compiler is installed, or the loss takes another way through the network.
        """
        if self.loss_name == _MASK_LOSS:
            raise InputError(f"trainer.compile: loss '{_MASK_LOSS}' cannot be compiled; leave it out")
        compiler = os.environ.get("CXX", "").split()[:1] or ["g++", "clang++", "cl"]
        if not any(map(shutil.which, compiler)):
            raise InputError(
                f"trainer.compile: found no C++ compiler ({', '.join(compiler)}); install g++, or leave it out"
            )
        compiled = torch.compile(self.network.coarse_logits_with_aux, dynamic=False)
        self.network.coarse_logits_with_aux = compiled  # type: ignore[method-assign]

    def scores(self, dialect: str = "default") -> Scores:
        """The scores of the split that was counted last, by the rules of ``dialect``."""
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
        # Plain cross-entropy whatever the training loss is, so that runs can be compared.
        loss = upsampled_cross_entropy(logits, mask, align_corners=align_corners)
        # On the processor, because Apple's graphics have no float64.
        figures = torch.stack([loss, valid.to(loss.dtype)]).cpu().double()
        self._loss_sum += torch.stack([figures[0] * figures[1], figures[1]])
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
            raise InputError(f"{stage}: none of its {scores.images} pictures has a pixel that is not ignored")
        loss = float(loss_sum[0] / loss_sum[1].clamp(min=1))
        if not math.isfinite(loss) and not self.trainer.sanity_checking:
            raise InputError(
                f"{stage}/loss is {loss}: the training has diverged; lower --task.lr, or set --task.warmup_steps or "
                "--trainer.gradient_clip_val"
            )
        figures = {
            "loss": loss,
            "miou": scores.miou,
            "pixel_accuracy": scores.pixel_accuracy,
            "class_accuracy": scores.class_accuracy,
            "fw_iou": scores.fw_iou,
        }
        figures |= {f"iou/{name}": value for name, value in zip(self.labels.names, scores.iou, strict=True)}
        # A figure that is undefined (no such class in the split) is left out of the log: NaN would stop early stopping.
        self.log_dict(
            {f"{stage}/{name}": float(value) for name, value in figures.items() if not math.isnan(value)},
            rank_zero_only=False,
        )


_MASK_LOSS = "mask_classification"
_EQUAL_CLASSES = ("dice", "lovasz")

_OPTIMIZERS: dict[str, Any] = {"sgd": partial(torch.optim.SGD, momentum=0.9), "adamw": torch.optim.AdamW}
