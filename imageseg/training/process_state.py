"""State of the process that training changes and restores: environment variables, warning filters and log levels."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator

from imageseg.training.devices import is_main_process

_EXPECTED_WARNINGS = (
    (".*LeafSpec.*is deprecated", FutureWarning),  # Lightning's own use of torch
    (
        ".*sync_dist=True.*",
        UserWarning,
    ),  # scores come from counts that are summed over processes before they are logged
    (".*in eval mode at the start of training.*", UserWarning),  # a frozen encoder stays in evaluation mode
    (".*does not have many workers.*", UserWarning),  # the number is the user's choice
    (".*Checkpoint directory .* exists and is not empty.*", UserWarning),
)


@contextlib.contextmanager
def restored_process_state() -> Iterator[None]:
    """Silence expected messages of Lightning, and our own in all processes but the main one, until the block ends.

    Lightning stores seeds, ports and ranks in environment variables for the processes that it starts, and we store the run's
    folder there. Afterwards the variables, the warning filters and the log levels are what they were before.
    """
    environment = dict(os.environ)
    levels = {"pytorch_lightning": logging.WARNING} | ({} if is_main_process() else {"imageseg": logging.CRITICAL})
    before = {name: logging.getLogger(name).level for name in levels}
    with warnings.catch_warnings():
        for message, category in _EXPECTED_WARNINGS:
            warnings.filterwarnings("ignore", message=message, category=category)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        try:
            yield
        finally:
            for name, level in before.items():
                logging.getLogger(name).setLevel(level)
            for variable in os.environ.keys() - environment.keys():
                del os.environ[variable]
            os.environ.update(environment)
