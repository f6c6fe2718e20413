"""Packs for benchmark servers: what is written, read back by other means, and every broken pack that is told apart."""

from __future__ import annotations

import gzip
import io
import re
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from imageseg.datasets.voc import LABELS as VOC_LABELS
from imageseg.datasets.voc import voc_color
from imageseg.errors import InputError
from imageseg.images import read_mask, write_mask
from imageseg.labels import Label, LabelSpace
from imageseg.scoring import submission_archive
from imageseg.scoring.confusion import ConfusionMatrix
from imageseg.scoring.submission import (
    Plan,
    encode_classes,
    encode_files,
    match_predictions,
    plan_submission,
    write_pack,
)
from imageseg.scoring.submission_check import Picture, Report, check_pack, notes_on
from imageseg.scoring.submission_faults import _SENTENCES, Faults, printable
from imageseg.scoring.submission_formats import FORMATS, format_for, voc_palette
from imageseg.scoring.submission_png import MAX_PIXELS, encoded, examined, occurring, size_of

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


def pictures_of(name: str) -> tuple[Picture, ...]:
    return tuple(Picture(STEMS[name].format(number), size) for number, size in enumerate(SIZES, start=1))


def plan_of(name: str, competition: str = "") -> Plan:
    rules = FORMATS[name]
    return Plan(rules, LABELS[name], pictures_of(name), competition or next(iter(rules.competitions), ""))


def classes_of(name: str) -> list[np.ndarray]:
    """Every class of the dataset in turn, over the three pictures."""
    count, start, found = len(LABELS[name]), 0, []
    for height, width in SIZES:
        found.append(((np.arange(height * width) + start) % count).astype(np.uint8).reshape(height, width))
        start += height * width
    return found


def pack(path: Path, name: str, *, competition: str = "", classes: list[np.ndarray] | None = None) -> Path:
    plan = plan_of(name, competition)
    maps = classes_of(name) if classes is None else classes
    pngs = [encode_classes(values, picture, plan) for values, picture in zip(maps, plan.pictures, strict=True)]
    write_pack(path, plan, pngs, workers=1)
    return path


def suffix(name: str) -> str:
    return FORMATS[name].suffixes()[0]


def unpacked(path: Path) -> dict[str, Image.Image]:
    """An independent reader: name in the archive -> picture."""
    if path.name.endswith(".zip"):
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
            files = {name: archive.read(name) for name in archive.namelist()}
    else:
        with tarfile.open(path, "r:gz") as tar:
            files = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    return {name: Image.open(io.BytesIO(data)) for name, data in files.items()}


def kinds(report: Report) -> list[str]:
    return [fault.kind for fault in report.faults]


every_server = pytest.mark.parametrize("name", list(FORMATS))

# --- what is written ---


@every_server
def test_a_pack_holds_what_the_server_wants(name: str, tmp_path: Path) -> None:
    files = unpacked(pack(tmp_path / f"pack{suffix(name)}", name))
    folder = "results/VOC2012/Segmentation/comp5_test_cls/" if name == "VOC" else ""
    assert list(files) == [f"{folder}{picture.name}.png" for picture in pictures_of(name)]
    stored = {"Cityscapes": IDS, "BDD100K": range(19), "ADE20K": range(1, 151), "VOC": range(21)}[name]
    for picture, classes in zip(files.values(), classes_of(name), strict=True):
        assert picture.format == "PNG"
        assert picture.mode == ("P" if name == "VOC" else "L")
        assert np.array_equal(np.asarray(picture), np.array(stored)[classes])
        if name == "VOC":
            assert picture.getpalette() == [channel for value in range(256) for channel in voc_color(value)]


@every_server
def test_scores_are_the_same_before_and_after(name: str, tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    labels, maps = LABELS[name], classes_of(name)
    truth = [np.where(generator.random(m.shape) < 0.3, 255, np.roll(m, 1)).astype(np.uint8) for m in maps]
    truth = [np.where(generator.random(m.shape) < 0.5, m, t) for m, t in zip(maps, truth, strict=True)]
    before, after = ConfusionMatrix(len(labels)), ConfusionMatrix(len(labels))
    files = unpacked(pack(tmp_path / f"pack{suffix(name)}", name))
    for classes, picture, mask in zip(maps, files.values(), truth, strict=True):
        before.update(classes, mask)
        after.update(labels.encode(np.asarray(picture)), mask)
    assert np.array_equal(before.matrix, after.matrix)
    assert 0 < before.scores().miou < 1
    assert before.scores().miou == after.scores().miou


@every_server
def test_the_same_input_gives_the_same_bytes(name: str, tmp_path: Path) -> None:
    one, two = (pack(tmp_path / f"{which}{suffix(name)}", name).read_bytes() for which in ("one", "two"))
    assert one == two


def test_no_clock_and_no_user_is_in_a_pack(tmp_path: Path) -> None:
    with zipfile.ZipFile(pack(tmp_path / "pack.zip", C)) as archive:
        assert {(info.date_time, info.create_system) for info in archive.infolist()} == {((1980, 1, 1, 0, 0, 0), 3)}
    path = pack(tmp_path / "pack.tar.gz", V)
    assert path.read_bytes()[4:8] == bytes(4)  # gzip's own time
    with tarfile.open(path) as tar:
        assert {(member.mtime, member.uid, member.gid, member.uname, member.mode) for member in tar} == {
            (0, 0, 0, "", 0o644)
        }


@pytest.mark.parametrize("competition", ["comp5", "comp6"])
def test_voc_has_two_competitions(competition: str, tmp_path: Path) -> None:
    path = pack(tmp_path / "pack.tgz", "VOC", competition=competition)
    assert {str(Path(name).parent) for name in unpacked(path)} == {
        f"results/VOC2012/Segmentation/{competition}_test_cls"
    }
    rules, pictures = FORMATS["VOC"], pictures_of("VOC")
    assert kinds(check_pack(path, rules, pictures=pictures)) == []
    assert kinds(check_pack(path, rules, pictures=pictures, competition=competition)) == []
    other = "comp6" if competition == "comp5" else "comp5"
    [fault] = check_pack(path, rules, pictures=pictures, competition=other).faults
    assert fault.kind == "folder"
    assert f"the server looks in results/VOC2012/Segmentation/{other}_test_cls/" in fault.line


@every_server
def test_a_good_pack_is_good(name: str, tmp_path: Path) -> None:
    path = pack(tmp_path / f"pack{suffix(name)}", name)
    seen: list[tuple[int, int]] = []
    report = check_pack(
        path,
        FORMATS[name],
        pictures=pictures_of(name),
        workers=1,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert report.faults == []
    assert report.files == 3
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert report.to_dict()["good"] is True


def test_palette_files_and_longer_names_of_other_tools_are_good(tmp_path: Path) -> None:
    """Cityscapes' evaluator takes <city>_<sequence>_<frame>*.png in any folder, and reads palettes as indices."""
    with zipfile.ZipFile(tmp_path / "pack.zip", "w") as archive:
        for number, (height, width) in enumerate(SIZES, start=1):
            picture = Image.fromarray(np.full((height, width), 7, np.uint8))
            picture.putpalette([5] * 768)
            file = io.BytesIO()
            picture.save(file, "PNG")
            archive.writestr(f"results/berlin/berlin_{number:06d}_000019_pred_labelIds.png", file.getvalue())
            archive.mkdir(f"folder{number}")
    assert kinds(check_pack(tmp_path / "pack.zip", FORMATS["Cityscapes"], pictures=pictures_of("Cityscapes"))) == []


def test_without_the_pictures_names_and_number_are_the_official_ones(tmp_path: Path) -> None:
    path = pack(tmp_path / "pack.tar.gz", "VOC")
    [fault] = check_pack(path, FORMATS["VOC"]).faults
    assert fault.line == "the number of predictions is wrong: 3 pictures, and the test split has 1456"
    path = pack(tmp_path / "pack.zip", "ADE20K")
    report = check_pack(path, FORMATS["ADE20K"])
    assert report.faults == []  # no source says how many pictures there are
    assert "the number of pictures are not" in report.notes[0]
    path = pack(tmp_path / "bdd.zip", "BDD100K")
    assert kinds(check_pack(path, FORMATS["BDD100K"])) == ["count", "size"]


def test_only_four_datasets_have_a_server() -> None:
    assert list(FORMATS) == ["Cityscapes", "VOC", "BDD100K", "ADE20K"]
    assert all(format_for(name).dataset == name for name in FORMATS)
    with pytest.raises(
        InputError, match=r"CamVid has no benchmark server .* Cityscapes, VOC, BDD100K, ADE20K have one"
    ):
        format_for("CamVid")


def test_the_palette_is_the_development_kits() -> None:
    assert list(voc_palette()) == [channel for value in range(256) for channel in voc_color(value)]


def test_the_tables_hold_the_figures_of_the_servers() -> None:
    assert {name: rules.count for name, rules in FORMATS.items()} == {
        "Cityscapes": 1525,
        "VOC": 1456,
        "BDD100K": 2000,
        "ADE20K": None,
    }
    assert FORMATS["Cityscapes"].values == set(IDS)
    assert FORMATS["Cityscapes"].values | FORMATS["Cityscapes"].unscored == set(range(34))
    key = FORMATS["Cityscapes"].key_of
    assert key("munich_000123_000019_leftImg8bit") == key("munich_000123_000019") == "munich_000123_000019"
    assert key("munich_000123_000019") != key("munich_000123_000018_x")
    assert FORMATS["VOC"].key_of("2008_000001_x") == "2008_000001_x"  # VOC's server compares the whole name


# --- broken packs ---


def png(values: np.ndarray, mode: str = "L", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(values.astype(np.uint8)).convert(mode).save(file, "PNG", **options)
    return file.getvalue()


def files_of(name: str) -> dict[str, bytes]:
    """Name in the archive -> bytes, for a good pack."""
    plan = plan_of(name)
    return {
        f"{plan.rules.folder_for('comp5')}{picture.name}.png": encode_classes(classes, picture, plan)
        for classes, picture in zip(classes_of(name), plan.pictures, strict=True)
    }


def zipped(path: Path, files: Mapping[str, bytes] | list[tuple[Any, bytes]], **options: Any) -> Path:
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, data in files.items() if isinstance(files, Mapping) else files:
            archive.writestr(name, data)
    return path


def tarred(
    path: Path, files: Mapping[str, bytes], mode: str = "w:gz", more: list[tarfile.TarInfo] | None = None
) -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for info in more or []:
            archive.addfile(info)
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


def claiming(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header claims what it likes."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0")), (b"IEND", b""))
    body = b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


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


def gzipped(path: Path, data: bytes) -> Path:
    path.write_bytes(gzip.compress(data))
    return path


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


@pytest.mark.parametrize("case", list(BROKEN))
def test_a_broken_pack_is_told_in_one_line(case: str, tmp_path: Path) -> None:
    name, make, expected, line = BROKEN[case]
    (tmp_path / "one.png").write_bytes(png(np.full((20, 20), 7)))
    path = make(tmp_path / f"pack{suffix(name)}")
    report = check_pack(path, FORMATS[name], pictures=pictures_of(name), workers=1)
    assert kinds(report) == expected, [fault.line for fault in report.faults]
    first = report.faults[0].line if expected[-1] != "lookalike" or len(expected) > 1 else report.faults[-1].line
    assert line in first or re.search(line, first), first
    assert all("\n" not in fault.line for fault in report.faults)
    assert report.to_dict()["good"] is False


def test_there_are_cases_of_every_kind_of_fault() -> None:
    tested = {kind for _, _, expected, _ in BROKEN.values() for kind in expected}
    others = {"entries", "total", "large", "pixels", "names", "count"}  # each has a test of its own
    assert tested | others == set(_SENTENCES)


@pytest.mark.parametrize(
    ("limit", "value", "kind", "line"),
    [
        ("MAX_ENTRIES", 2, "entries", "too many files to be a submission: more than 2"),
        ("MAX_TOTAL", 200, "total", "too much to be a submission"),
        ("MAX_ENTRY", 80, "large", "files are too large to be predictions"),
    ],
)
@pytest.mark.parametrize("name", ["Cityscapes", "VOC"])
def test_limits_hold(
    name: str, limit: str, value: int, kind: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pack(tmp_path / f"pack{suffix(name)}", name)
    monkeypatch.setattr(submission_archive, limit, value)
    report = check_pack(path, FORMATS[name], pictures=pictures_of(name), workers=1)
    if (name, limit) == ("VOC", "MAX_ENTRY"):  # too small for a tar's own headers
        assert kinds(report) == ["unreadable"]
    else:
        assert kinds(report) == [kind]
        assert line in report.faults[0].line


def test_pixels_are_counted_before_they_are_decoded(tmp_path: Path) -> None:
    files = {"ADE_test_00000001.png": claiming(60_000, 60_000), "other.png": png(np.full((2, 2), 3))}
    report = check_pack(zipped(tmp_path / "pack.zip", files), FORMATS["ADE20K"])
    assert kinds(report) == ["names", "pixels"]
    assert report.faults[0].line == "1 file has a name that no test picture has: other.png"
    assert report.faults[1].line.endswith("ADE_test_00000001.png (60000 x 60000)")
    assert MAX_PIXELS < 60_000**2


def test_a_zip_that_unpacks_to_more_than_it_says_is_not_followed(tmp_path: Path) -> None:
    """The directory says 90 bytes, behind them are 50 million zeros."""
    path = zipped(tmp_path / "pack.zip", changed(C, lambda v: bytes(50_000_000)), compression=zipfile.ZIP_DEFLATED)
    data = path.read_bytes().replace(struct.pack("<I", 50_000_000), struct.pack("<I", 90))
    path.write_bytes(data)
    report = check_pack(path, FORMATS[C], pictures=pictures_of(C), workers=1)
    assert kinds(report) == ["damaged"]


def test_names_from_strangers_are_safe_to_print(tmp_path: Path) -> None:
    evil = "\x1b[2Jberlin\n.png"
    report = check_pack(zipped(tmp_path / "pack.zip", {**files_of(C), evil: b""}), FORMATS[C], pictures=pictures_of(C))
    assert kinds(report) == ["extra"]
    assert report.faults[0].line.isprintable()
    assert len(printable("x" * 5000)) == 120


def test_ids_that_never_score_and_foreign_palettes_are_notes(tmp_path: Path) -> None:
    path = zipped(tmp_path / "pack.zip", changed(C, lambda v: png(np.array([[1, 4, 7, 26, 26, 26]] * 4))))
    report = check_pack(path, FORMATS[C], pictures=pictures_of(C), workers=1)
    assert report.faults == []
    assert report.notes == ["1 predictions hold ids that are allowed and never score: 1, 4"]

    def in_own_colors(values: np.ndarray) -> bytes:
        picture = Image.fromarray(values)
        picture.putpalette([9] * 768)
        file = io.BytesIO()
        picture.save(file, "PNG")
        return file.getvalue()

    path = tarred(tmp_path / "pack.tar.gz", changed(V, in_own_colors))
    report = check_pack(path, FORMATS[V], pictures=pictures_of(V))
    assert report.faults == []
    assert "1 palettes are not the development kit's" in report.notes[-1]


def test_a_missing_pack_or_a_folder_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        check_pack(tmp_path / "pack.zip", FORMATS[C])
    with pytest.raises(InputError, match="is a folder, not an archive"):
        check_pack(tmp_path, FORMATS[C])


@pytest.fixture(scope="module")
def good_bytes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("good")
    return {name: pack(folder / f"pack{suffix(name)}", name).read_bytes() for name in (C, V)}


@given(data=st.data(), name=st.sampled_from([C, V]))
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_happens_to_a_pack_it_is_reported(
    data: st.DataObject, name: str, good_bytes: dict[str, bytes], tmp_path: Path
) -> None:
    raw = bytearray(good_bytes[name])
    if data.draw(st.booleans()) and name == V:  # behind the compression, where a flip is not caught by its checksum
        raw = bytearray(gzip.decompress(bytes(raw)))
    for place, value in data.draw(
        st.lists(st.tuples(st.integers(0, len(raw) - 1), st.integers(0, 255)), min_size=1, max_size=6)
    ):
        raw[place] = value
    raw = raw[: data.draw(st.sampled_from([len(raw), len(raw) // 2]))]
    path = tmp_path / "pack"
    path.write_bytes(bytes(raw) if raw[:1] != b"r" else gzip.compress(bytes(raw)))
    report = check_pack(path, FORMATS[name], pictures=pictures_of(name), workers=1)
    assert all(fault.line.isprintable() for fault in report.faults)
    if not report.faults and name == C:
        files = unpacked(Path(shutil.copy(path, tmp_path / "pack.zip")))
        for picture, classes in zip(files.values(), classes_of(name), strict=True):
            assert np.array_equal(np.asarray(picture), np.array(IDS)[classes])


# --- planning, matching, encoding ---


def write_pictures(folder: Path, name: str) -> list[Path]:
    folder.mkdir(parents=True)
    paths = []
    for picture in reversed(pictures_of(name)):  # a list in no order
        path = folder / f"{picture.name}.png"
        Image.fromarray(np.zeros((*picture.size, 3), np.uint8)).save(path)
        paths.append(path)
    return paths


def write_predictions(folder: Path, name: str, *, stored: bool = False) -> Path:
    folder.mkdir(parents=True)
    for picture, classes in zip(pictures_of(name), classes_of(name), strict=True):
        values = LABELS[name].decode(classes) if stored else classes
        write_mask(folder / f"{picture.name}.png", values, LABELS[name].palette)
        for other in ("overlay", "confidence"):
            (folder / f"{picture.name}_{other}.png").write_bytes(b"not looked at")
    (folder / ".hidden.png").write_bytes(b"not looked at")
    return folder


@every_server
@pytest.mark.parametrize("stored", [False, True])
def test_from_a_folder_to_a_pack(name: str, stored: bool, tmp_path: Path) -> None:
    plan = plan_submission(FORMATS[name], LABELS[name], write_pictures(tmp_path / "images", name))
    assert plan.pictures == pictures_of(name)
    paths = match_predictions(write_predictions(tmp_path / "out", name, stored=stored), plan)
    path = tmp_path / f"pack{suffix(name)}"
    write_pack(path, plan, encode_files(paths, plan, stored=stored, workers=1), workers=1)
    assert path.read_bytes() == pack(tmp_path / f"other{suffix(name)}", name).read_bytes()


def test_several_processes_write_and_check_the_same(tmp_path: Path) -> None:
    plan = plan_submission(FORMATS[C], LABELS[C], write_pictures(tmp_path / "images", C))
    paths = match_predictions(write_predictions(tmp_path / "out", C), plan)
    write_pack(tmp_path / "two.zip", plan, encode_files(paths, plan, workers=2), workers=2)
    assert (tmp_path / "two.zip").read_bytes() == pack(tmp_path / "one.zip", C).read_bytes()


def test_predictions_are_matched_as_the_server_would(tmp_path: Path) -> None:
    plan = plan_submission(FORMATS[C], LABELS[C], write_pictures(tmp_path / "images", C))
    folder = tmp_path / "out" / "berlin"
    folder.mkdir(parents=True)
    for picture, classes in zip(pictures_of(C), classes_of(C), strict=True):
        write_mask(folder / f"{picture.name[:20]}_mine.png", classes, LABELS[C].palette)
    assert [path.name for path in match_predictions(tmp_path / "out", plan)] == [
        f"berlin_00000{number}_000019_mine.png" for number in (1, 2, 3)
    ]


def test_faults_of_names_and_sizes_are_one_line_together(tmp_path: Path) -> None:
    plan = plan_submission(FORMATS[C], LABELS[C], write_pictures(tmp_path / "images", C))
    folder = write_predictions(tmp_path / "out", C)
    first, second, third = (folder / f"{picture.name}.png" for picture in pictures_of(C))
    first.unlink()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(second)
    (folder / "again").mkdir()
    shutil.copy(third, folder / "again")
    shutil.copy(third, folder / "x.png")
    with pytest.raises(InputError) as refused:
        match_predictions(folder, plan)
    assert str(refused.value) == (
        f"{folder}: 1 picture has more than one prediction: berlin_000003_000019_leftImg8bit "
        "(again/berlin_000003_000019_leftImg8bit.png and berlin_000003_000019_leftImg8bit.png); "
        "1 picture has no prediction: berlin_000001_000019_leftImg8bit; "
        "1 file belongs to no picture: x.png; "
        "1 prediction has another size than its picture: berlin_000002_000019_leftImg8bit.png (8 x 8 instead of 3 x 5)"
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (255, "1 prediction holds 255"),
        (23, r"\(23\); class indices are 0 to 18; for stored values pass --stored table"),
    ],
)
def test_values_that_are_no_class_are_refused(values: int, message: str, tmp_path: Path) -> None:
    plan = plan_submission(FORMATS[C], LABELS[C], write_pictures(tmp_path / "images", C))
    folder = write_predictions(tmp_path / "out", C)
    write_mask(folder / f"{plan.pictures[1].name}.png", np.full((5, 3), values), LABELS[C].palette)
    paths = match_predictions(folder, plan)
    with pytest.raises(InputError, match=message):
        list(encode_files(paths, plan, workers=1))


def test_stored_values_that_the_table_lacks_are_refused(tmp_path: Path) -> None:
    plan = plan_submission(FORMATS[C], LABELS[C], write_pictures(tmp_path / "images", C))
    paths = match_predictions(write_predictions(tmp_path / "out", C), plan)  # class indices, not stored values
    with pytest.raises(InputError, match=r"berlin_000001.*png: value 0 .* not in the label table"):
        list(encode_files(paths, plan, stored=True, workers=1))


def test_colours_and_16_bits_are_refused(tmp_path: Path) -> None:
    plan = plan_submission(FORMATS[C], LABELS[C], write_pictures(tmp_path / "images", C))
    folder = write_predictions(tmp_path / "out", C)
    first, second, _ = (folder / f"{picture.name}.png" for picture in plan.pictures)
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(first)
    Image.fromarray(np.full((5, 3), 700, np.uint16)).save(second)
    with pytest.raises(InputError, match=r"1 PNG holds colours.*; 1 prediction holds values .* \(700 to 700\)"):
        list(encode_files(match_predictions(folder, plan), plan, workers=1))
    Image.fromarray(np.full((5, 3), 7, np.uint16)).save(second)  # small values in 16 bits are plain enough
    first.write_bytes(encoded(classes_of(C)[0]))
    assert occurring(
        np.asarray(Image.open(io.BytesIO(list(encode_files([first, second, _], plan, workers=1))[1])))
    ) == (20,)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (np.zeros((6, 4), np.uint8), "prediction: 1 prediction has another size .*4 x 6 instead of 6 x 4"),
        (np.full((4, 6), 19), "hold.? values that are no class: berlin_000001_000019_leftImg8bit \\(19\\)"),
        (np.full((4, 6), -1), "-1 to -1"),
        (np.full((4, 6), 255), "holds 255"),
    ],
)
def test_a_prediction_in_memory_is_checked_too(classes: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        encode_classes(classes, pictures_of(C)[0], plan_of(C))


def test_a_plan_refuses_what_no_server_would_understand(tmp_path: Path) -> None:
    images = write_pictures(tmp_path / "images", C)
    with pytest.raises(
        InputError, match="the label table stores 0, 1, 2, 3, 4, which the server of Cityscapes does not"
    ):
        plan_submission(FORMATS[C], LABELS[B], images)
    with pytest.raises(InputError, match="Cityscapes has no competition 'comp6'; it has none"):
        plan_submission(FORMATS[C], LABELS[C], images, competition="comp6")
    with pytest.raises(InputError, match="VOC has no competition 'comp3'; it has comp5 and comp6"):
        plan_submission(FORMATS[V], LABELS[V], images, competition="comp3")
    with pytest.raises(InputError, match="several pictures have this name"):
        plan_submission(FORMATS[C], LABELS[C], [*images, images[0]])
    with pytest.raises(InputError, match="the split has no pictures"):
        plan_submission(FORMATS[C], LABELS[C], [])
    images[1].write_bytes(b"no picture")
    with pytest.raises(InputError, match="is not a picture in a known format"):
        plan_submission(FORMATS[C], LABELS[C], images)


def test_other_pictures_than_the_servers_are_noted() -> None:
    notes = notes_on(pictures_of(C), FORMATS[C], split="test")
    assert notes == [
        "the server scores 1525 pictures, and there are 3 here",
        "the server's pictures have 2048 x 1024 pixels, and 3 here have not (berlin_000001_000019_leftImg8bit: 6 x 4)",
    ]
    assert notes_on([Picture("mine", (9, 9))], FORMATS[A], split="test") == [
        "1 pictures are not named as the server's are (mine)"
    ]
    assert notes_on([], FORMATS[A], split="val") == ["the server scores the test split, and this is val"]


# --- whole or not at all ---


def broken_off(good: list[bytes]) -> Iterator[bytes]:
    yield from good[:2]
    raise KeyboardInterrupt


@pytest.mark.parametrize("name", [C, V])
def test_what_breaks_off_leaves_the_old_pack_and_nothing_else(name: str, tmp_path: Path) -> None:
    path, plan = tmp_path / f"pack{suffix(name)}", plan_of(name)
    pngs = [encode_classes(values, p, plan) for values, p in zip(classes_of(name), plan.pictures, strict=True)]
    path.write_text("the old pack")
    with pytest.raises(KeyboardInterrupt):
        write_pack(path, plan, broken_off(pngs), workers=1)
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        write_pack(path, plan, pngs[:2], workers=1)
    with pytest.raises(InputError, match=r"did not read back as it was written \(1 prediction has another size"):
        write_pack(path, plan, [pngs[0], pngs[0], pngs[2]], workers=1)
    assert path.read_text() == "the old pack"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("name", "wrong"), [(C, "pack.tar.gz"), (V, "pack.zip"), (V, "pack.tar"), (C, "pack")])
def test_a_pack_is_named_after_its_kind(name: str, wrong: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{wrong}: the server of {name} takes a "):
        write_pack(tmp_path / wrong, plan_of(name), [], workers=1)
    assert not list(tmp_path.iterdir())


# --- the parts ---


@given(st.integers(1, 9), st.integers(1, 9), st.booleans(), st.data())
def test_a_png_keeps_its_values(height: int, width: int, palette: bool, data: st.DataObject) -> None:
    flat = data.draw(st.lists(st.integers(0, 255), min_size=height * width, max_size=height * width))
    values = np.array(flat, np.uint8).reshape(height, width)
    written = encoded(values, voc_palette() if palette else b"")
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(written))), values)
    found = examined(written, (height, width))
    assert found.fault == ""
    assert found.values == occurring(values) == tuple(np.unique(values).tolist())
    assert found.palette == (voc_palette() if palette else b"")


def test_sizes_come_from_headers_and_stay_upright(tmp_path: Path) -> None:
    picture = Image.fromarray(np.zeros((3, 5, 3), np.uint8))
    for name in ("a.png", "a.jpg", "a.bmp"):
        picture.save(tmp_path / name)
        assert size_of(tmp_path / name) == (3, 5)
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("turned.png", "turned.jpg"):
        picture.save(tmp_path / name, exif=exif)
        assert size_of(tmp_path / name) == (5, 3)
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:20])
    with pytest.raises(InputError, match=r"cut\.png"):
        size_of(tmp_path / "cut.png")
    with pytest.raises(InputError, match="no such file"):
        size_of(tmp_path / "none.png")


def test_a_fault_of_unknown_kind_is_a_mistake_of_ours() -> None:
    with pytest.raises(KeyError):
        Faults().add("mispelt", "x")


@pytest.mark.samples
def test_real_truth_as_prediction_scores_one(samples: Path, tmp_path: Path) -> None:
    """Real masks of Cityscapes, packed as predictions with ignored pixels filled, score 1 after packing."""
    labels = LabelSpace(LABELS[C].labels, ignored_values=tuple(set(range(34)) - set(IDS)))
    masks = sorted((samples / "cityscapes" / "gtFine" / "val").rglob("*_labelIds.png"))[:3]
    truth = {mask.name.replace("gtFine_labelIds.png", "leftImg8bit"): labels.encode(read_mask(mask)) for mask in masks}
    plan = Plan(FORMATS[C], labels, tuple(Picture(name, (1024, 2048)) for name in truth))
    filled = [np.where(mask == 255, 0, mask).astype(np.uint8) for mask in truth.values()]
    pngs = [encode_classes(classes, picture, plan) for classes, picture in zip(filled, plan.pictures, strict=True)]
    write_pack(tmp_path / "pack.zip", plan, pngs, workers=1)
    confusion = ConfusionMatrix(19)
    for picture, mask in zip(unpacked(tmp_path / "pack.zip").values(), truth.values(), strict=True):
        confusion.update(labels.encode(np.asarray(picture)), mask)
    assert confusion.scores().miou == 1
