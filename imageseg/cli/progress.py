"""A progress bar over files, on standard error, for commands that go through many."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)


@contextlib.contextmanager
def file_progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Gives a function to call with (done, in all); draws nothing where standard error is no terminal."""
    with _bar(what, MofNCompleteColumn()) as update:
        yield update


@contextlib.contextmanager
def byte_progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """The same for (bytes done, bytes in all), with the speed."""
    with _bar(what, DownloadColumn(), TransferSpeedColumn()) as update:
        yield update


@contextlib.contextmanager
def _bar(what: str, *counts: ProgressColumn) -> Iterator[Callable[[int, int], None]]:
    columns = (TextColumn(what), *counts, BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        bar.disable = not bar.console.is_terminal
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
