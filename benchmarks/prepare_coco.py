"""Conversion of COCO's annotations to mask files, compared with the common pycocotools converter, in images per core-second.

``python benchmarks/prepare_coco.py data/COCO`` converts the annotations of one split with both. The reference is one process
that draws a mask of the full image size with pycocotools for every annotation, adds it where no class has been drawn yet, and
saves the sum with Pillow, as the COCO dataset of jfzhang95/pytorch-deeplab-xception does on the fly; it uses annToMask, which is
faster than that code's sum over an axis. Both start from the same annotation file on disk and must produce the same pixels.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.coco
from PIL import Image

from imageseg.datasets.coco.annotations import CATEGORIES, read_instances
from imageseg.datasets.coco.dataset import COCO
from imageseg.datasets.coco.masks import paint
from imageseg.datasets.voc.dataset import LABELS
from imageseg.images import encode_mask, read_mask

# pycocotools 2.0.11 warns on every call with numpy 2.
warnings.filterwarnings("ignore", message="__array__ implementation", category=DeprecationWarning)

_CLASS_OF = {category: index for index, (category, _) in enumerate(CATEGORIES) if index}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="folder of COCO, with annotations/instances_*.json")
    parser.add_argument("--year", default="2017", help="year of the annotations (default: 2017)")
    parser.add_argument("--split", default="train", help="split of the annotations (default: train)")
    parser.add_argument(
        "--copies", type=int, default=20, help="number of times the annotations are repeated (default: 20)"
    )
    parser.add_argument("--rounds", type=int, default=5, help="runs of each side; the median is reported (default: 5)")
    parser.add_argument(
        "--folder", type=Path, help="folder for the output of both (default: the temporary folder of the system)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON list instead of a table")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        root = Path(folder)
        source = given.root / "annotations" / f"instances_{given.split}{given.year}.json"
        count = write_repeated(source, root, given)
        print(f"{count} images, {given.rounds} rounds, both sides alternately", file=sys.stderr)
        results = measured(root, given, count)
    if given.json:
        print(json.dumps(results, indent=2))
    else:
        for result in results:
            print("{name:<28} {ours:>8.1f} {theirs:>8.1f} {ratio:>6.2f}  {unit}".format(**result))


def measured(root: Path, given: argparse.Namespace, count: int) -> list[dict[str, Any]]:
    annotations = root / "annotations" / f"instances_train{given.year}.json"
    images = read_instances(annotations)
    masks = [our_mask(image, annotations) for image in images]
    with contextlib.redirect_stdout(io.StringIO()):
        index = pycocotools.coco.COCO(str(annotations))
    sides: dict[str, tuple[Callable[[int], object], Callable[[int], object]]] = {
        "annotations to files": (
            lambda turn: COCO(str(root), year=given.year, masks=str(root / f"ours{turn}")).prepare(workers=1),
            lambda turn: their_files(annotations, root / f"theirs{turn}"),
        ),
        "drawing alone": (
            lambda _: [our_mask(image, annotations) for image in images],
            lambda _: [their_mask(index, image) for image in index.dataset["images"]],
        ),
        "PNG alone": (
            lambda _: [encode_mask(mask, LABELS.palette) for mask in masks],
            lambda _: [their_png(mask, io.BytesIO()) for mask in masks],
        ),
        "reading the annotations": (
            lambda _: read_instances(annotations),
            lambda _: quietly(lambda: pycocotools.coco.COCO(str(annotations))),
        ),
    }
    results = []
    for name, (ours, theirs) in sides.items():
        seconds: tuple[list[float], list[float]] = ([], [])
        for turn in range(given.rounds):
            for side, run in enumerate((ours, theirs)):
                start = time.process_time()
                run(turn)
                seconds[side].append(time.process_time() - start)
        ours_per_second, theirs_per_second = (count / statistics.median(side) for side in seconds)
        result = {"name": name, "ours": ours_per_second, "theirs": theirs_per_second}
        results.append({**result, "ratio": ours_per_second / theirs_per_second, "unit": "images per core-second"})
    check_same(root / "ours0" / f"train{given.year}", root / "theirs0")
    return results


def our_mask(image: Any, annotations: Path) -> Any:
    return paint(image, overlap="first", crowd="class", source=annotations).mask


def their_files(annotations: Path, folder: Path) -> None:
    folder.mkdir()
    index = quietly(lambda: pycocotools.coco.COCO(str(annotations)))
    for image in index.dataset["images"]:
        with (folder / f"{Path(image['file_name']).stem}.png").open("wb") as file:
            their_png(their_mask(index, image), file)


def their_mask(index: Any, image: dict[str, Any]) -> Any:
    mask = np.zeros((image["height"], image["width"]), np.uint8)
    for annotation in index.loadAnns(index.getAnnIds(imgIds=image["id"])):
        value = _CLASS_OF.get(annotation["category_id"])
        if value is not None:
            mask += (mask == 0) * (index.annToMask(annotation) * np.uint8(value))
    return mask


def their_png(mask: Any, file: Any) -> None:
    image = Image.fromarray(mask)
    image.putpalette(LABELS.palette.tobytes())
    image.save(file, format="PNG")


def quietly(call: Callable[[], Any]) -> Any:
    with contextlib.redirect_stdout(io.StringIO()):
        return call()


def check_same(ours: Path, theirs: Path) -> None:
    names = sorted(path.name for path in theirs.iterdir())
    assert names == sorted(path.name for path in ours.glob("*.png"))
    for name in names:
        assert np.array_equal(read_mask(ours / name), read_mask(theirs / name)), name


def write_repeated(source: Path, root: Path, given: argparse.Namespace) -> int:
    """Write the annotations ``copies`` times, with new ids, as the train split of a COCO folder."""
    content = json.loads(source.read_bytes())
    images, annotations = [], []
    for copy in range(given.copies):
        offset = copy * 10_000_000
        images += [
            {**image, "id": image["id"] + offset, "file_name": f"{copy:03}_{image['file_name']}"}
            for image in content["images"]
        ]
        annotations += [
            {**each, "id": each["id"] + offset * 1_000_000, "image_id": each["image_id"] + offset}
            for each in content["annotations"]
        ]
    target = root / "annotations" / f"instances_train{given.year}.json"
    target.parent.mkdir()
    target.write_text(json.dumps({**content, "images": images, "annotations": annotations}))
    (root / "images" / f"train{given.year}").mkdir(parents=True)
    return len(images)


if __name__ == "__main__":
    main()
