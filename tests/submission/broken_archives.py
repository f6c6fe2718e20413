"""Broken archives: for each, how it is made, the kinds of fault and the line that reports them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from archives import (
    A,
    B,
    C,
    V,
    changed,
    classes_of,
    cut,
    files_of,
    flipped,
    gzipped,
    png,
    renamed,
    saved,
    tarred,
    zipped,
)
from PIL import Image


def text(path: Path) -> Path:
    path.write_text("not an archive")
    return path


def with_two_of_a_name(path: Path) -> Path:
    files = list(files_of("Cityscapes").items())
    with pytest.warns(UserWarning, match="Duplicate name"):
        return zipped(path, [*files, files[0]])


def with_wrong_checksum(path: Path) -> Path:
    """A zip whose stored bytes changed on the way."""
    data = zipped(path, files_of("Cityscapes")).read_bytes()
    path.write_bytes(flipped(data, data.index(b"IDAT") + 5))
    return path


def with_empty_name(path: Path) -> Path:
    """A zip with a file whose name ends before its first letter."""
    data = zipped(path, {**files_of("Cityscapes"), "~~~~": b""}).read_bytes()
    path.write_bytes(data.replace(b"~~~~", b"\0~~~"))
    return path


def sixteen_bits(values: np.ndarray) -> bytes:
    return saved(Image.fromarray(values.astype(np.uint16)))


def few_bits(values: np.ndarray) -> bytes:
    image = Image.fromarray((values % 16).astype(np.uint8))
    image.putpalette(bytes(range(48)))
    return saved(image, bits=4)


VOC_FOLDER = "results/VOC2012/Segmentation/comp5_test_cls/"
Make = Callable[[Path], Path]

# The server, the archive, the kinds of fault, and a part of the first line.
BROKEN: dict[str, tuple[str, Make, list[str], str]] = {
    "text": (C, text, ["unreadable"], "it is neither a zip nor a tar.gz; the server expects a zip"),
    "cut zip": (C, lambda p: cut(zipped(p, files_of(C)), 300), ["unreadable"], "the archive cannot be read: "),
    "tar.gz for zip": (
        C,
        lambda p: tarred(p, files_of(C)),
        ["archive"],
        "it is a tar.gz, and the server expects a zip",
    ),
    "zip for tar.gz": (
        V,
        lambda p: zipped(p, files_of(V)),
        ["archive"],
        "it is a zip, and the server expects a tar.gz",
    ),
    "empty zip": (C, lambda p: zipped(p, {}), ["empty"], "the archive contains no file"),
    "empty tar": (V, lambda p: tarred(p, {}), ["empty"], "the archive contains no file"),
    "only folders": (C, lambda p: zipped(p, {"berlin/": b""}), ["empty"], "the archive contains no file"),
    "missing": (
        C,
        lambda p: zipped(p, dict(list(files_of(C).items())[:2])),
        ["missing"],
        "1 image has no prediction: berlin_000003_000019_leftImg8bit",
    ),
    "extra": (
        C,
        lambda p: zipped(p, {**files_of(C), "bonn_000000_000019.png": png(np.full((4, 6), 7))}),
        ["extra"],
        "1 file belongs to no image: bonn_000000_000019.png",
    ),
    "doubled": (
        C,
        lambda p: zipped(p, {**files_of(C), "berlin/berlin_000001_000019.png": png(np.full((4, 6), 7))}),
        ["doubled"],
        "1 image has more than one prediction: berlin_000001_000019 (berlin_000001_000019_leftImg8bit.png and berlin/b",
    ),
    "one name twice": (
        C,
        with_two_of_a_name,
        ["doubled"],
        "berlin_000001_000019 (berlin_000001_000019_leftImg8bit.png and berlin_",
    ),
    "voc names with a tail": (
        V,
        lambda p: tarred(p, renamed(V, lambda n: n.replace(".png", "_pred.png"))),
        ["missing", "extra"],
        "3 images have no prediction: 2008_000001, 2008_000002, 2008_000003",
    ),
    "other suffix": (
        B,
        lambda p: zipped(p, renamed(B, lambda n: n.replace(".png", ".jpg"))),
        ["suffix", "missing"],
        "3 files are no .png: cabc30fc-00000001.jpg",
    ),
    "empty name": (C, with_empty_name, ["suffix"], "1 file is no .png"),
    "capital suffix": (C, lambda p: zipped(p, renamed(C, str.upper)), ["suffix", "missing"], "3 files are no .png"),
    "a jpeg": (
        C,
        lambda p: zipped(p, changed(C, lambda v: b"\xff\xd8\xff\xe0 and so on")),
        ["png"],
        "1 file is no PNG, despite its name: berlin_000001_000019_leftImg8bit.png",
    ),
    "an empty file": (C, lambda p: zipped(p, changed(C, lambda v: b"")), ["png"], "(empty)"),
    "a changed pixel": (
        C,
        lambda p: zipped(p, changed(C, lambda v: (d := png(v)) and flipped(d, d.index(b"IDAT") + 8))),
        ["damaged"],
        "1 PNG is damaged: berlin_000001",
    ),
    "a wrong checksum in the png": (
        C,
        lambda p: zipped(p, changed(C, lambda v: (d := png(v)) and flipped(d, d.index(b"IEND") - 5))),
        ["damaged"],
        "1 PNG is damaged: berlin_000001",
    ),
    "a cut png": (C, lambda p: zipped(p, changed(C, lambda v: png(v)[:-20])), ["damaged"], "1 PNG is damaged"),
    "wrong checksum in the zip": (C, with_wrong_checksum, ["damaged"], "1 PNG is damaged"),
    "colors": (
        C,
        lambda p: zipped(p, changed(C, lambda v: png(v, "RGB"))),
        ["mode"],
        "1 PNG contains colors; one channel of ids is required: berlin_000001_000019_leftImg8bit.png (RGB)",
    ),
    "colors with alpha": (B, lambda p: zipped(p, changed(B, lambda v: png(v, "RGBA"))), ["mode"], "(RGB with alpha)"),
    "gray with alpha": (A, lambda p: zipped(p, changed(A, lambda v: png(v, "LA"))), ["mode"], "(gray with alpha)"),
    "16 bits": (C, lambda p: zipped(p, changed(C, sixteen_bits)), ["depth"], "(16 bits)"),
    "4 bits": (V, lambda p: tarred(p, changed(V, few_bits)), ["depth"], "(4 bits)"),
    "1 bit": (V, lambda p: tarred(p, changed(V, lambda v: png(v, "1"))), ["depth"], "(1 bit)"),
    "half size": (
        V,
        lambda p: tarred(p, changed(V, lambda v: png(v[::2, ::2]))),
        ["size"],
        "1 prediction has another size than its image: " + VOC_FOLDER + "2008_000001.png (3 x 2 instead of 6 x 4)",
    ),
    "on its side": (V, lambda p: tarred(p, changed(V, lambda v: png(v.T))), ["size"], "(4 x 6 instead of 6 x 4)"),
    "an image of another": (
        V,
        lambda p: tarred(p, dict(zip(files_of(V), reversed(files_of(V).values()), strict=True))),
        ["size"],
        "2 predictions have another size than their images",
    ),
    "trainIds": (
        C,
        lambda p: zipped(p, {name: png(c) for name, c in zip(files_of(C), classes_of(C), strict=True)}),
        ["lookalike"],
        "3 predictions contain ids of another kind: .*they look like trainIds .*the server expects labelIds",
    ),
    "trainIds with 255": (
        C,
        lambda p: zipped(p, changed(C, lambda v: png(np.array([[255, 0, 1, 2, 10, 13]] * 4)))),
        ["ignored", "lookalike"],
        "1 prediction contains 255",
    ),
    "labelIds for bdd": (
        B,
        lambda p: zipped(p, changed(B, lambda v: png(np.array([[7, 8, 11, 23, 26, 33]] * 4)))),
        ["lookalike"],
        "they look like label ids .*the server expects train ids",
    ),
    "class indices for ade": (
        A,
        lambda p: zipped(p, changed(A, lambda v: png(v - 1))),
        ["lookalike"],
        "they look like class indices .*the server expects 1 to 150",
    ),
    "0 beside 150 for ade": (
        A,
        lambda p: zipped(p, changed(A, lambda v: png(np.array([[0, 150, 1, 1, 1, 1]] * 4)))),
        ["values"],
        r"1 prediction contains values that are no class: ADE_test_00000001.png \(0\)",
    ),
    "255 for ade": (
        A,
        lambda p: zipped(p, changed(A, lambda v: png(v * 0 + 255))),
        ["ignored"],
        "1 prediction contains 255",
    ),
    "255 for voc": (
        V,
        lambda p: tarred(p, changed(V, lambda v: png(np.where(v == 3, 255, v)))),
        ["ignored"],
        "255, which marks ignored pixels of the ground truth; every pixel needs a class",
    ),
    "255 for bdd": (B, lambda p: zipped(p, changed(B, lambda v: png(np.where(v == 3, 255, v)))), ["ignored"], "255"),
    "21 for voc": (
        V,
        lambda p: tarred(p, changed(V, lambda v: png(v + 20))),
        ["values"],
        "(21, 22, 23, 24, 25 and more)",
    ),
    "34 for cityscapes": (C, lambda p: zipped(p, changed(C, lambda v: png(v + 1))), ["values"], r"png \(34\)"),
    "macos": (
        C,
        lambda p: zipped(p, {**files_of(C), "__MACOSX/._berlin_000001_000019_leftImg8bit.png": b"\0\5\x16\7"}),
        ["extra"],
        "macOS adds its own files",
    ),
    "wrong folder": (
        V,
        lambda p: tarred(p, renamed(V, lambda n: n.replace("results/", ""))),
        ["folder"],
        "3 files are in the wrong folder: .*; the server expects results/VOC2012/Segmentation/comp5_test_cls/ or ",
    ),
    "no folder": (V, lambda p: tarred(p, renamed(V, lambda n: Path(n).name)), ["folder"], "3 files are in the wrong"),
    "both competitions": (
        V,
        lambda p: tarred(
            p, {n.replace("comp5", "comp6") if n.endswith("3.png") else n: d for n, d in files_of(V).items()}
        ),
        ["competition"],
        "two competitions; submit each in a separate archive: comp5, comp6",
    ),
    "cut gzip": (V, lambda p: cut(tarred(p, files_of(V)), 200), ["unreadable"], "the archive cannot be read: "),
    "wrong checksum of the gzip": (
        V,
        lambda p: p.write_bytes(flipped((d := tarred(p, files_of(V)).read_bytes()), len(d) - 6)) and p,
        ["unreadable"],
        "CRC check failed",
    ),
    "no tar in the gzip": (V, lambda p: gzipped(p, b"text" * 999), ["unreadable"], "the archive cannot be read: "),
}
