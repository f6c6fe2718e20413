"""Packing: the splits of a run, packed if that is asked for, and what the user sees of it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from imageseg import workers
from imageseg.datasets.base import SegmentationDataset
from imageseg.datasets.samples import PairSamples
from imageseg.pipeline.loader import Loading
from imageseg.pipeline.packed import PackedSamples, packed
from imageseg.pipeline.packing import StoreError

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Packing:
    """How a store is made, and what is said of it.

    Args:
        progress: gives a function to call with (pairs packed, in all) for the length of a block.
        say: takes a line for the user.
    """

    progress: Callable[[], AbstractContextManager[workers.Progress | None]] = nullcontext
    say: Callable[[str], None] = _log.warning

    def samples(
        self, dataset: SegmentationDataset, split: str, samples: PairSamples, loading: Loading
    ) -> PairSamples | PackedSamples:
        """The samples as they are, or packed, if that is asked for and there is room."""
        if not loading.pack:
            return samples
        try:
            with self.progress() as progress:
                return packed(dataset, split, samples, pack_folder=loading.pack_folder, progress=progress)
        except StoreError as error:
            self.say(f"{error}; training goes on without: it decodes the files of '{split}' each time")
            return samples


@contextlib.contextmanager
def packing_progress(console: Console | None = None) -> Iterator[Callable[[int, int], None]]:
    """Gives a function to call with (pictures packed, in all): a line with a bar in a terminal, ten lines elsewhere."""
    console = console or Console(stderr=True)
    if not console.is_terminal:
        yield lambda done, total: console.print(f"pack {done}/{total}") if _ends_a_tenth(done, total) else None
        return
    columns = (TextColumn("pack"), MofNCompleteColumn(), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("pack", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _ends_a_tenth(done: int, total: int) -> bool:
    return 10 * done // total > 10 * (done - 1) // total
