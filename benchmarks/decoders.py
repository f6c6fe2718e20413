"""Reading pictures, masks and windows of them: ours beside Pillow's whole files and beside other decoders, one thread.

``python benchmarks/decoders.py --jpegs FOLDER --pngs FOLDER --masks FOLDER`` takes up to ``--files`` files of each folder (JPEG
pictures; RGB PNGs of 2048 x 1024; their label PNGs) and prints milliseconds per file: both sides in turn, of each file the best of
``--repeats``, because work of others only ever adds. Theirs is Pillow as most loaders use it,
``np.array(Image.open(path).convert("RGB"))``; with ``--libraries``, also simplejpeg, imagecodecs and pyvips where they are
installed (``pip install simplejpeg imagecodecs 'pyvips[binary]'``). Every way gives the same bytes, or it stops.
"""

from __future__ import annotations

import argparse
import importlib
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from measuring import Row, report
from PIL import Image

from imageseg.datasets.pairs import OpenFiles, Pair
from imageseg.images import OpenImage, read_image, read_mask
from imageseg.labels import Label, LabelSpace
from imageseg.pipeline.crop import Box
from imageseg.pipeline.store.pair_file import PairFile, write_pair

LABELS = LabelSpace(tuple(Label(str(value), (value, 0, 0), (value,)) for value in range(64)), ignored_colors=())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("jpegs", "pngs", "masks"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--files", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--libraries", action="store_true")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    jpegs = sorted(given.jpegs.rglob("*.jpg"))[: given.files]
    pngs = sorted(given.pngs.rglob("*.png"))[: given.files]
    masks = sorted(given.masks.rglob("*labelIds.png"))[: len(pngs)]
    if not jpegs or not pngs or len(masks) < len(pngs):
        raise SystemExit("the folders hold no *.jpg, *.png or *labelIds.png")
    rows = [
        row("JPEG, whole", read_image, pillow, jpegs, given.repeats),
        row("PNG, whole", read_image, pillow, pngs, given.repeats),
        row("label PNG, whole", read_mask, pillow_mask, masks, given.repeats),
        row("JPEG, to be halved", lambda path: OpenImage(path).read(shrink=2.0), pillow, jpegs, given.repeats, False),
    ]
    if given.libraries:
        rows += others(jpegs, pngs, given.repeats)
    rows += windows(pngs, masks, given.repeats)
    report(rows, as_json=given.json)


def row(
    name: str,
    ours: Callable[[Any], Any],
    theirs: Callable[[Any], Any],
    paths: Sequence[Any],
    repeats: int,
    same: bool = True,
) -> Row:
    if same and not all(np.array_equal(ours(path), theirs(path)) for path in paths):
        raise SystemExit(f"{name}: the bytes differ")
    ways, best = [ours, theirs], {}
    for turn in range(repeats):
        for path in paths:
            for way in ways if turn % 2 else ways[::-1]:
                start = time.perf_counter()
                way(path)
                taken = 1000 * (time.perf_counter() - start)
                best[path, way] = min(taken, best.get((path, way), taken))
    return Row(name, *(sum(best[path, way] for path in paths) / len(paths) for way in ways), "ms")


def pillow(path: Path) -> Any:
    with Image.open(path) as picture:
        return np.array(picture.convert("RGB"))


def pillow_mask(path: Path) -> Any:
    with Image.open(path) as picture:
        return np.array(picture)


def others(jpegs: Sequence[Path], pngs: Sequence[Path], repeats: int) -> list[Row]:
    ways: list[tuple[str, str, Callable[[Any], Callable[[Path], Any]]]] = [
        ("JPEG", "simplejpeg", lambda library: lambda path: library.decode_jpeg(path.read_bytes(), "RGB")),
        ("JPEG", "imagecodecs", lambda library: lambda path: library.jpeg8_decode(path.read_bytes())),
        ("PNG", "imagecodecs", lambda library: lambda path: library.png_decode(path.read_bytes())),
        ("PNG", "pyvips", lambda library: lambda path: library.Image.new_from_file(str(path)).numpy()),
    ]
    rows = []
    for kind, name, make in ways:
        try:
            library = importlib.import_module(name)
        except ImportError:
            continue
        if name == "pyvips":
            library.cache_set_max(0)  # otherwise it keeps what it decoded
        rows.append(
            row(f"{kind}, whole: {name}", read_image, make(library), jpegs if kind == "JPEG" else pngs, repeats)
        )
    return rows


def windows(pngs: Sequence[Path], masks: Sequence[Path], repeats: int) -> list[Row]:
    """A picture's window and its mask's as class indices."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        packed = []
        for number, (png, mask) in enumerate(zip(pngs, masks, strict=True)):
            packed.append(Path(folder) / f"{number}.pair")
            write_pair(packed[-1], read_image(png), LABELS.encode(read_mask(mask)))
        for height, width in ((512, 1024), (256, 512)):
            generator = np.random.default_rng(0)
            work = []
            for turn in range(12):
                top, left = int(generator.integers(1024 - height + 1)), int(generator.integers(2048 - width + 1))
                work.append((turn % len(pngs), Box(top, left, top + height, left + width)))

            def unpacked(item: tuple[int, Box]) -> Any:
                opened = OpenFiles(Pair(pngs[item[0]], masks[item[0]], ""), LABELS, read_mask)
                return stacked(opened.image(item[1]), opened.mask(item[1]))

            def whole(item: tuple[int, Box]) -> Any:
                part = np.s_[item[1].top : item[1].bottom, item[1].left : item[1].right]
                mask = LABELS.class_of_value[pillow_mask(masks[item[0]])].astype(np.uint8)
                return stacked(pillow(pngs[item[0]])[part], mask[part])

            def mapped(item: tuple[int, Box]) -> Any:
                opened = PairFile(packed[item[0]])
                return stacked(opened.image(item[1]), opened.mask(item[1]))

            name = f"window {height} x {width}"
            rows.append(row(f"{name} of PNGs beside whole files", unpacked, whole, work, repeats))
            rows.append(row(f"{name}, packed, beside whole files", mapped, whole, work, repeats))
    return rows


def stacked(image: Any, mask: Any) -> Any:
    return np.concatenate([image, mask[..., None]], axis=2)


if __name__ == "__main__":
    main()
