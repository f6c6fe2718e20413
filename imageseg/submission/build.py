"""Submission archives: predictions are compared with the test images, archived, and read back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from imageseg.atomic_files import replacing
from imageseg.errors import InputError
from imageseg.images import encode_mask, image_size, read_mask
from imageseg.labels import IGNORE, LabelSpace, voc_palette
from imageseg.parallel import Progress, in_processes
from imageseg.prediction import COMPANIONS
from imageseg.submission.archive import write_files
from imageseg.submission.check import (
    ExpectedImage,
    check_archive,
    compared,
    expected_images,
    listed,
    match_names,
)
from imageseg.submission.faults import Defect, defects_error
from imageseg.submission.formats import SubmissionFormat


@dataclass(frozen=True)
class Plan:
    """Content of a submission.

    Attributes:
        rules: Rules of the server.
        labels: Label space of the predictions.
        images: Test images that need a prediction, sorted by name.
        competition: Competition of the server, if it has several.
    """

    rules: SubmissionFormat
    labels: LabelSpace
    images: tuple[ExpectedImage, ...]
    competition: str = ""


def plan_submission(
    rules: SubmissionFormat, labels: LabelSpace, images: Sequence[Path], *, competition: str = ""
) -> Plan:
    """Read the headers of the test images and check that the label space fits the server.

    Args:
        rules: Rules of the server.
        labels: Label space of the dataset.
        images: Paths of the test images.
        competition: Competition of the server (default: its first).

    Raises:
        InputError: The competition is unknown, two images have the same name, the label space has stored values that the
            server does not score, or an image cannot be read.
    """
    rules.require_competition(competition)
    wrong = sorted(set(labels.decode(np.arange(len(labels))).tolist()) - rules.values)
    if wrong:
        raise InputError(
            f"the label space stores {', '.join(map(str, wrong[:5]))}, which the server of {rules.dataset} does not score. "
            "Use the dataset's own classes"
        )
    twice = [key for key, count in Counter(rules.key_of(image.stem) for image in images).items() if count > 1]
    if twice:
        raise InputError(f"{twice[0]}: several images have this name, and the server could not tell them apart")
    if not images:
        raise InputError(f"{rules.dataset}: the split has no images")
    return Plan(rules, labels, tuple(sorted(expected_images(images))), competition or rules.default_competition)


def match_predictions(folder: Path, plan: Plan) -> list[Path]:
    """Find the prediction of every test image, in the order of the plan; only names and headers are read.

    Args:
        folder: Folder that is searched recursively for PNGs; ``NAME_overlay.png`` and ``NAME_confidence.png`` are ignored.
        plan: Plan with the test images.

    Raises:
        InputError: Predictions are missing, duplicate, of no test image or of another size; one line lists them all.
    """
    images = {plan.rules.key_of(image.name): image for image in plan.images}
    stems = {image.name for image in plan.images}
    paths = [
        path
        for path in sorted(folder.rglob("*.png"))
        if not path.name.startswith(".") and (path.stem in stems or not path.stem.endswith(COMPANIONS))
    ]
    defects: list[Defect] = []
    matched = match_names([path.relative_to(folder).as_posix() for path in paths], plan.rules, plan.images, defects)
    for key, same in matched.items():
        path, image = paths[same[0]], images[key]
        if len(same) == 1 and (size := image_size(path)) != image.size:
            defects.append(Defect("size", path.name, compared(size, image.size)))
    if defects:
        raise defects_error(defects, folder)
    return [paths[matched[key][0]] for key in images]


def encode_files(
    paths: Sequence[Path],
    plan: Plan,
    *,
    stored: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Iterator[bytes]:
    """Yield the PNGs of an archive from prediction files, in order, with only a few in memory at a time.

    Args:
        paths: Paths returned by ``match_predictions``.
        plan: Content of the submission.
        stored: Whether pixels are stored values of the label space instead of class indices.
        workers: Number of processes (default: one per CPU core).
        progress: Callback with the number of finished files and the number of all files.

    Raises:
        InputError: Raised at the end; files contain values that are no class, all listed in one line.
    """
    defects = []
    encode = partial(_encode_file, plan=plan, stored=stored)
    jobs = list(zip(paths, plan.images, strict=True))
    for result in in_processes(encode, jobs, workers=workers, progress=progress):
        if isinstance(result, Defect):
            defects.append(result)
        elif not defects:
            yield result
    if defects:
        raise defects_error(defects, paths[0].parent)


def encode_classes(classes: npt.NDArray[Any], image: ExpectedImage, plan: Plan) -> bytes:
    """Encode a prediction in memory as a PNG of the archive.

    Args:
        classes: (H, W) class indices.
        image: Test image that was predicted.
        plan: Content of the submission.

    Raises:
        InputError: The size differs from that of the image, or a value is no class.
    """
    result = _encode(classes, image.name, image.size, plan)
    if isinstance(result, Defect):
        raise defects_error([result], "prediction")
    return result


def write_archive(path: Path, plan: Plan, pngs: Iterable[bytes], *, progress: Progress | None = None) -> None:
    """Write an archive atomically, and check it before it replaces ``path``; the same input gives the same bytes.

    Args:
        path: Path of the archive.
        plan: Content of the submission.
        pngs: One PNG per test image, in the order of the plan.
        progress: Callback with the number of checked files and the number of all files.

    Raises:
        InputError: The suffix of ``path`` does not fit the archive, or the written archive has faults.
    """
    plan.rules.require_suffix(path)
    folder = plan.rules.folder.format(competition=plan.competition)
    names = [f"{folder}{image.name}.png" for image in plan.images]
    with replacing(path) as temporary:
        write_files(temporary, plan.rules.archive, zip(names, pngs, strict=True))
        report = check_archive(
            temporary, plan.rules, images=plan.images, competition=plan.competition, progress=progress
        )
        if report.faults:
            fault = report.faults[0].message
            raise InputError(f"{path}: the written archive has a fault ({fault}). Check the disk and try again")


def _encode_file(job: tuple[Path, ExpectedImage], *, plan: Plan, stored: bool) -> bytes | Defect:
    path, image = job
    values = read_mask(path)
    if values.ndim != 2:
        return Defect("mode", path.name, hint="palette PNGs of 'imageseg predict' contain class indices")
    return _encode(plan.labels.encode(values, path) if stored else values, path.name, image.size, plan)


def _encode(classes: npt.NDArray[Any], name: str, size: tuple[int, int], plan: Plan) -> bytes | Defect:
    if classes.shape != size:
        return Defect("size", name, compared(classes.shape, size))
    if not 0 <= classes.min() <= classes.max() <= IGNORE:
        return Defect("values", name, f"{classes.min()} to {classes.max()}")
    values = np.flatnonzero(np.bincount(classes.ravel())).tolist()  # seven times as fast as np.unique
    if IGNORE in values:
        return Defect("ignored", name)
    if wrong := [value for value in values if value >= len(plan.labels)]:
        hint = f"class indices are 0 to {len(plan.labels) - 1}; for stored values pass --stored table"
        return Defect("values", name, listed(wrong), hint)
    palette = voc_palette() if plan.rules.palette else None
    return encode_mask(plan.labels.decode(classes).astype(np.uint8, copy=False), palette)
