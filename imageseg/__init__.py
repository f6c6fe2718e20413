"""Training, evaluation and application of semantic segmentation networks.

Public names are imported on first use, so that ``import imageseg`` stays fast.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

# Neither Albumentations' request to PyPI at import nor the telemetry of the hub's client is wanted.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")


from imageseg._version import __version__

_HOMES = {
    "MODELS": "imageseg.models",
    "build_model": "imageseg.weights.build",
    "DATASETS": "imageseg.datasets",
    "build_dataset": "imageseg.datasets",
    "ConfusionMatrix": "imageseg.scoring.confusion",
    "Scores": "imageseg.scoring.scores",
    "read_image": "imageseg.images",
    "InputError": "imageseg.errors",
    "Label": "imageseg.labels",
    "LabelSpace": "imageseg.labels",
    "Prediction": "imageseg.prediction",
    "Predictor": "imageseg.inference.predictor",
    "Recipe": "imageseg.recipe",
    "evaluate": "imageseg.inference.evaluation",
    "train": "imageseg.training.fit",
}

__all__ = [*_HOMES, "__version__"]

if TYPE_CHECKING:
    from imageseg.datasets import DATASETS, build_dataset
    from imageseg.errors import InputError
    from imageseg.images import read_image
    from imageseg.inference.evaluation import evaluate
    from imageseg.inference.predictor import Predictor
    from imageseg.labels import Label, LabelSpace
    from imageseg.models import MODELS
    from imageseg.prediction import Prediction
    from imageseg.recipe import Recipe
    from imageseg.scoring.confusion import ConfusionMatrix
    from imageseg.scoring.scores import Scores
    from imageseg.training.fit import train
    from imageseg.weights.build import build_model


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'imageseg' has no attribute '{name}'")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
