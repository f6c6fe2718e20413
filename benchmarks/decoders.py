"""Decoding of images, masks and windows: imageseg compared with Pillow and other decoders, on one thread.

``python benchmarks/decoders.py --jpegs FOLDER --pngs FOLDER --masks FOLDER`` reads up to ``--files`` files of each folder (JPEG
images; RGB PNGs of 2048 x 1024 pixels; their label PNGs) and prints milliseconds per file: the minimum of ``--repeats`` runs for
each file, because other load on the machine can only add time. The reference is Pillow as most data loaders use it,
``np.array(Image.open(path).convert("RGB"))``; with ``--libraries``, also simplejpeg, imagecodecs and pyvips if installed
(``pip install simplejpeg imagecodecs 'pyvips[binary]'``). The benchmark stops if the decoded bytes differ.
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
    parser.add_argument("--jpegs", type=Path, required=True, help="folder of JPEG images")
    parser.add_argument("--pngs", type=Path, required=True, help="folder of RGB PNGs of 2048 x 1024 pixels")
    parser.add_argument("--masks", type=Path, required=True, help="folder of their masks, *labelIds.png")
    parser.add_argument("--files", type=int, default=8, help="maximum number of files per folder (default: 8)")
    parser.add_argument("--repeats", type=int, default=15, help="runs per file (default: 15)")
    parser.add_argument("--libraries", action="store_true", help="also compare with simplejpeg, imagecodecs and pyvips")
    parser.add_argument("--json", action="store_true", help="print one JSON list instead of a table")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    jpegs = sorted(given.jpegs.rglob("*.jpg"))[: given.files]
    pngs = sorted(given.pngs.rglob("*.png"))[: given.files]
    masks = sorted(given.masks.rglob("*labelIds.png"))[: len(pngs)]
    if not jpegs or not pngs or len(masks) < len(pngs):
        raise SystemExit("the folders must contain *.jpg, *.png and as many *labelIds.png; found too few")
    rows = [
        row("JPEG, complete", read_image, pillow, jpegs, given.repeats),
        row("PNG, complete", read_image, pillow, pngs, given.repeats),
        row("label PNG, complete", read_mask, pillow_mask, masks, given.repeats),
        row("JPEG, at half size", lambda path: OpenImage(path).read(shrink=2.0), pillow, jpegs, given.repeats, False),
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
        raise SystemExit(f"{name}: the decoded bytes differ")
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
    with Image.open(path) as image:
        return np.array(image.convert("RGB"))


def pillow_mask(path: Path) -> Any:
    with Image.open(path) as image:
        return np.array(image)


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
            library.cache_set_max(0)  # otherwise it caches decoded images
        rows.append(
            row(f"{kind}, complete: {name}", read_image, make(library), jpegs if kind == "JPEG" else pngs, repeats)
        )
    return rows


def windows(pngs: Sequence[Path], masks: Sequence[Path], repeats: int) -> list[Row]:
    """Compare the reading of a window of an image and of its mask as class indices."""
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

            def complete(item: tuple[int, Box]) -> Any:
                part = np.s_[item[1].top : item[1].bottom, item[1].left : item[1].right]
                mask = LABELS.class_of_value[pillow_mask(masks[item[0]])].astype(np.uint8)
                return stacked(pillow(pngs[item[0]])[part], mask[part])

            def mapped(item: tuple[int, Box]) -> Any:
                opened = PairFile(packed[item[0]])
                return stacked(opened.image(item[1]), opened.mask(item[1]))

            name = f"window {height} x {width}"
            rows.append(row(f"{name} of PNGs, against complete files", unpacked, complete, work, repeats))
            rows.append(row(f"{name}, packed, against complete files", mapped, complete, work, repeats))
    return rows


def stacked(image: Any, mask: Any) -> Any:
    return np.concatenate([image, mask[..., None]], axis=2)


if __name__ == "__main__":
    main()
