"""Ledger: entries follow their files to the disk, damaged lines do not count, and files of earlier versions are still read."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from imageseg.ledger import Ledger, content_hash, size_and_time


def ledger_in(folder: Path, *, header: dict[str, Any] | None = None) -> Ledger[str]:
    return Ledger(
        folder / "ledger.txt",
        to_line=str,
        from_line=lambda line: line if line.isalnum() else None,
        file_of=lambda name: folder / name,
        header=header,
    )


def finished(folder: Path, names: list[str], *, stop: str = "") -> Iterator[str]:
    for name in names:
        if name == stop:
            raise KeyboardInterrupt
        (folder / name).write_text(name)
        yield name


@pytest.mark.parametrize("header", [None, {"made_by": "x"}])
def test_entries_come_back_in_order(tmp_path: Path, header: dict[str, Any] | None) -> None:
    ledger = ledger_in(tmp_path, header=header)
    assert ledger.entries() == []
    assert ledger.written_ns == 0
    ledger.replace(["a", "b"])
    assert ledger.append(finished(tmp_path, ["c", "d"])) == ["c", "d"]
    assert ledger.entries() == ["a", "b", "c", "d"]
    assert ledger.written_ns == ledger.path.stat().st_mtime_ns
    ledger.replace(["d"])
    assert ledger.entries() == ["d"]


def test_entries_are_written_after_their_files_were_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, flushed = ledger_in(tmp_path), []

    def flush(paths: list[Path]) -> None:
        assert not {path.name for path in paths} & set(ledger.entries())
        flushed.append([path.name for path in paths])

    monkeypatch.setattr("imageseg.ledger.flush", flush)
    monkeypatch.setattr("imageseg.ledger._FLUSH_AFTER", 2)
    ledger.append(finished(tmp_path, list("abcde")))
    assert flushed == [["a", "b"], ["c", "d"], ["e"]]
    assert ledger.entries() == list("abcde")


def test_what_was_finished_before_an_interrupt_is_kept(tmp_path: Path) -> None:
    ledger = ledger_in(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        ledger.append(finished(tmp_path, list("abcde"), stop="d"))
    assert ledger.entries() == ["a", "b", "c"]


_KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import imageseg.ledger
from test_ledger import finished, ledger_in
imageseg.ledger._FLUSH_AFTER = 2
folder = Path(sys.argv[1])
def killed(names):
    for name in finished(folder, names):
        if name == "e":
            os.kill(os.getpid(), signal.SIGKILL)
        yield name
ledger_in(folder).append(killed(list("abcdef")))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL")
def test_after_a_kill_the_flushed_entries_are_there(tmp_path: Path) -> None:
    code = _KILLED.format(tests=str(Path(__file__).parent))
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == -signal.SIGKILL
    assert ledger_in(tmp_path).entries() == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("text", "entries"),
    [("a\nb\nc", ["a", "b"]), ("a\n??\nb\n", ["a", "b"]), ("", []), ("\n\n", []), ("a", [])],
)
def test_damaged_lines_and_a_last_line_that_was_cut_short_do_not_count(
    tmp_path: Path, text: str, entries: list[str]
) -> None:
    (tmp_path / "ledger.txt").write_text(text)
    assert ledger_in(tmp_path).entries() == entries


def test_bytes_that_are_no_text_are_no_entries(tmp_path: Path) -> None:
    (tmp_path / "ledger.txt").write_bytes(b"\x00\xff" * 40)
    for header in (None, {"made_by": "x"}):
        ledger = ledger_in(tmp_path, header=header)
        assert ledger.entries() == []
        assert not ledger.has_other_header()


def test_entries_of_another_header_do_not_count(tmp_path: Path) -> None:
    ledger_in(tmp_path, header={"made_by": "x"}).replace(["a"])
    other = ledger_in(tmp_path, header={"made_by": "y"})
    assert other.entries() == []
    assert other.has_other_header()
    assert not ledger_in(tmp_path, header={"made_by": "x"}).has_other_header()
    (tmp_path / "ledger.txt").write_text("{}\n")
    assert not other.has_other_header()  # damaged, so files may still be of use


def test_ledgers_on_the_disks_of_users_are_still_read(tmp_path: Path) -> None:
    """The lines of mask caches and packed stores as the first versions wrote them."""
    from imageseg.datasets.masks.cache import MadeMask, MaskCache
    from imageseg.pipeline.store.build import StoredPair, _ledger

    (tmp_path / "pictures.tsv").write_text("000.jpg\t6\t1\n001.jpg\t0\t0\n")
    cache = MaskCache(tmp_path, recipe={}, annotations=tmp_path / "a.json", hint="")
    assert dict(cache.records()) == {"000": MadeMask("000.jpg", 6, 1), "001": MadeMask("001.jpg", 0, 0)}
    lines = ['{"made_by": "0f"}', '["a.png", "a_mask.png", [10, 1764000000000000000, 20, 5], "00ff", 6, 7]']
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines) + "\n")
    ledger = _ledger(tmp_path, "0f")
    stored = StoredPair("a.png", "a_mask.png", [10, 1764000000000000000, 20, 5], "00ff", 6, 7)
    assert ledger.entries() == [stored]
    assert stored.bytes == 64 + 4 * 6 * 7
    before = (tmp_path / "pairs.jsonl").read_text()
    ledger.replace([stored])
    assert (tmp_path / "pairs.jsonl").read_text() == before


def test_a_changed_file_has_another_state_and_another_hash(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one")
    state, content = size_and_time(path), content_hash(path)
    os.utime(path, (1, 1))
    assert size_and_time(path) != state
    assert content_hash(path) == content
    path.write_bytes(b"two")
    assert content_hash(path) != content
