"""PairFile: what is written comes back, in any window; a damaged file is known by its length, its header, its checksum."""

from __future__ import annotations

import gc
import os
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imageseg.errors import InputError
from imageseg.pipeline.crop import Box
from imageseg.pipeline.store.pair_file import DamagedPairError, PairFile, bytes_of, write_pair


def pair_of(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(height * 1000 + width)
    return generator.integers(0, 256, (height, width, 3), np.uint8), generator.integers(
        0, 20, (height, width), np.uint8
    )


@given(st.data(), st.integers(1, 40), st.integers(1, 3000))
def test_every_window_is_that_part(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, height: int, width: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "a.pair"
    image, mask = pair_of(height, width)
    write_pair(path, image, mask)
    assert path.stat().st_size == bytes_of((height, width)) == 64 + 4 * height * width
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    box = Box(top, left, data.draw(st.integers(top + 1, height)), data.draw(st.integers(left + 1, width)))
    pair = PairFile(path)
    assert pair.size == (height, width)
    assert pair.is_intact()
    np.testing.assert_array_equal(pair.image(box, shrink=3.0), image[box.top : box.bottom, box.left : box.right])
    np.testing.assert_array_equal(pair.mask(box), mask[box.top : box.bottom, box.left : box.right])


def test_windows_outlive_the_pair_and_its_file_and_are_not_to_be_written_to(tmp_path: Path) -> None:
    image, mask = pair_of(30, 40)
    write_pair(tmp_path / "a.pair", image, mask)
    window = PairFile(tmp_path / "a.pair").image(Box(5, 6, 20, 30))
    (tmp_path / "a.pair").unlink()
    gc.collect()
    np.testing.assert_array_equal(window, image[5:20, 6:30])
    assert not window.flags.writeable


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts descriptors in /proc")
def test_no_file_stays_open(tmp_path: Path) -> None:
    write_pair(tmp_path / "a.pair", *pair_of(30, 40))
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    pairs = [PairFile(tmp_path / "a.pair") for _ in range(20)]
    # Python keeps a descriptor of its own with each mapping; it goes with the pair.
    del pairs
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


@pytest.mark.parametrize("damage", ["missing", "empty", "short", "long", "size", "header", "another format", "folder"])
def test_a_damaged_file_is_known_when_it_is_opened(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a.pair"
    write_pair(path, *pair_of(30, 40))
    content = bytearray(path.read_bytes())
    if damage == "size":  # 40 x 30 has the same length
        content[8:16] = content[12:16] + content[8:12]
    if damage == "header":
        content[0] ^= 1
    if damage == "another format":
        header = b"imgseg-0" + bytes(content[8:20])
        content[:64] = header + zlib.crc32(header).to_bytes(4, "little").ljust(44, b"\0")
    changed = {"empty": b"", "short": content[:-1], "long": content + b"x"}.get(damage, bytes(content))
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage != "missing":
        path.write_bytes(changed)
    with pytest.raises(DamagedPairError, match=r"a\.pair"):
        PairFile(path)


def test_pixels_that_changed_are_known_by_their_checksum(tmp_path: Path) -> None:
    write_pair(tmp_path / "a.pair", *pair_of(30, 40))
    content = bytearray((tmp_path / "a.pair").read_bytes())
    content[-1] ^= 1
    (tmp_path / "a.pair").write_bytes(content)
    assert not PairFile(tmp_path / "a.pair").is_intact()


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux")
def test_a_file_that_loses_its_pages_is_one_error_where_the_system_can_tell(tmp_path: Path) -> None:
    """Without asking first, the process would be ended by a signal."""
    write_pair(tmp_path / "a.pair", *pair_of(300, 400))
    pair = PairFile(tmp_path / "a.pair")
    try:
        pair._map.madvise(22, 0, 4096)
    except OSError:
        pytest.skip("this Linux is older than 5.14")
    os.truncate(tmp_path / "a.pair", 4096)
    with pytest.raises(InputError, match=r"a\.pair: cannot be read .*; delete it"):
        pair.mask(Box(200, 0, 300, 400))
