"""File formats for a store of decoded images: memory-mapped files compared with pread, Blosc2 b2nd, Zarr 3 and tiled TIFF.

``python benchmarks/packed_formats.py --images FOLDER`` reads the 8-bit RGB PNGs of 2048 x 1024 pixels in FOLDER (the size of
Cityscapes), writes ``--copies`` shifted copies of them with masks in every format, and reads random windows of 512 x 1024 pixels
and complete images. It prints megabytes per image, the median milliseconds per window of alternating reads, and the milliseconds
per window with ``--threads`` threads. It stops if a format returns different bytes. Files are read from the page cache, unless
``--cold`` evicts them before every window; the results then depend on the disk.

The compared libraries are not dependencies of imageseg. Install them into a separate environment with
``pip install numpy opencv-python-headless pillow blosc2 zarr tifffile imagecodecs``, and set PYTHONPATH to this repository.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from measuring import Row, report
from PIL import Image

from imageseg.pipeline.crop import Box
from imageseg.pipeline.store.pair_file import PairFile, write_pair

try:
    import blosc2
    import tifffile
    import zarr
    import zarr.codecs
except ModuleNotFoundError as error:
    missing = error.name
else:
    missing = None

TILE = 256
Window = tuple[Any, Any]


def write_ours(path: Path, image: Any, mask: Any) -> None:
    write_pair(path, image, mask)


def read_ours(path: Path, box: Box) -> Window:
    pair = PairFile(path)
    return pair.image(box).copy(), pair.mask(box).copy()


def read_pread(path: Path, box: Box) -> Window:
    """Read the rows of the window from our file with two calls of pread."""
    height, width = 1024, 2048
    rows = box.bottom - box.top
    file = os.open(path, os.O_RDONLY)
    image = os.pread(file, 3 * rows * width, 64 + 3 * box.top * width)
    mask = os.pread(file, rows * width, 64 + 3 * height * width + box.top * width)
    os.close(file)
    columns = slice(box.left, box.right)
    return (
        np.frombuffer(image, np.uint8).reshape(rows, width, 3)[:, columns].copy(),
        np.frombuffer(mask, np.uint8).reshape(rows, width)[:, columns].copy(),
    )


def write_b2nd(codec: blosc2.Codec) -> Callable[[Path, Any, Any], None]:
    def write(path: Path, image: Any, mask: Any) -> None:
        path.mkdir()
        for name, array in (("image", image), ("mask", mask)):
            blosc2.asarray(
                array,
                urlpath=str(path / f"{name}.b2nd"),
                chunks=(TILE, TILE, *array.shape[2:]),
                blocks=(64, TILE, *array.shape[2:]),
                cparams=blosc2.CParams(codec=codec, clevel=5, filters=[blosc2.Filter.NOFILTER], nthreads=1),
            )

    return write


def read_b2nd(path: Path, box: Box) -> Window:
    return tuple(
        blosc2.open(str(path / f"{name}.b2nd"), mode="r", dparams=blosc2.DParams(nthreads=1))[
            box.top : box.bottom, box.left : box.right
        ]
        for name in ("image", "mask")
    )  # type: ignore[return-value]


def write_zarr(compressors: Any) -> Callable[[Path, Any, Any], None]:
    def write(path: Path, image: Any, mask: Any) -> None:
        for name, array in (("image", image), ("mask", mask)):
            zarr.create_array(
                str(path / name), data=array, chunks=(TILE, TILE, *array.shape[2:]), compressors=compressors
            )

    return write


def read_zarr(path: Path, box: Box) -> Window:
    return tuple(
        np.asarray(zarr.open_array(str(path / name), mode="r")[box.top : box.bottom, box.left : box.right])
        for name in ("image", "mask")
    )  # type: ignore[return-value]


def write_tiff(compression: str | None) -> Callable[[Path, Any, Any], None]:
    def write(path: Path, image: Any, mask: Any) -> None:
        path.mkdir()
        for name, array in (("image", image), ("mask", mask)):
            kind = "rgb" if array.ndim == 3 else "minisblack"
            tifffile.imwrite(path / f"{name}.tif", array, tile=(TILE, TILE), compression=compression, photometric=kind)

    return write


def read_tiff(path: Path, box: Box) -> Window:
    """Decode the tiles that the window touches one by one, which is faster than tifffile's Zarr store."""
    found = []
    for name in ("image", "mask"):
        with tifffile.TiffFile(path / f"{name}.tif") as tiff:
            page = tiff.pages[0]
            across = -(-page.imagewidth // TILE)
            first, last = box.top // TILE, -(-box.bottom // TILE)
            left, right = box.left // TILE, -(-box.right // TILE)
            canvas = np.empty(((last - first) * TILE, (right - left) * TILE, *page.shape[2:]), np.uint8)
            for row in range(first, last):
                for column in range(left, right):
                    index = row * across + column
                    tiff.filehandle.seek(page.dataoffsets[index])
                    data = tiff.filehandle.read(page.databytecounts[index])
                    tile = page.decode(data, index)[0].reshape(TILE, TILE, *page.shape[2:])
                    place = np.s_[
                        (row - first) * TILE : (row - first + 1) * TILE,
                        (column - left) * TILE : (column - left + 1) * TILE,
                    ]
                    canvas[place] = tile
            top, side = box.top - first * TILE, box.left - left * TILE
            found.append(canvas[top : top + box.bottom - box.top, side : side + box.right - box.left].copy())
    return tuple(found)  # type: ignore[return-value]


@cache
def formats() -> dict[str, tuple[Callable[[Path, Any, Any], None], Callable[[Path, Box], Window]]]:
    return {
        "mapped file": (write_ours, read_ours),
        "pread of rows": (write_ours, read_pread),
        "b2nd, lz4": (write_b2nd(blosc2.Codec.LZ4), read_b2nd),
        "b2nd, zstd": (write_b2nd(blosc2.Codec.ZSTD), read_b2nd),
        "Zarr 3, plain": (write_zarr(None), read_zarr),
        "Zarr 3, zstd": (write_zarr(zarr.codecs.ZstdCodec(level=1)), read_zarr),
        "tiled TIFF, plain": (write_tiff(None), read_tiff),
        "tiled TIFF, zstd": (write_tiff("zstd"), read_tiff),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="folder of RGB PNGs of 2048 x 1024 pixels")
    parser.add_argument("--copies", type=int, default=24, help="number of images in every format (default: 24)")
    parser.add_argument("--windows", type=int, default=100, help="timed windows per format (default: 100)")
    parser.add_argument("--threads", type=int, default=4, help="threads of the parallel measurement (default: 4)")
    parser.add_argument("--cold", action="store_true", help="evict the files from the page cache before every window")
    parser.add_argument(
        "--folder", type=Path, help="folder for the files (default: the temporary folder of the system)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON list instead of a table")
    given = parser.parse_args()
    if missing is not None:
        parser.error(f"{missing} is not installed; install the libraries with the command that --help shows")
    blosc2.set_nthreads(1)
    pairs = made(given.images, given.copies)
    rows = []
    with tempfile.TemporaryDirectory(dir=given.folder) as temporary:
        folder = Path(temporary)
        sizes = {}
        for place, (name, (write, _)) in enumerate(formats().items()):
            for number, pair in enumerate(pairs):
                write(folder / f"{place}_{number}", *pair)
            made_files = [file for path in folder.glob(f"{place}_*") for file in (path, *path.rglob("*"))]
            sizes[name] = sum(file.stat().st_size for file in made_files if file.is_file()) / len(pairs)
        os.sync()
        ours = next(iter(formats()))
        for name in list(formats())[1:]:
            rows.append(Row(f"size per image: {name}", sizes[ours] / 1e6, sizes[name] / 1e6, "MB"))
        for height, width in ((512, 1024), (1024, 2048)):
            times = timed(folder, pairs, height, width, count=given.windows, cold=given.cold)
            for name in list(formats())[1:]:
                rows.append(Row(f"window {height} x {width}: {name}", times[ours], times[name], "ms"))
        speeds = {name: threaded(folder, place, given.threads) for place, name in enumerate(formats())}
        for name in list(formats())[1:]:
            rows.append(Row(f"window 512 x 1024, {given.threads} threads: {name}", speeds[ours], speeds[name], "ms"))
    report(rows, as_json=given.json)


def made(folder: Path, copies: int) -> list[Window]:
    """Return images, and masks with connected regions as in street scenes."""
    images = [np.asarray(Image.open(path).convert("RGB")) for path in sorted(folder.rglob("*.png"))]
    images = [image for image in images if image.shape == (1024, 2048, 3)]
    if not images:
        raise SystemExit(f"{folder}: contains no RGB PNG of 2048 x 1024 pixels")
    pairs = []
    for number in range(copies):
        image = np.roll(images[number % len(images)], 37 * number, axis=1)
        mask = np.repeat(np.repeat(image[::16, ::16, 0] // 14, 16, axis=0), 16, axis=1)
        pairs.append((np.ascontiguousarray(image), np.ascontiguousarray(mask)))
    return pairs


def box_of(generator: np.random.Generator, height: int, width: int) -> Box:
    top, left = int(generator.integers(1024 - height + 1)), int(generator.integers(2048 - width + 1))
    return Box(top, left, top + height, left + width)


def timed(folder: Path, pairs: list[Window], height: int, width: int, *, count: int, cold: bool) -> dict[str, float]:
    generator = np.random.default_rng(0)
    times: dict[str, list[float]] = {name: [] for name in formats()}
    for turn in range(count + len(pairs)):
        number, box = turn % len(pairs), box_of(generator, height, width)
        for place, (name, (_, read)) in enumerate(formats().items()):
            path = folder / f"{place}_{number}"
            if cold:
                drop(path)
            start = time.perf_counter()
            image, mask = read(path, box)
            if turn >= len(pairs):  # the first round warms up and checks the bytes
                times[name].append(1000 * (time.perf_counter() - start))
                continue
            expected = [array[box.top : box.bottom, box.left : box.right] for array in pairs[number]]
            if not np.array_equal(image, expected[0]) or not np.array_equal(mask, expected[1]):
                raise SystemExit(f"{name}: returns different bytes")
    return {name: statistics.median(values) for name, values in times.items()}


def threaded(folder: Path, place: int, threads: int) -> float:
    """Return the milliseconds per window with several threads, the median of five rounds; results must equal serial reads."""
    read = list(formats().values())[place][1]
    generator = np.random.default_rng(1)
    paths = sorted(folder.glob(f"{place}_*"))
    boxes = [(paths[turn % len(paths)], box_of(generator, 512, 1024)) for turn in range(64)]
    alone = [read(*box)[0].sum() for box in boxes]
    times = []
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(5):
            start = time.perf_counter()
            together = list(pool.map(lambda box: read(*box)[0], boxes))
            times.append(1000 * (time.perf_counter() - start) / len(boxes))
            if [image.sum() for image in together] != alone:
                raise SystemExit("parallel reads return different bytes")
    return statistics.median(times)


def drop(path: Path) -> None:
    """Evict files from the page cache."""
    for file in path.rglob("*") if path.is_dir() else [path]:
        if file.is_file():
            descriptor = os.open(file, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


if __name__ == "__main__":
    main()
