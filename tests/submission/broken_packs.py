"""Broken packs: for each, how it is made and what must be said of it."""

from __future__ import annotations

import io
import shutil
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from submission_packs import (
    A,
    B,
    C,
    V,
    changed,
    claiming,
    classes_of,
    cut,
    files_of,
    flipped,
    gzipped,
    png,
    renamed,
    tarred,
    zipped,
)


def text(path: Path) -> Path:
    path.write_text("not an archive")
    return path


def with_link(path: Path) -> Path:
    info = zipfile.ZipInfo("berlin_000001_000019_leftImg8bit.png")
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    rest = list(files_of("Cityscapes").items())[1:]
    return zipped(path, [(info, b"/etc/passwd"), *rest])


def encrypted(path: Path) -> Path:
    """The flag alone: nobody reads on behind it."""
    data = bytearray(zipped(path, files_of("Cityscapes")).read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(bytes(data))
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


def with_another_size(path: Path) -> Path:
    """A zip whose directory and header say one byte more than a file has."""
    files = files_of(C)
    size = struct.pack("<I", len(next(iter(files.values()))))
    deflated = zipped(path, files, compression=zipfile.ZIP_DEFLATED).read_bytes()
    for magic, place in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        start = deflated.index(magic) + place
        assert deflated[start : start + 4] == size
        deflated = deflated[:start] + struct.pack("<I", struct.unpack("<I", size)[0] + 1) + deflated[start + 4 :]
    path.write_bytes(deflated)
    return path


def sixteen_bits(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(values.astype(np.uint16)).save(file, "PNG")
    return file.getvalue()


def few_bits(values: np.ndarray) -> bytes:
    picture = Image.fromarray((values % 16).astype(np.uint8))
    picture.putpalette(bytes(range(48)))
    file = io.BytesIO()
    picture.save(file, "PNG", bits=4)
    return file.getvalue()


def link_to(name: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(f"results/VOC2012/Segmentation/comp5_test_cls/{name}")
    info.type, info.linkname = kind, "../../../../../../etc/passwd"
    return info


def of_negative_size(path: Path) -> Path:
    header = bytearray(tarfile.TarInfo("a.png").tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 11 + b"\x00"  # base 256, a negative number
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return gzipped(path, bytes(header) + bytes(1024))


def of_headers_without_end(path: Path, kind: bytes, size: int, count: int = 1) -> Path:
    info = tarfile.TarInfo("header")
    info.type, info.size = kind, size
    return gzipped(path, (info.tobuf(tarfile.GNU_FORMAT) + bytes(-(-size // 512) * 512 if count > 1 else 0)) * count)


VOC_FOLDER = "results/VOC2012/Segmentation/comp5_test_cls/"
Make = Callable[[Path], Path]

# The server, the pack, the kinds of fault, and a part of the first line.
BROKEN: dict[str, tuple[str, Make, list[str], str]] = {
    "text": (C, text, ["unreadable"], "no archive that is known here; the server wants a zip"),
    "a plain tar": (V, lambda p: tarred(p, files_of(V), "w:"), ["unreadable"], "a tar without gzip; the server wants"),
    "a png": (A, lambda p: cut(Path(shutil.copy(p.parent / "one.png", p)), 99), ["unreadable"], "it is a PNG"),
    "cut zip": (C, lambda p: cut(zipped(p, files_of(C)), 300), ["unreadable"], "the archive cannot be read: "),
    "tar.gz for zip": (C, lambda p: tarred(p, files_of(C)), ["archive"], "it is a tar.gz, and the server wants a zip"),
    "zip for tar.gz": (V, lambda p: zipped(p, files_of(V)), ["archive"], "it is a zip, and the server wants a tar.gz"),
    "empty zip": (C, lambda p: zipped(p, {}), ["empty"], "the archive holds no file"),
    "empty tar": (V, lambda p: tarred(p, {}), ["empty"], "the archive holds no file"),
    "only folders": (C, lambda p: zipped(p, {"berlin/": b""}), ["empty"], "the archive holds no file"),
    "missing": (
        C,
        lambda p: zipped(p, dict(list(files_of(C).items())[:2])),
        ["missing"],
        "1 picture has no prediction: berlin_000003_000019_leftImg8bit",
    ),
    "extra": (
        C,
        lambda p: zipped(p, {**files_of(C), "bonn_000000_000019.png": png(np.full((4, 6), 7))}),
        ["extra"],
        "1 file belongs to no picture: bonn_000000_000019.png",
    ),
    "doubled": (
        C,
        lambda p: zipped(p, {**files_of(C), "berlin/berlin_000001_000019.png": png(np.full((4, 6), 7))}),
        ["doubled"],
        "1 picture has more than one prediction: berlin_000001_000019 (berlin_000001_000019_leftImg8bit.png and berlin/b",
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
        "3 pictures have no prediction: 2008_000001, 2008_000002, 2008_000003",
    ),
    "other suffix": (
        B,
        lambda p: zipped(p, renamed(B, lambda n: n.replace(".png", ".jpg"))),
        ["suffix", "missing"],
        "3 files are no .png: cabc30fc-00000001.jpg",
    ),
    "capital suffix": (C, lambda p: zipped(p, renamed(C, str.upper)), ["suffix", "missing"], "3 files are no .png"),
    "a jpeg": (
        C,
        lambda p: zipped(p, changed(C, lambda v: b"\xff\xd8\xff\xe0 and so on")),
        ["png"],
        "1 file is no PNG, whatever its name says: berlin_000001_000019_leftImg8bit.png (JPEG)",
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
    "a png of two chunks": (
        C,
        lambda p: zipped(p, changed(C, lambda v: claiming(6, 4))),
        ["damaged"],
        "1 PNG is damaged",
    ),
    "wrong checksum in the zip": (C, with_wrong_checksum, ["damaged"], "1 PNG is damaged"),
    "another size in the zip": (C, with_another_size, ["damaged"], "1 PNG is damaged"),
    "colours": (
        C,
        lambda p: zipped(p, changed(C, lambda v: png(v, "RGB"))),
        ["mode"],
        "1 PNG holds colours; one channel of ids is wanted: berlin_000001_000019_leftImg8bit.png (RGB)",
    ),
    "colours with alpha": (B, lambda p: zipped(p, changed(B, lambda v: png(v, "RGBA"))), ["mode"], "(RGB with alpha)"),
    "grey with alpha": (A, lambda p: zipped(p, changed(A, lambda v: png(v, "LA"))), ["mode"], "(grey with alpha)"),
    "16 bits": (C, lambda p: zipped(p, changed(C, sixteen_bits)), ["depth"], "(16 bits)"),
    "4 bits": (V, lambda p: tarred(p, changed(V, few_bits)), ["depth"], "(4 bits)"),
    "1 bit": (V, lambda p: tarred(p, changed(V, lambda v: png(v, "1"))), ["depth"], "(1 bit)"),
    "half size": (
        V,
        lambda p: tarred(p, changed(V, lambda v: png(v[::2, ::2]))),
        ["size"],
        "1 prediction has another size than its picture: " + VOC_FOLDER + "2008_000001.png (3 x 2 instead of 6 x 4)",
    ),
    "on its side": (V, lambda p: tarred(p, changed(V, lambda v: png(v.T))), ["size"], "(4 x 6 instead of 6 x 4)"),
    "a picture of another": (
        V,
        lambda p: tarred(p, dict(zip(files_of(V), reversed(files_of(V).values()), strict=True))),
        ["size"],
        "2 predictions have another size than their pictures",
    ),
    "trainIds": (
        C,
        lambda p: zipped(p, {name: png(c) for name, c in zip(files_of(C), classes_of(C), strict=True)}),
        ["lookalike"],
        "3 predictions hold ids of another kind: .*they look like trainIds .*the server wants labelIds",
    ),
    "trainIds with 255": (
        C,
        lambda p: zipped(p, changed(C, lambda v: png(np.array([[255, 0, 1, 2, 10, 13]] * 4)))),
        ["ignored", "lookalike"],
        "1 prediction holds 255",
    ),
    "labelIds for bdd": (
        B,
        lambda p: zipped(p, changed(B, lambda v: png(np.array([[7, 8, 11, 23, 26, 33]] * 4)))),
        ["lookalike"],
        "they look like label ids .*the server wants train ids",
    ),
    "class indices for ade": (
        A,
        lambda p: zipped(p, changed(A, lambda v: png(v - 1))),
        ["lookalike"],
        "they look like class indices .*the server wants 1 to 150",
    ),
    "0 beside 150 for ade": (
        A,
        lambda p: zipped(p, changed(A, lambda v: png(np.array([[0, 150, 1, 1, 1, 1]] * 4)))),
        ["values"],
        r"1 prediction holds values that are no class: ADE_test_00000001.png \(0\)",
    ),
    "255 for ade": (
        A,
        lambda p: zipped(p, changed(A, lambda v: png(v * 0 + 255))),
        ["ignored"],
        "1 prediction holds 255",
    ),
    "255 for voc": (
        V,
        lambda p: tarred(p, changed(V, lambda v: png(np.where(v == 3, 255, v)))),
        ["ignored"],
        "255, which is for ignored pixels of the truth; every pixel needs a class",
    ),
    "255 for bdd": (B, lambda p: zipped(p, changed(B, lambda v: png(np.where(v == 3, 255, v)))), ["ignored"], "255"),
    "21 for voc": (
        V,
        lambda p: tarred(p, changed(V, lambda v: png(v + 20))),
        ["values"],
        "(21, 22, 23, 24, 25 and more)",
    ),
    "34 for cityscapes": (C, lambda p: zipped(p, changed(C, lambda v: png(v + 1))), ["values"], r"png \(34\)"),
    "a way out": (
        C,
        lambda p: zipped(p, {**files_of(C), "../../berlin_000009_000019.png": b""}),
        ["outside"],
        "1 name leads out of the archive: ../../berlin_000009_000019.png",
    ),
    "from the root": (V, lambda p: tarred(p, {**files_of(V), "/etc/x.png": b""}), ["outside"], "leads out"),
    "windows names": (
        V,
        lambda p: tarred(p, renamed(V, lambda n: n.replace("/", "\\"))),
        ["backslash", "missing"],
        "3 names have a backslash where servers look for /: results",
    ),
    "a link in a zip": (C, with_link, ["link"], "1 entry is a link or another special file: berlin_000001"),
    "a symlink in a tar": (
        V,
        lambda p: tarred(p, dict(list(files_of(V).items())[1:]), more=[link_to("2008_000001.png", tarfile.SYMTYPE)]),
        ["link"],
        "1 entry is a link",
    ),
    "a hard link in a tar": (
        V,
        lambda p: tarred(p, dict(list(files_of(V).items())[1:]), more=[link_to("2008_000001.png", tarfile.LNKTYPE)]),
        ["link"],
        "1 entry is a link",
    ),
    "encrypted": (C, encrypted, ["encrypted"], "1 file is encrypted: berlin_000001"),
    "bzip2": (C, lambda p: zipped(p, files_of(C), compression=zipfile.ZIP_BZIP2), ["method"], "3 files are compressed"),
    "macos": (
        C,
        lambda p: zipped(p, {**files_of(C), "__MACOSX/._berlin_000001_000019_leftImg8bit.png": b"\0\5\x16\7"}),
        ["extra"],
        "macOS adds files of its own",
    ),
    "wrong folder": (
        V,
        lambda p: tarred(p, renamed(V, lambda n: n.replace("results/", ""))),
        ["folder"],
        "3 files lie in the wrong folder: .*; the server looks in results/VOC2012/Segmentation/comp5_test_cls/ or ",
    ),
    "no folder": (V, lambda p: tarred(p, renamed(V, lambda n: Path(n).name)), ["folder"], "3 files lie in the wrong"),
    "both competitions": (
        V,
        lambda p: tarred(
            p, {n.replace("comp5", "comp6") if n.endswith("3.png") else n: d for n, d in files_of(V).items()}
        ),
        ["competition"],
        "two competitions; send each in its own: comp5, comp6",
    ),
    "cut gzip": (V, lambda p: cut(tarred(p, files_of(V)), 200), ["unreadable"], "the archive cannot be read: "),
    "wrong checksum of the gzip": (
        V,
        lambda p: p.write_bytes(flipped((d := tarred(p, files_of(V)).read_bytes()), len(d) - 6)) and p,
        ["unreadable"],
        "CRC check failed",
    ),
    "no tar in the gzip": (V, lambda p: gzipped(p, b"text" * 999), ["unreadable"], "the archive cannot be read: "),
    "a header of 2 GB": (
        V,
        lambda p: of_headers_without_end(p, tarfile.XHDTYPE, 1 << 31),
        ["unreadable"],
        "a header or file of 2147483648 bytes",
    ),
    "headers in headers": (
        V,
        lambda p: of_headers_without_end(p, tarfile.GNUTYPE_LONGNAME, 5, 5000),
        ["unreadable"],
        "the archive cannot be read: ",
    ),
    "a file of negative size": (V, of_negative_size, ["unreadable"], "the archive cannot be read: "),
}
