"""Devices and processes of a training run, as they will be before Lightning has set them up."""

from __future__ import annotations

import torch
from pytorch_lightning.utilities import rank_zero_only

from imageseg.errors import InputError
from imageseg.training.trainer_options import TrainerOptions


def is_main_process() -> bool:
    """Return whether this is the process of rank 0, the only one that prints and writes."""
    return int(getattr(rank_zero_only, "rank", 0) or 0) == 0


def number_of_processes(options: TrainerOptions) -> int:
    """Return how many processes Lightning will start, which it reports only after the number of steps is set.

    Raises:
        InputError: ``trainer.devices`` is neither a positive number nor "auto" nor a list.
    """
    if isinstance(options.devices, str) and "," in options.devices:
        devices = len([device for device in options.devices.split(",") if device.strip()])
    elif options.devices in ("auto", "-1", -1):
        devices = max(1, torch.cuda.device_count()) if options.accelerator in ("auto", "gpu", "cuda") else 1
    elif str(options.devices).isdecimal() and int(options.devices) > 0:
        devices = int(options.devices)
    else:
        raise InputError(f"trainer.devices must be a number above 0, 'auto' or a list '0,1', found {options.devices!r}")
    return max(1, devices) * options.num_nodes


def has_accelerator(options: TrainerOptions) -> bool:
    """Return whether the run uses a GPU."""
    return options.accelerator != "cpu" and (torch.cuda.is_available() or torch.backends.mps.is_available())


def device_of(options: TrainerOptions) -> torch.device:
    """Return the kind of device that the run uses."""
    if options.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("cpu" if options.accelerator in ("auto", "cpu") and not has_accelerator(options) else "mps")
