"""Downloading of a dataset's archives from their owner: resumed, verified by checksum, and safely unpacked."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import shutil
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple

from imageseg.atomic_files import file_lock, flush_all, replacing
from imageseg.datasets.download.unpack import unpack
from imageseg.datasets.pairs import Archive
from imageseg.errors import InputError
from imageseg.parallel import Progress

TIMEOUT = 60.0
"""Timeout of network operations in seconds."""
PAUSES = (1.0, 4.0, 10.0)
"""Seconds to wait before each retry after a broken connection; an attempt that transferred 1 MiB or more does not count."""

_BLOCK = 2**20
_PASSING = (408, 425, 429, 500, 502, 503, 504)


def fetch(
    archives: Sequence[Archive], root: Path, *, mirror: str | None = None, progress: Progress | None = None
) -> None:
    """Download and unpack archives into ``root``.

    Archives are kept in ``root``, so that other machines, or a damaged folder, can be set up without downloading again. A
    small file next to each archive records that it was unpacked; then nothing is done, even if the archive itself has been
    deleted. An interrupted download is resumed.

    Args:
        archives: Archives to download.
        root: Root folder of the dataset, created if missing.
        mirror: URL that replaces everything before the file name in each URL; the checksums are verified as usual.
        progress: Function called with (bytes done, total bytes) of the current archive.

    Raises:
        InputError: A URL is not http or https, the server does not respond or refuses, a checksum is wrong, or an archive is
            damaged or unsafe.
    """
    places = [_place_of(archive, root, mirror) for archive in archives]
    root.mkdir(parents=True, exist_ok=True)
    for archive, place in zip(archives, places, strict=True):
        folder = root / archive.folder
        with file_lock(place.lock):  # a second command waits, then finds the work done
            if _is_unpacked(archive, place, folder):
                continue
            _download(archive, place, progress)
            top = unpack(place.file, folder, progress=progress)
            flush_all()  # the record must not survive a power cut that its files do not
            with replacing(place.record) as temporary:
                temporary.write_text(json.dumps({"md5": archive.md5, "top": top}), encoding="utf-8")


class _Place(NamedTuple):
    url: str
    file: Path

    @property
    def part(self) -> Path:
        return self.file.with_name(f"{self.file.name}.part")

    @property
    def validator(self) -> Path:
        """File with the server's identifier of the version being downloaded."""
        return self.file.with_name(f"{self.file.name}.part.version")

    @property
    def lock(self) -> Path:
        """Lock file of the process that downloads the archive."""
        return self.file.with_name(f".{self.file.name}.lock")

    @property
    def record(self) -> Path:
        """File that records what was unpacked."""
        return self.file.with_name(f".{self.file.name}.unpacked")


class _BrokenError(Exception):
    """A connection that ended early and may be resumed."""


class _HttpOnly(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: Any) -> Any:
        try:
            _require_http(newurl)
        except InputError:
            fp.close()
            raise
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _place_of(archive: Archive, root: Path, mirror: str | None) -> _Place:
    name = PurePosixPath(urllib.parse.unquote(urllib.parse.urlsplit(archive.url).path)).name
    if name in ("", "..") or "\\" in name or "\0" in name:
        raise InputError(f"{archive.url}: this URL does not end in a file name")
    url = archive.url if mirror is None else f"{mirror.rstrip('/')}/{urllib.parse.quote(name)}"
    _require_http(url)
    return _Place(url, root / name)


def _require_http(url: str) -> None:
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise InputError(f"{url}: only http and https URLs are supported")


def _is_unpacked(archive: Archive, place: _Place, folder: Path) -> bool:
    try:
        record = json.loads(place.record.read_text(encoding="utf-8"))
        return record["md5"] == archive.md5 and all((folder / str(name)).exists() for name in record["top"])
    except (OSError, ValueError, KeyError, TypeError):  # no record, or not one of imageseg
        return False


def _download(archive: Archive, place: _Place, progress: Progress | None) -> None:
    """Download the archive unless it exists, and verify its checksum."""
    if place.file.exists():
        found = _md5_of(place.file, progress).hexdigest()
        if found != archive.md5:
            raise InputError(
                f"{place.file}: its md5 is {found}, expected {archive.md5}; move the file away to download it again"
            )
        return
    resumed = place.part.exists()
    found = _fetched(place, progress)
    if found != archive.md5 and resumed:
        # The first part may belong to another version of the file, if the server does not identify versions.
        _forget(place)
        found = _fetched(place, progress)
    if found != archive.md5:
        wrong = place.file.with_name(f"{place.file.name}.wrong")
        is_page = _starts_with_tag(place.part)
        place.part.replace(wrong)
        place.validator.unlink(missing_ok=True)
        hint = "it is a web page, not an archive; " if is_page else ""
        raise InputError(
            f"{place.url}: the md5 is {found}, expected {archive.md5}; {hint}the download is kept as {wrong}; "
            "try again later or pass --mirror"
        )
    place.part.replace(place.file)
    place.validator.unlink(missing_ok=True)


def _fetched(place: _Place, progress: Progress | None) -> str:
    """Complete the partial file; return the MD5 of the complete file."""
    failures = 0
    while True:
        before = _size(place.part)
        try:
            return _fetched_once(place, progress)
        except _BrokenError as error:
            failures = failures + 1 if _size(place.part) - before < _BLOCK else 1
            if failures > len(PAUSES):
                raise InputError(f"{place.url}: {error}, also after retries{_kept(place.part)}") from error
            time.sleep(PAUSES[failures - 1])


def _kept(part: Path) -> str:
    size = _size(part)
    return f"; {size} bytes are kept in {part}, and the same command continues from there" if size else ""


def _fetched_once(place: _Place, progress: Progress | None) -> str:
    digest = _md5_of(place.part) if place.part.exists() else hashlib.md5(usedforsecurity=False)
    offset = _size(place.part)
    try:
        response = _opened(place, offset)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and offset:  # nothing after the offset: the file is complete, or has changed
            if error.headers.get("Content-Range", "").endswith(f"/{offset}"):
                return digest.hexdigest()
            _forget(place)
            raise _BrokenError("the file on the server has changed") from error
        if error.code in _PASSING:
            raise _BrokenError(f"the server answers {error.code} {error.reason}") from error
        raise InputError(
            f"{place.url}: the server answers {error.code} {error.reason}; download {place.file.name} manually, put it in "
            f"{place.file.parent} and repeat the command, or pass --mirror"
        ) from error
    except (urllib.error.URLError, OSError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise InputError(f"{place.url}: the server's certificate is not valid ({reason.verify_message})") from error
        raise _BrokenError(f"no connection ({reason})") from error
    with response:
        if not _continues(response, offset):
            digest, offset = hashlib.md5(usedforsecurity=False), 0
        expected = _length(response)
        _check_space(place, expected)
        place.validator.write_text(_validator(response), encoding="utf-8")
        with place.part.open("ab" if offset else "wb") as part:
            done = _copied(response, part, digest, offset=offset, expected=expected, progress=progress)
            part.flush()
            os.fsync(part.fileno())
    if expected is not None and done < offset + expected:
        raise _BrokenError(f"the connection ended after {done} of {offset + expected} bytes")
    return digest.hexdigest()


def _opened(place: _Place, offset: int) -> Any:
    # Identity: a compressed transfer has other bytes, and other offsets.
    request = urllib.request.Request(place.url, headers={"User-Agent": "imageseg"})
    request.add_header("Accept-Encoding", "identity")
    if offset:
        request.add_header("Range", f"bytes={offset}-")
        version = place.validator.read_text(encoding="utf-8") if place.validator.exists() else ""
        if version:
            request.add_header("If-Range", version)
    return urllib.request.build_opener(_HttpOnly).open(request, timeout=TIMEOUT)


def _continues(response: Any, offset: int) -> bool:
    """Whether the response starts at the offset. A server without range support, or with a new version, sends the complete file."""
    begins = str(response.headers.get("Content-Range", ""))
    return bool(offset) and response.status == 206 and begins.startswith(f"bytes {offset}-")


def _copied(
    response: Any, part: IO[bytes], digest: Any, *, offset: int, expected: int | None, progress: Progress | None
) -> int:
    """Copy until the response ends; return the size of the file in bytes."""
    done = offset
    while True:
        try:
            block = response.read(_BLOCK)
        except (OSError, http.client.HTTPException) as error:
            part.flush()
            raise _BrokenError(f"the connection broke ({error or type(error).__name__})") from error
        if not block:
            return done
        part.write(block)
        digest.update(block)
        done += len(block)
        if progress is not None:
            progress(done, done if expected is None else offset + expected)


def _length(response: Any) -> int | None:
    text = response.headers.get("Content-Length")
    return int(text) if text is not None and text.isdigit() else None


def _validator(response: Any) -> str:
    """The value for If-Range: a strong ETag, else the date."""
    tag = response.headers.get("ETag", "")
    return str(tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified", ""))


def _check_space(place: _Place, needed: int | None) -> None:
    free = shutil.disk_usage(place.file.parent).free
    if needed is not None and needed > free:
        raise InputError(f"{place.file}: needs {needed / 1e9:.1f} GB more, the disk has {free / 1e9:.1f} GB left")


def _md5_of(path: Path, progress: Progress | None = None) -> Any:
    digest = hashlib.md5(usedforsecurity=False)
    size, done = path.stat().st_size, 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            done += len(block)
            if progress is not None:
                progress(done, size)
    return digest


def _starts_with_tag(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(64).lstrip().startswith(b"<")


def _forget(place: _Place) -> None:
    place.part.unlink(missing_ok=True)
    place.validator.unlink(missing_ok=True)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
