"""Building the store: what is packed again and what is not, faults of the disk, kills, and concurrent processes."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from fakes import write_fake

from imageseg.datasets import build_dataset
from imageseg.datasets.pairs import Pair
from imageseg.errors import InputError
from imageseg.images import read_mask, write_image
from imageseg.labels import Label, LabelSpace
from imageseg.pipeline.store.build import (
    STORE_LEDGER,
    StoreError,
    StoreSummary,
    build_store,
    store_folder,
    stored_pairs,
)
from imageseg.pipeline.store.pair_file import bytes_of

LABELS = LabelSpace((Label("road", (1, 2, 3), (0, 1)), Label("car", (4, 5, 6), (2,))))


def write_pairs(root: Path, count: int, *, size: tuple[int, int] = (6, 7)) -> list[Pair]:
    pairs = []
    for number in range(count):
        generator = np.random.default_rng(number)
        pair = Pair(root / f"{number}.png", root / f"{number}_mask.png", str(number))
        write_image(pair.image, generator.integers(0, 256, (*size, 3), np.uint8))
        write_image(pair.mask or "", generator.integers(0, 3, size, np.uint8))
        pairs.append(pair)
    return pairs


def build(folder: Path, pairs: list[Pair], *, labels: LabelSpace = LABELS, **arguments: Any) -> StoreSummary:
    return build_store(folder, pairs, labels, read_mask, **{"workers": 1, **arguments})


def files(folder: Path) -> dict[str, int]:
    """Name -> inode: a file that is written again has another."""
    return {path.name: path.stat().st_ino for path in folder.glob("*.pair")}


class Store(NamedTuple):
    folder: Path
    pairs: list[Pair]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "store", write_pairs(tmp_path / "data", 4))
    assert build(*made) == StoreSummary(made.folder, 4, 4, 4 * bytes_of((6, 7)))
    return made


def test_a_second_packing_opens_no_file(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imageseg.pipeline.store.build._pack_pair", lambda *_, **__: pytest.fail("opened"))
    monkeypatch.setattr("imageseg.pipeline.store.build.file_lock", lambda _: pytest.fail("locked"))
    before = files(store.folder)
    assert build(*store) == StoreSummary(store.folder, 4, 0, 4 * bytes_of((6, 7)))
    assert files(store.folder) == before
    assert sorted(path.name for path in store.folder.iterdir()) == sorted([STORE_LEDGER, *before])


def test_a_touched_file_is_hashed_and_not_packed_again(store: Store) -> None:
    before = files(store.folder)
    os.utime(store.pairs[1].image, (1, 1))
    assert stored_pairs(store.folder, store.pairs, LABELS)[1] is None
    assert build(*store).done == 1
    assert files(store.folder) == before
    assert build(*store).done == 0


@pytest.mark.parametrize("changed", ["image", "mask"])
def test_a_changed_file_is_packed_again_and_its_old_one_removed(store: Store, changed: str) -> None:
    before = files(store.folder)
    new = np.zeros((6, 7, 3) if changed == "image" else (6, 7), np.uint8)
    write_image(getattr(store.pairs[2], changed), new)
    records = stored_pairs(store.folder, store.pairs, LABELS)
    assert [record is None for record in records] == [False, False, True, False]
    assert build(*store).done == 1
    after = files(store.folder)
    assert len(after) == 4
    assert len(before.items() & after.items()) == 3


def test_another_label_table_packs_all_again(store: Store) -> None:
    before = files(store.folder)
    other = LabelSpace((*LABELS.labels[::-1],))
    assert stored_pairs(store.folder, store.pairs, other) == [None] * 4
    assert build(*store, labels=other).done == 4
    assert not before.keys() & files(store.folder).keys()
    assert len(files(store.folder)) == 4


def test_what_no_pair_needs_is_removed(store: Store) -> None:
    assert build(store.folder, store.pairs[:3]) == StoreSummary(store.folder, 3, 0, 3 * bytes_of((6, 7)))
    assert len(files(store.folder)) == 3


def test_equal_pairs_share_a_file(tmp_path: Path) -> None:
    [pair] = write_pairs(tmp_path / "data", 1)
    copy = Pair(tmp_path / "copy.png", tmp_path / "copy_mask.png", "copy")
    shutil.copyfile(pair.image, copy.image)
    shutil.copyfile(pair.mask or "", copy.mask or "")
    assert build(tmp_path / "store", [pair, copy]) == StoreSummary(tmp_path / "store", 2, 2, bytes_of((6, 7)))
    assert build(tmp_path / "store", [pair, copy]).done == 0


@pytest.mark.parametrize("damage", ["short", "missing", "ledger", "last line", "nonsense"])
def test_a_damaged_store_is_repaired(store: Store, damage: str) -> None:
    ledger, victim = store.folder / STORE_LEDGER, next(store.folder.glob("*.pair"))
    before = files(store.folder)
    if damage == "short":
        victim.write_bytes(victim.read_bytes()[:-1])
    elif damage == "missing":
        victim.unlink()
    elif damage == "ledger":
        ledger.unlink()
    elif damage == "last line":
        ledger.write_text(ledger.read_text()[:-5])
    else:
        ledger.write_bytes(b"\x00\xff" * 40)
    done = build(*store).done
    assert done == {"ledger": 4, "nonsense": 4}.get(damage, 1)
    assert files(store.folder).keys() == before.keys()
    if damage in ("ledger", "last line", "nonsense"):  # intact files are not made again
        assert files(store.folder) == before
    assert build(*store).done == 0


def test_a_file_that_never_reached_the_disk_is_packed_again(store: Store) -> None:
    """After a power cut a file may be as long as it should be and hold nothing; then it is not in the ledger."""
    ledger = store.folder / STORE_LEDGER
    lines = ledger.read_text().splitlines(keepends=True)
    key = json.loads(lines[-1])[3]
    victim = store.folder / f"{key}.pair"
    content = victim.read_bytes()
    victim.write_bytes(content[:64] + bytes(len(content) - 64))
    ledger.write_text("".join(lines[:-1]))
    assert build(*store).done == 1
    assert victim.read_bytes() == content


@pytest.mark.parametrize("start", [0, 64])
def test_a_packed_file_that_somebody_wrote_to_is_checked_and_repaired(store: Store, start: int) -> None:
    path = next(store.folder.glob("*.pair"))
    content = path.read_bytes()
    path.write_bytes(content[:start] + bytes(8) + content[start + 8 :])
    later = (store.folder / "pairs.jsonl").stat().st_mtime_ns + 1
    os.utime(path, ns=(later, later))
    assert build(*store).done == 1
    assert path.read_bytes() == content
    os.utime(path, ns=(2**62, 2**62))
    build(*store)
    assert path.read_bytes() == content
    assert build(*store).done in (0, 1)


def test_a_faulty_mask_is_the_same_error_as_when_it_is_read(store: Store) -> None:
    write_image(store.pairs[3].mask or "", np.full((6, 7), 9, np.uint8))
    with pytest.raises(InputError, match=r"3_mask\.png: value 9 \(42 pixels\) is not in the label table") as caught:
        build(*store)
    assert not isinstance(caught.value, StoreError)
    with pytest.raises(InputError, match="this split has no masks"):
        build(store.folder, [Pair(store.pairs[0].image, None, "0")])


@pytest.mark.parametrize("missing", ["image", "mask"])
def test_a_file_that_vanished_is_no_fault_of_the_store(store: Store, missing: str) -> None:
    path = getattr(store.pairs[1], missing)
    path.unlink()
    with pytest.raises(InputError, match=rf"{path.name}: (no such file|cannot be read)") as caught:
        build(*store)
    assert not isinstance(caught.value, StoreError)


def test_a_file_that_is_written_meanwhile_is_an_error(tmp_path: Path) -> None:
    """Its hash may be the new file's and its pixels the old one's."""
    pairs = write_pairs(tmp_path / "data", 1)

    def read_slowly(mask: Path) -> Any:
        os.utime(pairs[0].image, (1, 1))
        return read_mask(mask)

    with pytest.raises(InputError, match=r"0\.png: it or its mask was modified during packing; pack again"):
        build_store(tmp_path / "store", pairs, LABELS, read_slowly, workers=1)
    assert files(tmp_path / "store") == {}


def test_progress_counts_what_is_there(store: Store) -> None:
    write_image(store.pairs[0].image, np.zeros((6, 7, 3), np.uint8))
    seen: list[tuple[int, int]] = []
    build(*store, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(4, 4)]


def test_too_little_room_is_one_line_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = write_pairs(tmp_path / "data", 4)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=4 * 4096 - 1))
    with pytest.raises(StoreError, match=r"store: packing 4 images needs 0\.0 MB, but only 0\.0 MB are free"):
        build(tmp_path / "store", pairs)
    assert files(tmp_path / "store") == {}
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=4 * 4096))
    assert build(tmp_path / "store", pairs).done == 4
    for pair in pairs:  # touched files need no room
        os.utime(pair.image, (1, 1))
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=0))
    assert build(tmp_path / "store", pairs).done == 4


_FULL = """
import resource, signal, sys
from pathlib import Path
from test_store_build import build, write_pairs
from imageseg.pipeline.store.build import StoreError
root = Path(sys.argv[1])
pairs = [*write_pairs(root / "data", 2), *write_pairs(root / "large", 1, size=(300, 300))]
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    build(root / "store", pairs)
except StoreError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no such limits")
def test_a_disk_that_fills_up_in_the_middle_is_one_line_and_nothing_half_written(tmp_path: Path) -> None:
    paths = os.pathsep.join([*sys.path, str(Path(__file__).parent)])
    environment = os.environ | {"PYTHONPATH": paths}
    done = subprocess.run(
        [sys.executable, "-c", _FULL, str(tmp_path)], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == f"{tmp_path / 'store'}: cannot be written (File too large); pass another pack_folder"
    assert all(path.stat().st_size == bytes_of((6, 7)) for path in (tmp_path / "store").glob("*.pair"))
    assert not list((tmp_path / "store").glob(".tmp-*"))
    pairs = [*write_pairs(tmp_path / "data", 2), *write_pairs(tmp_path / "large", 1, size=(300, 300))]
    before = files(tmp_path / "store")
    assert len(before) == 2
    assert build(tmp_path / "store", pairs).images == 3
    assert before.items() <= files(tmp_path / "store").items()


_KILLED = """
import os, signal, sys
from pathlib import Path
from test_store_build import build, write_pairs
import imageseg.pipeline.store.build as store_build
write_pair = store_build.write_pair
def counted(*arguments, made=[]):
    if len(made) == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    made.append(1)
    write_pair(*arguments)
store_build.write_pair = counted
build(Path(sys.argv[1]) / "store", write_pairs(Path(sys.argv[1]) / "data", 12))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL")
def test_after_a_kill_only_the_rest_is_packed(tmp_path: Path) -> None:
    paths = os.pathsep.join([*sys.path, str(Path(__file__).parent)])
    environment = os.environ | {"PYTHONPATH": paths}
    killed = subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path)], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    before = files(tmp_path / "store")
    assert len(before) == 5
    (tmp_path / "store" / ".tmp-1-a").write_bytes(b"half")
    pairs = [
        Pair(tmp_path / "data" / f"{number}.png", tmp_path / "data" / f"{number}_mask.png", str(number))
        for number in range(12)
    ]
    assert build(tmp_path / "store", pairs).images == 12
    assert before.items() <= files(tmp_path / "store").items()
    assert not list((tmp_path / "store").glob(".*"))


def _pack_in_a_process(folder: Path, pairs: list[Pair], results: Any) -> None:
    results.put(build(folder, pairs).done)


def test_of_two_processes_one_packs_and_the_other_waits(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "data", 30)
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    others = [
        context.Process(target=_pack_in_a_process, args=(tmp_path / "store", pairs, results), daemon=True)
        for _ in range(2)
    ]
    for other in others:
        other.start()
    done = [results.get(timeout=60) for _ in others]
    for other in others:
        other.join()
    assert sorted(done) == [0, 30]
    assert len(files(tmp_path / "store")) == 30


def test_several_processes_pack_the_same_files(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "data", 9)
    build(tmp_path / "one", pairs)
    assert build(tmp_path / "two", pairs, workers=2).done == 9
    one, two = ({path.name: path.read_bytes() for path in (tmp_path / name).glob("*.pair")} for name in ("one", "two"))
    assert one == two


def test_packing_does_not_import_torch() -> None:
    code = "import sys, imageseg.pipeline.store.build; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_thousands_of_packed_pairs_are_known_within_a_second(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted in what is opened, not in time: two files are asked for their state per pair, and the ledger."""
    asked: list[object] = []
    stat = os.stat
    monkeypatch.setattr("os.stat", lambda path, **how: (asked.append(path), stat(path, **how))[1])
    build(*store)
    monkeypatch.undo()
    assert len(asked) == 8 + 1


def test_a_store_is_in_the_root_or_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = build_dataset("CamVid", **write_fake("CamVid", tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    beside = store_folder(dataset, "train")
    assert beside.parent.parent == tmp_path / "data" / ".imageseg" / "packed"
    assert beside.name == "train"
    assert store_folder(dataset, "val").parent == beside.parent
    monkeypatch.setattr("os.access", lambda path, mode: False)
    cached = store_folder(dataset, "train")
    assert cached.parent.parent == tmp_path / "cache" / "imageseg" / "packed"
    assert store_folder(dataset, "train", tmp_path / "chosen").parent.parent == tmp_path / "chosen"
    build(beside, dataset.pairs("train"), labels=dataset.labels)
    assert store_folder(dataset, "train") == beside  # somebody packed it who may write
    monkeypatch.setattr("imageseg.pipeline.store.build.cache_folder", lambda: None)
    shutil.rmtree(beside)
    with pytest.raises(StoreError, match="is not writable, and there is no home"):
        store_folder(dataset, "train")


def test_other_choices_have_a_store_of_their_own(tmp_path: Path) -> None:
    arguments = write_fake("COCO", tmp_path)
    folders = {
        store_folder(build_dataset("COCO", **(arguments | {"min_pixels": number})), "train") for number in (-1, 5)
    }
    assert len(folders) == 2


def test_a_folder_that_may_not_be_written_is_one_line(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "data", 1)
    (tmp_path / "store").write_text("a file")
    with pytest.raises(StoreError, match=r"store: cannot be written \(.*\); pass another pack_folder"):
        build(tmp_path / "store", pairs)


def test_an_interrupted_packing_says_what_is_done(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "data", 5)

    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(
        KeyboardInterrupt, match=r"2 of 5 pairs in .* are packed; run the same command again to continue"
    ):
        build(tmp_path / "store", pairs, progress=stop)
    before = files(tmp_path / "store")
    assert build(tmp_path / "store", pairs).done == 3
    assert before.items() <= files(tmp_path / "store").items()
