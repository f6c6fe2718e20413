"""Predictor: a trained network that turns images into predictions."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from imageseg.checkpoint import read_network
from imageseg.errors import InputError
from imageseg.hardware import has_fast_bfloat16
from imageseg.images import read_image
from imageseg.inference.fold_batchnorm import fold_batchnorm
from imageseg.labels import LabelSpace
from imageseg.models import build_untrained
from imageseg.models.base import Network
from imageseg.prediction import Prediction
from imageseg.recipe import Recipe


class Predictor:
    """Predict images one by one at their original size.

    Args:
        network: Network with trained weights.
        labels: Label space of the network.
        device: Device that runs the network; "auto" uses CUDA if available, else the CPU.
        recipe: Recipe of the training run, if known.
        fast: Fold batch normalization into convolutions, and compute in bfloat16 on hardware that supports it natively.
            The prediction may change for a few pixels whose two best classes are nearly equal.
    """

    def __init__(
        self,
        network: Network,
        labels: LabelSpace,
        *,
        device: str = "auto",
        recipe: Recipe | None = None,
        fast: bool = False,
    ) -> None:
        self.device = _device(device)
        self._autocast = partial(
            torch.autocast, self.device.type, dtype=torch.bfloat16, enabled=fast and has_fast_bfloat16(self.device)
        )
        network = fold_batchnorm(network) if fast else network
        self.network = network.to(self.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self.labels = labels
        self.recipe = recipe

    @classmethod
    def from_checkpoint(cls, path: str | Path, *, device: str = "auto", fast: bool = False) -> Predictor:
        """Load the network from the checkpoint of a training run.

        Args:
            path: Path of the checkpoint.
            device: Device that runs the network, as for the class.
            fast: Fast inference, as for the class.

        Raises:
            InputError: The file is missing, damaged or not a checkpoint of a training run.
        """
        trained = read_network(path)
        recipe = trained.recipe
        network = build_untrained(recipe.model, len(trained.labels), recipe.network)
        try:
            network.load_state_dict(trained.weights)
        except RuntimeError as error:
            raise InputError(
                f"{path}: its weights do not fit {recipe.model} ({' '.join(str(error).split())[:300]})"
            ) from error
        return cls(network, trained.labels, device=device, recipe=recipe, fast=fast)

    def __call__(self, image: npt.NDArray[np.uint8] | str | Path, *, confidence: bool = False) -> Prediction:
        """Predict one image.

        Args:
            image: (H, W, 3) uint8 RGB array, or the path of an image file.
            confidence: Whether to compute the probability of the predicted class of every pixel.

        Raises:
            InputError: The file cannot be read.
            ValueError: The array has another shape or dtype.
        """
        images = self._to_batch(image)
        with torch.inference_mode(), self._autocast():
            if not confidence:
                return Prediction(self.network.predict_classes(images)[0].cpu().numpy(), self.labels)
            chosen = self.network(images).float().softmax(dim=1).max(dim=1)
        return Prediction(chosen.indices[0].to(torch.uint8).cpu().numpy(), self.labels, chosen.values[0].cpu().numpy())

    def probabilities(self, image: npt.NDArray[np.uint8] | str | Path) -> npt.NDArray[np.float32]:
        """Compute the (C, H, W) float32 class probabilities of one image; arguments and errors as for a call."""
        images = self._to_batch(image)
        with torch.inference_mode(), self._autocast():
            probabilities: npt.NDArray[np.float32] = self.network(images).float().softmax(dim=1)[0].cpu().numpy()
        return probabilities

    def _to_batch(self, image: npt.NDArray[np.uint8] | str | Path) -> torch.Tensor:
        """Return (1, 3, H, W) uint8 on the device."""
        if isinstance(image, str | Path):
            image = read_image(image)
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(f"an image must be (H, W, 3) uint8 RGB, found {image.shape} {image.dtype}")
        # PyTorch accepts neither negative strides (BGR viewed as RGB) nor read-only arrays (np.asarray of a Pillow image).
        image = np.require(image, requirements=["C", "W"])
        # (H, W, 3) viewed as (1, 3, H, W) is channels_last already.
        return torch.from_numpy(image).permute(2, 0, 1).unsqueeze(0).to(self.device)


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"no device is called '{name}'; use auto, cpu, cuda or cuda:1") from error
    try:
        torch.empty(0, device=device)
    # The exception for a missing device depends on the kind of device and the PyTorch build.
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise InputError(f"device '{name}' cannot be used here ({reason}); use auto or cpu") from error
    return device
