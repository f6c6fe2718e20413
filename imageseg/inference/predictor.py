"""Predictor: a trained network that takes pictures and gives predictions."""

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
    """Predicts pictures one by one, at their own size.

    Args:
        network: with its trained weights.
        labels: what its classes mean.
        device: where to run; "auto" takes CUDA where there is one.
        recipe: what it was trained by, if known.
        fast: fold normalisations into convolutions, and compute in bfloat16 where the device has it in hardware. Some
            pixels whose two best classes are nearly equal then change; without, predictions are those of the training.
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
        """The network of a run's checkpoint; the other arguments are those of the class.

        Raises:
            InputError: missing, damaged, or not a checkpoint of a training run.
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
        """Predicts one picture.

        Args:
            image: (H, W, 3) uint8 RGB, or the path of a picture.
            confidence: also give the probability of each pixel's class.
        """
        if isinstance(image, str | Path):
            image = read_image(image)
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(f"an image must be (H, W, 3) uint8 RGB, found {image.shape} {image.dtype}")
        # Torch takes neither mirrored arrays (BGR seen as RGB) nor read-only ones (np.asarray of a Pillow picture).
        image = np.require(image, requirements=["C", "W"])
        # (H, W, 3) seen as (1, 3, H, W) is channels_last already.
        images = torch.from_numpy(image).permute(2, 0, 1).unsqueeze(0).to(self.device)
        with torch.inference_mode(), self._autocast():
            if not confidence:
                return Prediction(self.network.predict_classes(images)[0].cpu().numpy(), self.labels)
            chosen = self.network(images).float().softmax(dim=1).max(dim=1)
        return Prediction(chosen.indices[0].to(torch.uint8).cpu().numpy(), self.labels, chosen.values[0].cpu().numpy())


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"no device is called '{name}'; take auto, cpu, cuda or cuda:1") from error
    try:
        torch.empty(0, device=device)
    # Which of these says that there is no such device, depends on the kind of device and on torch's build.
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise InputError(f"device '{name}' cannot be used here ({reason}); take auto or cpu") from error
    return device
