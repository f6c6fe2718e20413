"""Small valid archives for each server, written and read by other means, for the tests of submissions."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from imageseg.datasets.voc.dataset import LABELS as VOC_LABELS
from imageseg.labels import Label, LabelSpace
from imageseg.submission.build import Plan, encode_classes, write_archive
from imageseg.submission.check import CheckReport, ExpectedImage
from imageseg.submission.formats import FORMATS

C, V, B, A = "Cityscapes", "VOC", "BDD100K", "ADE20K"
# Cityscapes' ids in the order of its trainIds.
IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)


def space(values: Any) -> LabelSpace:
    return LabelSpace(tuple(Label(f"class {value}", (value, 255 - value, 9), (value,)) for value in values))


LABELS = {"Cityscapes": space(IDS), "BDD100K": space(range(19)), "ADE20K": space(range(1, 151)), "VOC": VOC_LABELS}
STEMS = {
    "Cityscapes": "berlin_{:06d}_000019_leftImg8bit",
    "VOC": "2008_{:06d}",
    "BDD100K": "cabc30fc-{:08x}",
    "ADE20K": "ADE_test_{:08d}",
}
SIZES = ((4, 6), (5, 3), (7, 7))  # as VOC has them: no two alike


def images_of(name: str) -> tuple[ExpectedImage, ...]:
    return tuple(ExpectedImage(STEMS[name].format(number), size) for number, size in enumerate(SIZES, start=1))


def plan_of(name: str, competition: str = "") -> Plan:
    rules = FORMATS[name]
    return Plan(rules, LABELS[name], images_of(name), competition or rules.default_competition)


def classes_of(name: str) -> list[np.ndarray]:
    """Every class of the dataset in turn, over the three images."""
    count, start, found = len(LABELS[name]), 0, []
    for height, width in SIZES:
        found.append(((np.arange(height * width) + start) % count).astype(np.uint8).reshape(height, width))
        start += height * width
    return found


def pngs_of(plan: Plan) -> list[bytes]:
    return [
        encode_classes(c, image, plan) for c, image in zip(classes_of(plan.rules.dataset), plan.images, strict=True)
    ]


def pack(path: Path, name: str, *, competition: str = "") -> Path:
    plan = plan_of(name, competition)
    write_archive(path, plan, pngs_of(plan))
    return path


def suffix(name: str) -> str:
    return FORMATS[name].suffixes[0]


def unpacked(path: Path) -> dict[str, Image.Image]:
    """An independent reader: name in the archive -> image."""
    if path.name.endswith(".zip"):
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
            files = {name: archive.read(name) for name in archive.namelist()}
    else:
        with tarfile.open(path, "r:gz") as tar:
            files = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    return {name: Image.open(io.BytesIO(data)) for name, data in files.items()}


def kinds(report: CheckReport) -> list[str]:
    return [fault.kind for fault in report.faults]


def saved(image: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", **options)
    return file.getvalue()


def png(values: np.ndarray, mode: str = "L") -> bytes:
    return saved(Image.fromarray(values.astype(np.uint8)).convert(mode))


def files_of(name: str) -> dict[str, bytes]:
    """Name in the archive -> bytes, for a good pack."""
    plan = plan_of(name)
    folder = plan.rules.folder.format(competition="comp5")
    return {f"{folder}{image.name}.png": data for image, data in zip(plan.images, pngs_of(plan), strict=True)}


def zipped(path: Path, files: Mapping[str, bytes] | list[tuple[str, bytes]]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items() if isinstance(files, Mapping) else files:
            archive.writestr(name, data)
    return path


def tarred(path: Path, files: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def changed(name: str, how: Callable[[np.ndarray], bytes], number: int = 0) -> dict[str, bytes]:
    """A good pack's files with one of them made anew from its values."""
    files = files_of(name)
    chosen = list(files)[number]
    files[chosen] = how(np.asarray(Image.open(io.BytesIO(files[chosen]))))
    return files


def renamed(name: str, how: Callable[[str], str]) -> dict[str, bytes]:
    return {how(entry): data for entry, data in files_of(name).items()}


def cut(path: Path, keep: int) -> Path:
    path.write_bytes(path.read_bytes()[:keep])
    return path


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 255]) + data[place + 1 :]


def gzipped(path: Path, data: bytes) -> Path:
    path.write_bytes(gzip.compress(data))
    return path
