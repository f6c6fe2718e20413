"""Fixtures for the tests of inference: a checkpoint as a training run writes it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from network_fixtures import any_algorithm, one_thread, randomize

import imageseg
from imageseg.checkpoint import NETWORK_PREFIX, RUN_KEY, WEIGHTS_KEY, write_checkpoint
from imageseg.labels import LabelSpace
from imageseg.models.base import Network

__all__ = ["any_algorithm", "one_thread", "randomize"]

WriteCheckpoint = Callable[..., Network]


@pytest.fixture
def write_run() -> WriteCheckpoint:
    """Write the checkpoint of a random network, with the record of its run, and return the network."""

    def write(
        path: Path, labels: LabelSpace, *, claimed: str = "UNet", claimed_labels: LabelSpace | None = None
    ) -> Network:
        torch.manual_seed(0)
        arguments = {"encoder": "mobilenetv3_small_050", "pretrained": False}
        network = imageseg.build_model("UNet", len(labels), **arguments)
        # One class everywhere would be a poor test: spread the logits.
        torch.nn.init.normal_(network.classifier.weight, std=1.0)  # type: ignore[arg-type, union-attr]
        recipe = {"use": "Folder", "model": claimed, "network": arguments | {"pretrained": True}}
        state = {NETWORK_PREFIX + name: value for name, value in network.state_dict().items()}
        record = {
            "recipe": recipe,
            "labels": (claimed_labels or labels).to_dict(),
            "version": imageseg.__version__,
        }
        tree = {
            WEIGHTS_KEY: state | {"loss.weight": torch.ones(2)},
            RUN_KEY: record,
            "global_step": 12,
        }
        write_checkpoint(tree, path)
        return network.eval()

    return write
