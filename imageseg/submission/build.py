"""Submissions to benchmark servers: predictions are held against their pictures, packed whole, and read back."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from imageseg.atomic_files import replacing
from imageseg.errors import InputError
from imageseg.images import image_size, read_mask
from imageseg.labels import IGNORE, LabelSpace, voc_palette
from imageseg.parallel import Progress, in_processes
from imageseg.prediction import COMPANIONS
from imageseg.submission.check import Picture, Report, check_pack
from imageseg.submission.faults import Faults
from imageseg.submission.formats import SubmissionFormat
from imageseg.submission.png import encoded, occurring


@dataclass(frozen=True)
class Plan:
    """What will be packed.

    Attributes:
        rules: of the server.
        labels: what the class indices of the predictions mean.
        pictures: of which a prediction is wanted, by name.
        competition: where the server has several.
    """

    rules: SubmissionFormat
    labels: LabelSpace
    pictures: tuple[Picture, ...]
    competition: str = ""


def plan_submission(
    rules: SubmissionFormat, labels: LabelSpace, images: Sequence[Path], *, competition: str = ""
) -> Plan:
    """Reads the pictures' headers, and checks that the label table speaks the server's language.

    Args:
        rules: of the server.
        labels: of the dataset.
        images: the split's pictures.
        competition: one of the server's; unset, its first.

    Raises:
        InputError: an unknown competition, two pictures of one name, a label table with other stored values than the
            server's, or a picture that cannot be read.
    """
    rules.require_competition(competition)
    wrong = sorted(set(labels.decode(np.arange(len(labels))).tolist()) - rules.values)
    if wrong:
        raise InputError(
            f"the label table stores {', '.join(map(str, wrong[:5]))}, which the server of {rules.dataset} does not score; "
            "a submission needs the dataset's own classes"
        )
    twice = [key for key, count in Counter(rules.key_of(image.stem) for image in images).items() if count > 1]
    if twice:
        raise InputError(f"{twice[0]}: several pictures have this name, and the server could not tell them apart")
    if not images:
        raise InputError(f"{rules.dataset}: the split has no pictures")
    pictures = sorted(Picture(image.stem, image_size(image)) for image in images)
    return Plan(rules, labels, tuple(pictures), competition or next(iter(rules.competitions), ""))


def match_predictions(folder: Path, plan: Plan) -> list[Path]:
    """The prediction of every picture, in the order of the plan; only names and headers are read.

    Args:
        folder: PNGs, in folders of any depth; ``NAME_overlay.png`` and ``NAME_confidence.png`` beside them are left out.
        plan: whose pictures are wanted.

    Raises:
        InputError: predictions that are missing, doubled, of no picture, or of another size, all in one line.
    """
    faults = Faults()
    wanted = {plan.rules.key_of(picture.name): picture for picture in plan.pictures}
    names = {picture.name for picture in plan.pictures}
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*.png")):
        if path.name.startswith(".") or (path.stem.endswith(COMPANIONS) and path.stem not in names):
            continue
        key = plan.rules.key_of(path.stem)
        if key in wanted:
            found.setdefault(key, []).append(path)
        else:
            faults.add("extra", str(path.relative_to(folder)))
    for key, picture in wanted.items():
        paths = found.get(key, [])
        if not paths:
            faults.add("missing", picture.name)
        elif len(paths) > 1:
            faults.add("doubled", picture.name, " and ".join(str(path.relative_to(folder)) for path in paths[:2]))
        elif (size := image_size(paths[0])) != picture.size:
            faults.add("size", paths[0].name, _sizes(size, picture.size))
    _refuse(faults, folder)
    return [found[key][0] for key in wanted]


def encode_files(
    paths: Sequence[Path],
    plan: Plan,
    *,
    stored: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Iterator[bytes]:
    """The PNGs of a pack from files of predictions, in order, a few at a time in memory.

    Args:
        paths: as ``match_predictions`` gives them.
        plan: what is packed.
        stored: pixels are the label table's stored values, not class indices.
        workers: processes; unset, one per processor.
        progress: called with (files done, files in all).

    Raises:
        InputError: at the end, all files that hold anything but classes, in one line.
    """
    faults = Faults()
    jobs = list(zip(paths, [picture.size for picture in plan.pictures], strict=True))
    encode = partial(_encode_file, labels=plan.labels, stored=stored, palette=_palette(plan))
    for (path, _), result in zip(jobs, in_processes(encode, jobs, workers=workers, progress=progress), strict=True):
        if result.fault:
            faults.add(result.fault, path.name, result.detail, hint=result.hint)
        elif not faults:
            yield result.png
    _refuse(faults, Path(paths[0]).parent)


def encode_classes(classes: npt.NDArray[Any], picture: Picture, plan: Plan) -> bytes:
    """The PNG of a pack from a prediction in memory.

    Args:
        classes: (H, W) class indices.
        picture: of which.
        plan: what is packed.

    Raises:
        InputError: another size than the picture's, or an index that is no class.
    """
    result = _encode(classes, picture.size, plan.labels, _palette(plan))
    faults = Faults()
    if result.fault:
        faults.add(result.fault, picture.name, result.detail, hint=result.hint)
        _refuse(faults, "prediction")
    return result.png


def write_pack(
    path: Path,
    plan: Plan,
    pngs: Iterable[bytes],
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Report:
    """Writes a pack whole or not at all, and reads it back before it takes its name; the same input, the same bytes.

    Args:
        path: the archive.
        plan: what is packed.
        pngs: one per picture, in the order of the plan.
        workers: processes for reading it back.
        progress: called with (files read back, files in all).

    Raises:
        InputError: the name's suffix is not the archive's, or what was written does not read back.
    """
    check_name(path, plan.rules)
    names = [f"{plan.rules.folder_for(plan.competition)}{picture.name}.png" for picture in plan.pictures]
    with replacing(path) as temporary:
        write = _write_zip if plan.rules.archive == "zip" else _write_tar
        write(temporary, zip(names, pngs, strict=True))
        report = check_pack(
            temporary,
            plan.rules,
            pictures=plan.pictures,
            competition=plan.competition,
            workers=workers,
            progress=progress,
        )
        if report.faults:
            raise InputError(
                f"{path}: did not read back as it was written ({report.faults[0].line}); is the disk in order?"
            )
    return report


def check_name(path: Path, rules: SubmissionFormat) -> None:
    """Raises:
    InputError: a server tells archives by their suffix, and this one is not its kind.
    """
    if not path.name.lower().endswith(rules.suffixes()):
        raise InputError(f"{path}: the server of {rules.dataset} takes a {rules.archive}; name it so")


class _Encoded(NamedTuple):
    png: bytes = b""
    fault: str = ""
    detail: str = ""
    hint: str = ""


def _encode_file(job: tuple[Path, tuple[int, int]], *, labels: LabelSpace, stored: bool, palette: bytes) -> _Encoded:
    path, size = job
    values = read_mask(path)
    if values.ndim != 2:
        return _Encoded(fault="mode", hint="palette files of 'imageseg predict' hold the indices themselves")
    if not stored:
        return _encode(values, size, labels, palette)
    return _encode(labels.encode(values, path), size, labels, palette)


def _encode(classes: npt.NDArray[Any], size: tuple[int, int], labels: LabelSpace, palette: bytes) -> _Encoded:
    if classes.shape != size:
        return _Encoded(fault="size", detail=_sizes(classes.shape, size))
    if classes.dtype != np.uint8:
        if classes.size and not 0 <= int(classes.min()) <= int(classes.max()) <= IGNORE:
            return _Encoded(fault="values", detail=f"{classes.min()} to {classes.max()}")
        classes = classes.astype(np.uint8)
    values = occurring(classes)
    if IGNORE in values:
        return _Encoded(fault="ignored")
    wrong = [value for value in values if value >= len(labels)]
    if wrong:
        shown = ", ".join(map(str, wrong[:5])) + (" and more" if len(wrong) > 5 else "")
        return _Encoded(
            fault="values",
            detail=shown,
            hint=f"class indices are 0 to {len(labels) - 1}; for stored values pass --stored table",
        )
    return _Encoded(encoded(_stored_values(labels)[classes], palette))


def _stored_values(labels: LabelSpace) -> npt.NDArray[np.uint8]:
    """Class index -> the value that the dataset stores for it."""
    return labels.decode(np.arange(len(labels))).astype(np.uint8)


def _palette(plan: Plan) -> bytes:
    return voc_palette().tobytes() if plan.rules.mode == "P" else b""


def _sizes(found: tuple[int, ...], wanted: tuple[int, int]) -> str:
    return f"{found[1]} x {found[0]} instead of {wanted[1]} x {wanted[0]}"


def _refuse(faults: Faults, source: Path | str) -> None:
    if faults:
        raise InputError(f"{source}: {'; '.join(fault.line for fault in faults.list())}")


def _write_zip(path: Path, files: Iterable[tuple[str, bytes]]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:  # a PNG is compressed already
        for name, data in files:
            info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            info.create_system = 3  # the same on every system: Unix, whose permissions these are
            info.external_attr = 0o100644 << 16
            archive.writestr(info, data)


def _write_tar(path: Path, files: Iterable[tuple[str, bytes]]) -> None:
    with (
        path.open("wb") as raw,
        closing(gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=raw, mtime=0)) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.mtime = len(data), 0o644, 0
            archive.addfile(info, io.BytesIO(data))
