"""imageseg predict: class maps and overlays of pictures."""

from __future__ import annotations

import glob
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from imageseg.cli.arguments import OneLineParser
from imageseg.errors import InputError, counted


def run(arguments: Sequence[str]) -> int:
    """Predicts every picture; a picture that cannot be read is named and skipped (exit code 3)."""
    parser = OneLineParser(
        prog="imageseg predict",
        description="Predicts pictures at their own size. For each it writes NAME.png, a palette PNG whose pixels are the class\n"
        "indices, and NAME_overlay.png, the picture under the classes' colours with a legend.",
    )
    parser.add_argument("checkpoint", help="of a training run")
    parser.add_argument(
        "pictures", nargs="+", help="files, folders (with all their pictures) or patterns such as 'shots/*.jpg'"
    )
    parser.add_argument("-o", "--output", default="predictions", help="the folder to write to (default: predictions)")
    parser.add_argument(
        "--save-confidence", action="store_true", help="also write NAME_confidence.png, the class's probability as grey"
    )
    parser.add_argument("--no-overlay", action="store_true", help="write class maps only")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument(
        "--fast",
        action="store_true",
        help="fold normalisations, and bfloat16 where it is hardware; a few pixels between two classes change",
    )
    given = parser.parse_args(list(arguments))
    pictures = find_pictures(given.pictures)
    kinds = ["", *["_overlay"] * (not given.no_overlay), *["_confidence"] * given.save_confidence]
    targets = _targets(pictures, Path(given.output), kinds)
    from imageseg.images import read_image
    from imageseg.inference.predictor import Predictor
    from imageseg.progress_bars import file_progress

    predictor = Predictor.from_checkpoint(given.checkpoint, device=given.device, fast=given.fast)
    skipped = 0
    with file_progress("predict") as progress:
        for done, (picture, target) in enumerate(zip(pictures, targets, strict=True), start=1):
            try:
                image = read_image(picture)
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
            progress(done, len(pictures))
    made = counted(len(pictures) - skipped, "prediction", "predictions")
    left_out = f", {counted(skipped, 'picture', 'pictures')} skipped" if skipped else ""
    print(f"{made} in {given.output}{left_out}; their pixels are class indices ('imageseg score --stored classes')")
    return 3 if skipped else 0


def find_pictures(wanted: Sequence[str]) -> list[Path]:
    """The pictures that files, folders and patterns name, each once, in order.

    Raises:
        InputError: a name that nothing bears.
    """
    from imageseg.images import IMAGE_SUFFIXES, is_image

    found: dict[Path, Path] = {}  # by the place on disk, however it is spelt
    for name in wanted:
        path = Path(name)
        if path.is_dir():
            inside = sorted(entry for entry in path.rglob("*") if is_image(entry))
            if not inside:
                raise InputError(f"{name}: holds no pictures ({', '.join(IMAGE_SUFFIXES)})")
        elif path.is_file():
            inside = [path]
        else:
            inside = [Path(match) for match in sorted(glob.glob(name, recursive=True)) if Path(match).is_file()]
            if not inside:
                raise InputError(f"{name}: no such file, folder or pattern")
        for picture in inside:
            found.setdefault(picture.resolve(), picture)
    return list(found.values())


def _targets(pictures: Sequence[Path], output: Path, kinds: Sequence[str]) -> list[Path]:
    """Where each picture's files go, without suffix. Pictures of one name from several folders keep their folder's name.

    Raises:
        InputError: two pictures would write one file, or a file would take the place of a picture.
    """
    stems = Counter(picture.stem for picture in pictures)
    targets = [
        output / (p.stem if stems[p.stem] == 1 else f"{p.parent.name}_{p.stem}{p.suffix.replace('.', '_')}")
        for p in pictures
    ]
    written = Counter(_file(target, kind).resolve() for target in targets for kind in kinds)
    for path, times in written.items():
        if times > 1:
            raise InputError(
                f"{path.name}: several pictures would write this file; predict them into different folders"
            )
    for picture in pictures:
        if picture.resolve() in written:
            raise InputError(f"{picture}: a prediction would take its place; pass another folder with --output")
    return targets


def _file(target: Path, kind: str) -> Path:
    return target.with_name(f"{target.name}{kind}.png")
