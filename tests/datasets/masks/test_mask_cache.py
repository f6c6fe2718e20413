"""The cache of made masks: what is done stays done, what is not is made, nothing is mixed or overwritten."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import pytest

from imageseg.datasets.masks.cache import MASK_LEDGER, NOTE, MadeMask, MaskCache, Painted, is_plain_name
from imageseg.errors import InputError
from imageseg.images import read_mask

PALETTE = np.zeros((256, 3), np.uint8)


class Square(NamedTuple):
    name: str
    value: int


def paint(square: Square, *, log: Path | None = None, stop: str = "", kill: str = "") -> Painted:
    if square.name == stop:
        raise KeyboardInterrupt
    if square.name == kill:
        Path(f"{log}-worker").write_text(str(os.getpid()))
        os.kill(os.getppid(), signal.SIGKILL)
    if log is not None:
        with log.open("a") as file:
            file.write(f"{square.name}\n")
    return Painted(np.full((2, 3), square.value, np.uint8), 6, 1)


SQUARES = [Square(f"{index:03}.jpg", index % 200) for index in range(12)]


def cache_in(folder: Path, **recipe: str) -> MaskCache:
    annotations = folder.parent / "annotations.json"
    if not annotations.exists():
        annotations.write_text("{}")
    return MaskCache(folder, recipe=recipe, annotations=annotations, hint="pass another folder")


def make(
    cache: MaskCache, *, workers: int = 1, squares=SQUARES, replace: bool = False, **choices
) -> list[tuple[int, int]]:
    seen: list[tuple[int, int]] = []
    progress = lambda done, total: seen.append((done, total))  # noqa: E731
    cache.make(
        lambda: squares, partial(paint, **choices), palette=PALETTE, replace=replace, workers=workers, progress=progress
    )
    return seen


def values(folder: Path) -> list[int]:
    return [int(read_mask(path)[0, 0]) for path in sorted(folder.glob("*.png"))]


ALL = [square.value for square in SQUARES]


@pytest.mark.parametrize("workers", [1, 2])
def test_all_masks_are_made_and_noted_in_order(tmp_path, workers):
    cache = cache_in(tmp_path / "masks")
    assert not cache.exists()
    assert not cache.is_whole()
    assert make(cache, workers=workers) == [(done, 12) for done in range(1, 13)]
    assert cache.exists()
    assert cache.is_whole()
    assert values(cache.folder) == ALL
    assert list(cache.records().values()) == [MadeMask(square.name, 6, 1) for square in SQUARES]
    assert {path.name for path in cache.folder.iterdir() if path.suffix != ".png"} <= {NOTE, MASK_LEDGER, ".lock"}
    assert json.loads((cache.folder / NOTE).read_text())["made_by"].startswith("imageseg ")


def test_a_complete_cache_is_recognized_without_its_masks_and_not_made_twice(tmp_path):
    cache = cache_in(tmp_path / "masks")
    make(cache)
    for path in cache.folder.glob("*.png"):
        path.write_bytes(b"never opened")
    assert cache.is_whole()
    assert cache.is_complete()
    assert make(cache, log=tmp_path / "log") == []
    assert not (tmp_path / "log").exists()


def test_masks_that_somebody_deleted_are_made_again(tmp_path):
    cache = cache_in(tmp_path / "masks")
    make(cache)
    for name in ("003.png", "007.png"):
        (cache.folder / name).unlink()
    assert not cache.is_complete()
    make(cache, log=tmp_path / "log")
    assert (tmp_path / "log").read_text().split() == ["003.jpg", "007.jpg"]
    assert cache.is_complete()
    assert values(cache.folder) == ALL
    assert list(cache.records()) == [f"{index:03}" for index in range(12)]


def test_masks_of_other_choices_stay_unless_they_may_go(tmp_path):
    """Another run may be training on them."""
    make(cache_in(tmp_path / "masks", overlap="first"))
    before = {path: path.read_bytes() for path in (tmp_path / "masks").iterdir()}
    with pytest.raises(InputError) as refused:
        make(cache_in(tmp_path / "masks", overlap="void"))
    assert (
        "contains masks made with other options: overlap first (not void); generate them again with 'imageseg prepare'"
        in str(refused.value)
    )
    assert "or pass another folder" in str(refused.value)
    assert {path: path.read_bytes() for path in (tmp_path / "masks").iterdir()} == before
    (tmp_path / "annotations.json").write_text("[]")
    with pytest.raises(InputError, match=r"contains masks made from other annotations than .*annotations\.json"):
        make(cache_in(tmp_path / "masks", overlap="first"))


def test_an_interrupted_run_says_so_and_continues(tmp_path):
    cache = cache_in(tmp_path / "masks")
    with pytest.raises(
        KeyboardInterrupt, match=r"5 of 12 masks in .*masks are finished; run the same command again to continue"
    ):
        make(cache, stop="005.jpg")
    assert not cache.is_whole()
    assert cache.trouble() == "contains only 5 of the masks"
    assert cache.exists()
    assert make(cache, log=tmp_path / "log") == [(done, 12) for done in range(6, 13)]
    assert (tmp_path / "log").read_text().split() == [square.name for square in SQUARES[5:]]
    assert cache.is_whole()
    assert values(cache.folder) == ALL


def test_what_the_ledger_does_not_name_is_made_again(tmp_path):
    """As after a power cut: a mask that is empty, one that is cut short, and a last line without its end."""
    cache = cache_in(tmp_path / "masks")
    with pytest.raises(KeyboardInterrupt):
        make(cache, stop="005.jpg")
    (cache.folder / "005.png").write_bytes(b"")
    (cache.folder / "004.png").write_bytes(b"\x89PNG\r\n")
    ledger = (cache.folder / MASK_LEDGER).read_text()
    (cache.folder / MASK_LEDGER).write_text(ledger.replace("004.jpg\t6\t1\n", "004.jpg\t6"))
    (cache.folder / ".tmp-1-006.png").write_bytes(b"half")
    make(cache, log=tmp_path / "log")
    assert (tmp_path / "log").read_text().split() == [square.name for square in SQUARES[4:]]
    assert values(cache.folder) == ALL
    assert not list(cache.folder.glob(".tmp-*"))
    assert cache.is_whole()


def test_a_mask_enters_the_ledger_after_it_reached_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr("imageseg.ledger._FLUSH_AFTER", 4)
    cache = cache_in(tmp_path / "masks")
    flushed: list[list[str]] = []

    def flush(paths):
        names = [path.name for path in paths]
        assert not {f"{stem}.png" for stem in cache.records()} & set(names)
        assert all(path.stat().st_size for path in paths)
        flushed.append(names)

    monkeypatch.setattr("imageseg.ledger.flush", flush)
    make(cache)
    assert [len(names) for names in flushed] == [4, 4, 4, 0]


@pytest.mark.parametrize("interrupted", [False, True])
def test_other_choices_start_again_and_leave_nothing_of_the_old(tmp_path, interrupted):
    old = cache_in(tmp_path / "masks", overlap="first")
    make(old, squares=[*SQUARES, Square("old.jpg", 9)])
    new = cache_in(tmp_path / "masks", overlap="void")
    assert not new.is_whole()
    assert new.trouble() == "contains masks made with other options: overlap first (not void)"
    if interrupted:
        with pytest.raises(KeyboardInterrupt):
            make(new, replace=True, stop="005.jpg")
        assert not old.is_whole()
        assert not new.is_whole()
        assert len(list(new.folder.glob("*.png"))) == 5
    make(new, replace=not interrupted)
    assert new.is_whole()
    assert not old.is_whole()
    assert values(new.folder) == ALL


def test_whoever_replaces_masks_gets_a_warning(tmp_path, caplog):
    make(cache_in(tmp_path / "masks", overlap="first"))
    make(cache_in(tmp_path / "masks", overlap="void"), replace=True)
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path / 'masks'}: contained masks made with other options: overlap first (not void); they are generated again"
    ]


def test_other_annotations_start_again(tmp_path):
    cache = cache_in(tmp_path / "masks")
    make(cache)
    (tmp_path / "annotations.json").write_text("[]")  # as long as before
    assert not cache.is_whole()
    make(cache, replace=True, log=tmp_path / "log")
    assert len((tmp_path / "log").read_text().split()) == 12


def test_the_same_annotations_at_another_time_or_gone_are_no_reason(tmp_path):
    cache = cache_in(tmp_path / "masks")
    make(cache)
    os.utime(tmp_path / "annotations.json", (1, 1))
    assert cache.is_whole()
    (tmp_path / "annotations.json").unlink()
    assert cache.is_whole()


def test_another_format_of_ours_starts_again(tmp_path, monkeypatch):
    make(cache_in(tmp_path / "masks"))
    monkeypatch.setattr("imageseg.datasets.masks.cache._FORMAT", 2)
    assert not cache_in(tmp_path / "masks").is_whole()


def test_masks_of_unknown_origin_stay(tmp_path):
    folder = tmp_path / "masks"
    folder.mkdir()
    (folder / "000.png").write_bytes(b"somebody's")
    with pytest.raises(
        InputError, match=r"masks: contains masks without imageseg\.json, .*move them away, or pass another"
    ):
        make(cache_in(folder))
    assert (folder / "000.png").read_bytes() == b"somebody's"
    assert {path.name for path in folder.iterdir()} <= {"000.png", ".lock"}


@pytest.mark.parametrize(
    "note", ["", "{", "[]", "{}", '{"complete": true, "pictures": 12}', '{"recipe": 1, "annotations": 2}']
)
def test_a_damaged_note_starts_again(tmp_path, note):
    cache = cache_in(tmp_path / "masks")
    make(cache)
    (cache.folder / NOTE).write_text(note)
    assert not cache.is_whole()
    make(cache, replace=True)
    assert cache.is_whole()
    assert values(cache.folder) == ALL


def test_a_damaged_ledger_is_not_whole(tmp_path):
    cache = cache_in(tmp_path / "masks")
    make(cache)
    lines = (cache.folder / MASK_LEDGER).read_text().splitlines(keepends=True)
    (cache.folder / MASK_LEDGER).write_text("".join([*lines[:3], "x\n", "a\tb\tc\n", "\n", *lines[5:]]))
    assert not cache.is_whole()
    make(cache, log=tmp_path / "log")
    assert (tmp_path / "log").read_text().split() == ["003.jpg", "004.jpg"]
    assert list(cache.records()) == [f"{index:03}" for index in range(12)]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_folder_that_vanishes_or_is_none_is_one_line(tmp_path, workers):
    (tmp_path / "masks").write_text("a file")
    with pytest.raises(InputError, match=r"masks: cannot be written \(.*\); pass another folder"):
        make(cache_in(tmp_path / "masks"), workers=workers)


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    def full(path, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("imageseg.datasets.masks.cache.write_unflushed", full)
    with pytest.raises(InputError, match=r"masks: cannot be written \(No space left on device\); pass another folder"):
        make(cache_in(tmp_path / "masks"))


@pytest.mark.parametrize(
    ("name", "plain"), [("a.jpg", True), ("a b-ö.jpg", True), ("", False), (".", False), ("..", False)]
)
def test_plain_names(name, plain):
    assert is_plain_name(name) is plain
    assert not is_plain_name(f"x/{name}")


RUN = """
import sys
from pathlib import Path
sys.path[:0] = {paths!r}
from test_mask_cache import cache_in, make
if __name__ == "__main__":
    make(cache_in(Path({folder!r})), workers=2, kill={kill!r}, log=Path({log!r}))
"""


def started(tmp_path: Path, *, log: Path, kill: str = "") -> subprocess.Popen[str]:
    script = tmp_path / f"run_{log.name}.py"
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    script.write_text(RUN.format(paths=paths, folder=str(tmp_path / "masks"), kill=kill, log=str(log)))
    return subprocess.Popen([sys.executable, str(script)], stderr=subprocess.PIPE, text=True)


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
def test_a_killed_run_leaves_whole_masks_and_no_processes_and_continues(tmp_path):
    folder = tmp_path / "masks"
    run = started(tmp_path, log=tmp_path / "log", kill="005.jpg")
    run.communicate(timeout=60)
    assert run.returncode == -signal.SIGKILL
    worker = int((tmp_path / "log-worker").read_text())
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(worker).wait(timeout=60)
    left = values(folder)  # each opens
    assert set(left) <= set(ALL)
    cache = cache_in(folder)
    assert cache.exists()
    assert not cache.is_whole()
    make(cache)
    assert cache.is_whole()
    assert values(folder) == ALL
    assert not list(folder.glob(".tmp-*"))


@pytest.mark.skipif(os.name == "nt", reason="needs such locks")
def test_two_runs_at_once_make_each_mask_once(tmp_path):
    logs = [tmp_path / "log0", tmp_path / "log1"]
    runs = [started(tmp_path, log=log) for log in logs]
    assert [run.communicate(timeout=60)[1] for run in runs] == ["", ""]
    assert sorted(len(log.read_text().split()) if log.exists() else 0 for log in logs) == [0, 12]
    assert cache_in(tmp_path / "masks").is_whole()
