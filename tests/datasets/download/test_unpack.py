"""unpack: honest archives whole, hostile ones not at all, and nothing outside the folder is ever touched."""

import bz2
import contextlib
import gzip
import io
import lzma
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from imageseg.datasets.download import unpack as unpacking
from imageseg.datasets.download.unpack import unpack
from imageseg.errors import InputError

FILES = {"kit/a.txt": b"a", "kit/deep/er/b.bin": bytes(range(256)) * 10, "top.txt": b"top"}


def tar_of(*members: tarfile.TarInfo | tuple[str, bytes], format: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member, io.BytesIO(bytes(member.size)))
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
    return buffer.getvalue()


def zip_of(*members: tuple[str | zipfile.ZipInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


def special(kind: bytes, *, name: str = "kit/x", target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = target
    return info


def zip_special(mode: int, *, name: str = "kit/x") -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system = 3  # Unix
    info.external_attr = mode << 16
    return info


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with something beside the place where archives are unpacked."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "secret.txt").write_text("secret")
    (tmp_path / "home" / "root").mkdir()
    return tmp_path / "home"


def written(home: Path, content: bytes, name: str = "it.archive") -> Path:
    path = home / name
    path.write_bytes(content)
    return path


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refusal(archive: Path, folder: Path) -> str:
    with pytest.raises(InputError) as refused:
        unpack(archive, folder)
    line = refused.value.line()
    assert "\n" not in line
    assert line.startswith(f"{archive}: ")
    return line


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tar.bz2", "tar.xz", "gnu"])
def test_every_kind_of_archive(home: Path, kind: str) -> None:
    plain = tar_of(*FILES.items(), format=tarfile.GNU_FORMAT if kind == "gnu" else tarfile.PAX_FORMAT)
    content = {
        "zip": lambda: zip_of(*FILES.items()),
        "tar": lambda: plain,
        "gnu": lambda: plain,
        "tar.gz": lambda: gzip.compress(plain),
        "tar.bz2": lambda: bz2.compress(plain),
        "tar.xz": lambda: lzma.compress(plain),
    }[kind]()
    seen: list[tuple[int, int]] = []
    # The suffix is wrong on purpose: SBD's benchmark.tgz is no gzip file.
    top = unpack(
        written(home, content, "it.tgz"), home / "root", progress=lambda done, total: seen.append((done, total))
    )
    assert top == ["kit", "top.txt"]
    assert tree(home / "root") == FILES
    assert len(seen) == 3
    assert all(0 < done <= total == len(content) for done, total in seen)


def test_folders_and_long_names(home: Path) -> None:
    name = "kit/" + "/".join(["long" * 20] * 3) + "/" + "n" * 150 + ".txt"
    folder = tarfile.TarInfo("./kit/empty/")
    folder.type = tarfile.DIRTYPE
    unpack(written(home, tar_of(folder, (name, b"x"))), home / "root")
    assert tree(home / "root") == {name: b"x"}
    assert (home / "root/kit/empty").is_dir()


def test_files_from_before_stay_or_are_replaced(home: Path) -> None:
    for name, content in {"kit/a.txt": "old", "kit/mine.txt": "mine", "kit/deep/own.txt": "own"}.items():
        (home / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (home / "root" / name).write_text(content)
    unpack(written(home, zip_of(*FILES.items())), home / "root")
    assert tree(home / "root") == FILES | {"kit/mine.txt": b"mine", "kit/deep/own.txt": b"own"}


def test_what_a_killed_run_left_does_not_matter(home: Path) -> None:
    archive = written(home, zip_of(*FILES.items()))
    (home / "root" / f".unpacking-{archive.name}" / "kit").mkdir(parents=True)
    (home / "root" / f".unpacking-{archive.name}" / "kit" / "half.bin").write_bytes(b"half")
    unpack(archive, home / "root")
    assert tree(home / "root") == FILES


def test_a_link_in_the_place_of_the_hidden_folder_is_not_followed(home: Path) -> None:
    archive = written(home, zip_of(*FILES.items()))
    (home / "root" / f".unpacking-{archive.name}").symlink_to(home)
    unpack(archive, home / "root")
    assert tree(home / "root") == FILES
    assert (home / "secret.txt").read_text() == "secret"


def test_modes_of_the_archive_do_not_count(home: Path) -> None:
    info = tarfile.TarInfo("kit/run.sh")
    info.mode = 0o4777
    info.size = 1
    unpack(written(home, tar_of(info)), home / "root")
    assert stat.S_IMODE((home / "root/kit/run.sh").stat().st_mode) & 0o7111 == 0


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "tar: dots": (lambda: tar_of(("../secret.txt", b"!")), "leads out of the folder"),
    "tar: dots inside": (lambda: tar_of(("kit/../../secret.txt", b"!")), "leads out of the folder"),
    "tar: dots and back": (lambda: tar_of(("kit/../a.txt", b"!")), "leads out of the folder"),
    "tar: absolute": (lambda: tar_of(("/tmp/imageseg-evil.txt", b"!")), "leads out of the folder"),
    "tar: backslashes": (lambda: tar_of(("..\\secret.txt", b"!")), "leads out of the folder"),
    "tar: a drive": (lambda: tar_of(("C:\\evil.txt", b"!")), "leads out of the folder"),
    "tar: a share": (lambda: tar_of(("\\\\host\\share\\evil.txt", b"!")), "leads out of the folder"),
    "tar: dots in a pax header": (
        lambda: tar_of((f"kit/{'n' * 120}/../../../../secret.txt", b"!")),
        "leads out of the folder",
    ),
    "tar: a folder outside": (lambda: tar_of(special(tarfile.DIRTYPE, name="../evil")), "leads out of the folder"),
    "tar: symbolic link": (lambda: tar_of(special(tarfile.SYMTYPE, target="../..")), "is a link or a device"),
    "tar: link, then through it": (
        lambda: tar_of(special(tarfile.SYMTYPE, name="kit", target=".."), ("kit/secret.txt", b"!")),
        "is a link or a device",
    ),
    "tar: harmless link": (lambda: tar_of(special(tarfile.SYMTYPE, target="a.txt")), "is a link or a device"),
    "tar: hard link": (lambda: tar_of(special(tarfile.LNKTYPE, target="/etc/passwd")), "is a link or a device"),
    "tar: pipe": (lambda: tar_of(special(tarfile.FIFOTYPE)), "is a link or a device"),
    "tar: device": (lambda: tar_of(special(tarfile.CHRTYPE)), "is a link or a device"),
    "tar: disk": (lambda: tar_of(special(tarfile.BLKTYPE)), "is a link or a device"),
    "tar: bomb": (
        lambda: gzip.compress(tar_of(("kit/zeros.bin", bytes(4_000_000)))),
        "unpacks to more than",
    ),
    "tar: bomb in a header": (
        lambda: gzip.compress(tar_of(("kit/" + "n" * 4_000_000, b"!"))),
        "unpacks to more than 100000 bytes",
    ),
    "tar: too many": (lambda: tar_of(*[(f"kit/{index}", b"") for index in range(60)]), "contains more than 50 files"),
    "tar: a file is a folder": (lambda: tar_of(("kit", b"!"), ("kit/a.txt", b"!")), "is damaged"),
    "tar: a folder is a file": (lambda: tar_of(("kit/a.txt", b"!"), ("kit", b"!")), "is damaged"),
    "tar: no name": (lambda: tar_of((".", b"!")), "is damaged"),
    "tar: cut": (lambda: tar_of(("kit/a.bin", bytes(5000)))[:2000], "is damaged"),
    "gzip: cut": (lambda: gzip.compress(tar_of(("kit/a.bin", os.urandom(5000))))[:2000], "is damaged"),
    "zip: dots": (lambda: zip_of(("../secret.txt", b"!")), "leads out of the folder"),
    "zip: absolute": (lambda: zip_of(("/tmp/imageseg-evil.txt", b"!")), "leads out of the folder"),
    "zip: backslashes": (lambda: zip_of(("kit\\..\\..\\secret.txt", b"!")), "leads out of the folder"),
    "zip: a drive": (lambda: zip_of(("c:/evil.txt", b"!")), "leads out of the folder"),
    "zip: symbolic link": (lambda: zip_of((zip_special(stat.S_IFLNK | 0o777), b"../..")), "is a link or a device"),
    "zip: device": (lambda: zip_of((zip_special(stat.S_IFCHR | 0o666), b"")), "is a link or a device"),
    "zip: bomb": (lambda: zip_of(("kit/zeros.bin", bytes(4_000_000))), "unpacks to more than 100000 bytes"),
    "zip: many bombs": (
        lambda: zip_of(*[(f"kit/{index}.bin", bytes(90_000)) for index in range(40)]),
        "unpacks to more than",
    ),
    "zip: too many": (lambda: zip_of(*[(f"kit/{index}", b"") for index in range(60)]), "contains more than 50 files"),
    "zip: a file is a folder": (lambda: zip_of(("kit", b"!"), ("kit/a.txt", b"!")), "is damaged"),
    "zip: cut": (lambda: zip_of(*FILES.items())[:-10], "is damaged"),
    "zip: one bit": (
        lambda: (c := bytearray(zip_of(("a", os.urandom(999)))), c.__setitem__(300, c[300] ^ 1))[0],
        "is damaged",
    ),
    "nothing": (lambda: b"", "is neither a zip nor a tar archive"),
    "a web page": (lambda: b"<html>Please log in</html>" * 100, "is neither a zip nor a tar archive"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_archives_are_refused_and_leave_nothing(home: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "SMALL", 100_000)
    monkeypatch.setattr(unpacking, "MAX_RATIO", 2)
    monkeypatch.setattr(unpacking, "MAX_FILES", 50)
    content, message = HOSTILE[case]
    archive = written(home, bytes(content()))
    (home / "root" / "mine.txt").write_text("mine")
    before = tree(home)
    assert message in refusal(archive, home / "root")
    assert tree(home) == before
    assert {path.name for path in (home / "root").iterdir()} == {"mine.txt"}
    assert not Path("/tmp/imageseg-evil.txt").exists()


def test_a_real_ratio_is_allowed_and_a_bombs_is_not(home: Path) -> None:
    """4 MB of zeros pack to 4 kB: under 64 MiB nobody minds. The limits themselves, unpatched."""
    unpack(written(home, zip_of(("kit/zeros.bin", bytes(4_000_000)))), home / "root")
    assert (home / "root/kit/zeros.bin").stat().st_size == 4_000_000
    assert "100 times its size" in refusal(written(home, zip_of(("z", bytes(unpacking.SMALL + 1)))), home / "root")
    assert not (home / "root/z").exists()


def test_a_folder_in_the_way_of_a_file(home: Path) -> None:
    (home / "root/top.txt").mkdir()
    with pytest.raises(InputError, match=r"root/top\.txt: the archive has a file where a folder is"):
        unpack(written(home, zip_of(*FILES.items())), home / "root")


def test_an_encrypted_zip(home: Path) -> None:
    content = bytearray(zip_of(("kit/a.txt", b"a")))
    content[6] |= 1  # the flag in the local header
    content[content.index(b"PK\x01\x02") + 8] |= 1  # and in the directory
    assert "is damaged" in refusal(written(home, bytes(content)), home / "root")


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_any_damage_is_one_line_and_leaves_nothing(home: Path, kind: str) -> None:
    """Bits that flip anywhere: the archive opens all the same, or is refused in one line; never anything outside."""
    members = [(f"kit/{index}.txt", f"content {index}".encode() * 9) for index in range(5)]
    honest = {"zip": zip_of, "tar": tar_of, "tar.gz": lambda *m: gzip.compress(tar_of(*m))}[kind](*members)
    generator = np.random.default_rng(11)
    lines = []
    for _ in range(150):
        damaged = bytearray(honest)
        for place in generator.integers(0, len(damaged), 3):
            damaged[place] ^= 1 << int(generator.integers(8))
        archive = written(home, bytes(damaged))
        with contextlib.suppress(OSError):  # a name that this disk cannot have
            try:
                unpack(archive, home / "root")
            except InputError as error:
                lines.append(error.line())
        assert {path.name for path in home.iterdir()} == {"secret.txt", "root", archive.name}
        assert not list((home / "root").glob(".unpacking*"))
    assert len(lines) > 10
    assert not any("\n" in line for line in lines)
