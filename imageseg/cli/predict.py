"""imageseg predict: write class maps and overlays of images."""

from __future__ import annotations

import glob
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from imageseg.cli.arguments import OneLineParser
from imageseg.errors import InputError, counted


def run(arguments: Sequence[str]) -> int:
    """Predict all images. Unreadable images are reported and skipped (exit code 3)."""
    parser = OneLineParser(
        prog="imageseg predict",
        description="Predict images at their original size. For each image, write NAME.png, a palette PNG whose pixels are class\n"
        "indices, and NAME_overlay.png, the image blended with the class colors and a legend.",
    )
    parser.add_argument("checkpoint", help="checkpoint of a training run")
    parser.add_argument(
        "images", nargs="+", help="image files, folders (searched recursively) or patterns such as 'shots/*.jpg'"
    )
    parser.add_argument("-o", "--output", default="predictions", help="folder for the results (default: predictions)")
    parser.add_argument(
        "--save-confidence",
        action="store_true",
        help="also write NAME_confidence.png, the probability of the predicted class",
    )
    parser.add_argument("--no-overlay", action="store_true", help="write class maps only")
    parser.add_argument("--device", default="auto", help="device that runs the network: auto, cpu, cuda, cuda:1, ...")
    parser.add_argument(
        "--fast",
        action="store_true",
        help="fold batch normalization and use bfloat16 on hardware that supports it natively; a few pixels may change",
    )
    given = parser.parse_args(list(arguments))
    paths = find_images(given.images)
    kinds = ["", *["_overlay"] * (not given.no_overlay), *["_confidence"] * given.save_confidence]
    targets = _targets(paths, Path(given.output), kinds)
    from imageseg.images import read_image
    from imageseg.inference.predictor import Predictor
    from imageseg.progress_bars import file_progress

    predictor = Predictor.from_checkpoint(given.checkpoint, device=given.device, fast=given.fast)
    skipped = 0
    with file_progress("predict") as progress:
        for done, (path, target) in enumerate(zip(paths, targets, strict=True), start=1):
            try:
                image = read_image(path)
                prediction = predictor(image, confidence=given.save_confidence)
            except InputError as error:
                print(f"imageseg: skipped: {error.line()}", file=sys.stderr)
                skipped += 1
                continue
            prediction.save(_file(target, ""))
            if not given.no_overlay:
                prediction.save_overlay(_file(target, "_overlay"), image)
            if given.save_confidence:
                prediction.save_confidence(_file(target, "_confidence"))
            progress(done, len(paths))
    made = counted(len(paths) - skipped, "prediction", "predictions")
    left_out = f", {counted(skipped, 'image', 'images')} skipped" if skipped else ""
    print(f"{made} in {given.output}{left_out}; their pixels are class indices ('imageseg score --stored classes')")
    return 3 if skipped else 0


def find_images(wanted: Sequence[str]) -> list[Path]:
    """List the images that files, folders and patterns name, each once, in order.

    Raises:
        InputError: A file does not exist, or a folder or pattern contains no image.
    """
    from imageseg.images import IMAGE_SUFFIXES, is_image

    found: dict[Path, Path] = {}  # by resolved path, however it is spelled
    for name in wanted:
        path = Path(name)
        if path.is_dir():
            inside = sorted(entry for entry in path.rglob("*") if is_image(entry))
            if not inside:
                raise InputError(f"{name}: contains no images ({', '.join(IMAGE_SUFFIXES)})")
        elif path.is_file():
            inside = [path]
        else:
            inside = [Path(match) for match in sorted(glob.glob(name, recursive=True)) if Path(match).is_file()]
            if not inside:
                raise InputError(f"{name}: no such file, folder or pattern")
        for image in inside:
            found.setdefault(image.resolve(), image)
    return list(found.values())


def _targets(images: Sequence[Path], output: Path, kinds: Sequence[str]) -> list[Path]:
    """Return the output path of each image without suffix; images of the same name get the name of their folder in front.

    Raises:
        InputError: Two images would write the same file, or a file would overwrite an image.
    """
    stems = Counter(image.stem for image in images)
    targets = [
        output / (p.stem if stems[p.stem] == 1 else f"{p.parent.name}_{p.stem}{p.suffix.replace('.', '_')}")
        for p in images
    ]
    written = Counter(_file(target, kind).resolve() for target in targets for kind in kinds)
    for path, times in written.items():
        if times > 1:
            raise InputError(f"{path.name}: several images would write this file. Predict them into different folders")
    for image in images:
        if image.resolve() in written:
            raise InputError(f"{image}: a prediction would overwrite it. Pass another folder with --output")
    return targets


def _file(target: Path, kind: str) -> Path:
    return target.with_name(f"{target.name}{kind}.png")
