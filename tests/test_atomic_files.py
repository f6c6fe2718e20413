import multiprocessing
import os
import stat
from pathlib import Path

import pytest

from imageseg import atomic_files as files
from imageseg.atomic_files import file_lock, flush, replacing, write_unflushed


def test_the_file_appears_when_the_block_ends(tmp_path):
    target = tmp_path / "new" / "folder" / "a.txt"
    with replacing(target) as temporary:
        assert temporary.parent == target.parent
        assert temporary.suffix == ".txt"
        temporary.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole"
    assert list(target.parent.iterdir()) == [target]


def test_the_old_file_is_there_until_then(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with replacing(str(target)) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"


@pytest.mark.parametrize("failure", [OSError, ValueError, KeyboardInterrupt, SystemExit])
def test_a_failure_keeps_the_old_file_and_leaves_no_other(tmp_path, failure):
    target = tmp_path / "a.txt"
    target.write_text("old")

    def write_half():
        with replacing(target) as temporary:
            temporary.write_text("ha")
            raise failure

    with pytest.raises(failure):
        write_half()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_target_that_cannot_be_replaced_leaves_no_temporary(tmp_path):
    target = tmp_path / "a"
    target.mkdir()
    with pytest.raises(OSError, match="directory"), replacing(target) as temporary:
        temporary.write_text("new")
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_permissions_follow_the_umask(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        with replacing(tmp_path / "a") as temporary:
            temporary.write_text("x")
        assert os.umask(umask) == umask  # looked up, not changed
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == mode


def test_an_unflushed_file_is_whole_or_the_old_one(tmp_path, monkeypatch):
    target = tmp_path / "a.png"
    write_unflushed(str(target), b"old")
    assert target.read_bytes() == b"old"

    def fail(old, new):
        raise OSError("no")

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="no"):
            write_unflushed(str(target), b"new")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]
    write_unflushed(str(target), b"new")
    assert target.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_unflushed_files_follow_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        write_unflushed(str(tmp_path / "a"), b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize("many", [False, True])
def test_flushing_goes_one_by_one_or_all_at_once(tmp_path, monkeypatch, many):
    paths = [tmp_path / f"{index}" for index in range(files._FEW + 1 if many else 3)]
    for path in paths:
        write_unflushed(str(path), b"x")
    called: list[str] = []
    monkeypatch.setattr(files, "_flush", lambda path: called.append(path.name))
    monkeypatch.setattr(os, "sync", lambda: called.append("all"), raising=False)
    flush(paths)
    flush([])
    assert called == (["all"] if many and os.name != "nt" else [*(path.name for path in paths), tmp_path.name])


def count_up(folder: str, times: int) -> None:
    """Reads, adds one, writes: without a lock, two processes lose counts."""
    path = Path(folder) / "count"
    for _ in range(times):
        with file_lock(Path(folder) / ".lock"):
            path.write_text(str(int(path.read_text() or 0) + 1))


@pytest.mark.skipif(os.name == "nt", reason="no such locks")
def test_one_at_a_time(tmp_path: Path) -> None:
    (tmp_path / "count").write_text("0")
    context = multiprocessing.get_context("spawn")
    others = [context.Process(target=count_up, args=(str(tmp_path), 200)) for _ in range(2)]
    for other in others:
        other.start()
    count_up(str(tmp_path), 200)
    for other in others:
        other.join()
    assert (tmp_path / "count").read_text() == "600"
    assert [path.name for path in tmp_path.iterdir()] == ["count"], "no lock is left behind"
