"""fetch, against a server of our own: resumed, checked, mirrored, refused; never anything half or wrong in place."""

import hashlib
import io
import re
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from imageseg.datasets.download import fetch as download
from imageseg.datasets.download.fetch import fetch
from imageseg.datasets.pairs import Archive
from imageseg.errors import InputError


def packed(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


NOISE = np.random.default_rng(5).bytes(300_000)
CONTENT = packed({"kit/a.bin": NOISE, "kit/b.txt": b"b"})
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server:
    """What it sends, and what it was requested were."""

    def __init__(self) -> None:
        self.content = CONTENT
        self.tag: str | None = '"one"'
        self.ranges = True
        self.cut: list[int] = []
        """For each answer, after how many bytes the connection ends; when used up, never."""
        self.status: list[int] = []
        self.location = ""
        self.asked: list[dict[str, str]] = []

    def archive(self, md5: str = MD5, *, name: str = "kit.tar", folder: str = "") -> Archive:
        return Archive(f"{self.address}/some/where/{name}", md5, folder)

    address = ""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download, "PAUSES", (0.0, 0.0, 0.0))
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append({"path": self.path, **{key.lower(): value for key, value in self.headers.items()}})
            status = state.status.pop(0) if state.status else 200
            if status >= 300:
                self.send_response(status)
                if state.location:
                    self.send_header("Location", state.location)
                if status == 416:
                    self.send_header("Content-Range", f"bytes */{len(state.content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            start = 0
            wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            same = self.headers.get("If-Range") in (None, state.tag)
            if state.ranges and wanted and same:
                start = int(wanted[1])
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(state.content) - 1}/{len(state.content)}")
            if state.tag:
                self.send_header("ETag", state.tag)
            self.send_header("Content-Length", str(len(state.content) - start))
            self.end_headers()
            body = state.content[start:]
            self.wfile.write(body[: state.cut.pop(0)] if state.cut else body)
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.address = f"http://127.0.0.1:{http.server_port}"
    yield state
    http.shutdown()
    thread.join()
    http.server_close()


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(InputError) as refused:
        call()
    line = refused.value.line()
    assert "\n" not in line
    return line


def files_in(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


WHOLE = {"kit.tar", ".kit.tar.unpacked", "kit/a.bin", "kit/b.txt"}


def test_fetches_checks_and_unpacks(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    fetch([server.archive()], tmp_path / "root", progress=lambda done, total: seen.append((done, total)))
    assert files_in(tmp_path / "root") == WHOLE
    assert (tmp_path / "root/kit/a.bin").read_bytes() == NOISE
    assert (tmp_path / "root/kit.tar").read_bytes() == CONTENT
    assert (len(CONTENT), len(CONTENT)) in seen
    assert all(done <= total == len(CONTENT) for done, total in seen)
    assert "range" not in server.asked[0]
    assert server.asked[0]["user-agent"] == "imageseg"


def test_what_is_there_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    fetch([server.archive()], tmp_path)
    once = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    fetch([server.archive()], tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == once
    (tmp_path / "kit.tar").unlink()  # only the tree is left, and the record
    fetch([server.archive()], tmp_path)
    assert len(server.asked) == 1
    assert not (tmp_path / "kit.tar").exists()


def test_a_new_version_takes_the_place_of_the_tree_of_an_old_one(server: Server, tmp_path: Path) -> None:
    fetch([server.archive()], tmp_path)
    (tmp_path / "kit.tar").unlink()
    server.content, server.tag = packed({"kit/b.txt": b"new"}), '"two"'
    fetch([server.archive(hashlib.md5(server.content).hexdigest())], tmp_path)
    assert (tmp_path / "kit/b.txt").read_bytes() == b"new"


def test_a_deleted_tree_is_unpacked_again(server: Server, tmp_path: Path) -> None:
    fetch([server.archive()], tmp_path)
    for path in (tmp_path / "kit").iterdir():
        path.unlink()
    (tmp_path / "kit").rmdir()
    fetch([server.archive()], tmp_path)
    assert files_in(tmp_path) == WHOLE
    assert len(server.asked) == 1


def test_an_archive_that_was_put_there_by_hand_is_taken(server: Server, tmp_path: Path) -> None:
    (tmp_path / "kit.tar").write_bytes(CONTENT)
    fetch([server.archive()], tmp_path)
    assert files_in(tmp_path) == WHOLE
    assert server.asked == []


def test_an_archive_of_another_content_is_left_alone(server: Server, tmp_path: Path) -> None:
    (tmp_path / "kit.tar").write_bytes(b"mine")
    line = refusal(lambda: fetch([server.archive()], tmp_path))
    assert line.startswith(
        f"{tmp_path / 'kit.tar'}: its md5 is {hashlib.md5(b'mine').hexdigest()}, expected {MD5}; move"
    )
    assert files_in(tmp_path) == {"kit.tar"}


def test_a_cut_connection_goes_on_where_it_ended(server: Server, tmp_path: Path) -> None:
    server.cut = [100_000, 50_000]
    fetch([server.archive()], tmp_path)
    assert files_in(tmp_path) == WHOLE
    assert [asked.get("range") for asked in server.asked] == [None, "bytes=100000-", "bytes=150000-"]
    assert [asked.get("if-range") for asked in server.asked] == [None, '"one"', '"one"']


def test_a_run_that_gave_up_is_continued_by_the_next(server: Server, tmp_path: Path) -> None:
    server.cut = [1000, 1000, 1000, 1000]
    line = refusal(lambda: fetch([server.archive()], tmp_path))
    assert (
        f"the connection ended after 4000 of {len(CONTENT)} bytes, also after retries; 4000 bytes are kept in" in line
    )
    assert files_in(tmp_path) == {"kit.tar.part", "kit.tar.part.version"}
    fetch([server.archive()], tmp_path)
    assert files_in(tmp_path) == WHOLE
    assert server.asked[-1]["range"] == "bytes=4000-"


def test_a_server_without_ranges_starts_over(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    server.cut = [100_000]
    fetch([server.archive()], tmp_path)
    assert files_in(tmp_path) == WHOLE
    assert len(server.asked) == 2


def test_a_file_that_changed_meanwhile_starts_over(server: Server, tmp_path: Path) -> None:
    server.content, server.tag = b"x" * len(CONTENT), '"old"'
    server.cut = [1000] * 4
    refusal(lambda: fetch([server.archive()], tmp_path))
    server.content, server.tag = CONTENT, '"one"'
    fetch([server.archive()], tmp_path)
    assert files_in(tmp_path) == WHOLE
    assert server.asked[-1]["if-range"] == '"old"'
    assert len(server.asked) == 5


def test_a_wrong_start_is_thrown_away_where_the_server_names_no_version(server: Server, tmp_path: Path) -> None:
    server.tag = None
    (tmp_path / "kit.tar.part").write_bytes(b"x" * 1000)
    fetch([server.archive()], tmp_path)
    assert files_in(tmp_path) == WHOLE
    assert [asked.get("range") for asked in server.asked] == ["bytes=1000-", None]


def test_a_part_that_is_already_whole(server: Server, tmp_path: Path) -> None:
    (tmp_path / "kit.tar.part").write_bytes(CONTENT)
    server.status = [416]
    fetch([server.archive()], tmp_path)
    assert files_in(tmp_path) == WHOLE


def test_a_part_that_is_longer_than_the_file(server: Server, tmp_path: Path) -> None:
    (tmp_path / "kit.tar.part").write_bytes(CONTENT + b"more")
    server.status = [416]
    fetch([server.archive()], tmp_path)
    assert files_in(tmp_path) == WHOLE


def test_a_wrong_checksum_keeps_what_came_aside(server: Server, tmp_path: Path) -> None:
    server.content = b"<html>Please log in</html>"
    line = refusal(lambda: fetch([server.archive()], tmp_path))
    found = hashlib.md5(server.content).hexdigest()
    assert f"the md5 is {found}, expected {MD5}; it is a web page, not an archive; the download is kept as" in line
    assert files_in(tmp_path) == {"kit.tar.wrong"}
    server.content = CONTENT
    fetch([server.archive()], tmp_path)
    assert files_in(tmp_path) == WHOLE | {"kit.tar.wrong"}


def test_an_address_that_nobody_answers_to(server: Server, tmp_path: Path) -> None:
    server.status = [404]
    line = refusal(lambda: fetch([server.archive()], tmp_path))
    assert (
        f"{server.address}/some/where/kit.tar: the server answers 404 Not Found; download kit.tar manually, put it in"
        in line
    )
    assert files_in(tmp_path) == set()
    assert len(server.asked) == 1


def test_an_overloaded_server_is_asked_again_a_few_times(server: Server, tmp_path: Path) -> None:
    server.status = [503, 503]
    fetch([server.archive()], tmp_path)
    assert files_in(tmp_path) == WHOLE
    server.status = [503] * 9
    assert "the server answers 503" in refusal(lambda: fetch([server.archive(name="other.tar")], tmp_path))
    assert len(server.asked) == 3 + 1 + len(download.PAUSES)


def test_no_server_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PAUSES", (0.0,))
    monkeypatch.setenv("no_proxy", "*")
    line = refusal(lambda: fetch([Archive("http://127.0.0.1:9/kit.tar", MD5)], tmp_path))
    assert line.startswith("http://127.0.0.1:9/kit.tar: no connection (")


def test_a_mirror_replaces_all_before_the_name(server: Server, tmp_path: Path) -> None:
    away = Archive("https://nowhere.invalid/deep/down/kit%2B1.tar", MD5)
    fetch([away], tmp_path, mirror=f"{server.address}/mine/")
    assert server.asked[0]["path"] == "/mine/kit%2B1.tar"
    assert (tmp_path / "kit+1.tar").exists()


def test_archives_go_to_their_folders_and_the_checked_ones_stay_when_a_later_one_fails(
    server: Server, tmp_path: Path
) -> None:
    good, bad = server.archive(folder="below/it"), server.archive("0" * 32, name="bad.tar")
    refusal(lambda: fetch([good, bad], tmp_path))
    assert files_in(tmp_path) == {
        "kit.tar",
        ".kit.tar.unpacked",
        "below/it/kit/a.bin",
        "below/it/kit/b.txt",
        "bad.tar.wrong",
    }


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/kit.tar", "kit.tar", "data:,kit.tar"])
def test_only_http_is_fetched(url: str, tmp_path: Path) -> None:
    assert "only http and https URLs are supported" in refusal(lambda: fetch([Archive(url, MD5)], tmp_path / "root"))
    good = Archive("http://127.0.0.1:9/kit.tar", MD5)
    if not url.endswith("passwd"):
        url = url.rpartition("/")[0] or "kit"
    assert "only http and https" in refusal(lambda: fetch([good], tmp_path / "root", mirror=url))
    assert not (tmp_path / "root").exists()


def test_a_redirection_is_followed_but_not_to_another_kind_of_address(server: Server, tmp_path: Path) -> None:
    server.status, server.location = [302], f"{server.address}/elsewhere/kit.tar"
    fetch([server.archive()], tmp_path)
    assert server.asked[-1]["path"] == "/elsewhere/kit.tar"
    for location, message in (
        ("ftp://host/other.tar", "ftp://host/other.tar: only http and https URLs are supported"),
        ("file:///etc/passwd", "to url 'file:///etc/passwd' is not allowed"),
    ):
        server.status, server.location = [302], location
        assert message in refusal(lambda: fetch([server.archive(name="other.tar")], tmp_path))


@pytest.mark.parametrize("url", ["http://host/", "http://host/..", "http://host/a%5Cb.tar/%00"])
def test_an_address_without_a_file_name(url: str, tmp_path: Path) -> None:
    assert "does not end in a file name" in refusal(lambda: fetch([Archive(url, MD5)], tmp_path / "root"))


def test_a_full_disk_is_said_before(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    assert "needs 0.0 GB more, the disk has 0.0 GB left" in refusal(lambda: fetch([server.archive()], tmp_path))


def test_zip_files_too(server: Server, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("kit/a.txt", b"a")
    server.content = buffer.getvalue()
    fetch([server.archive(hashlib.md5(server.content).hexdigest(), name="kit.zip")], tmp_path)
    assert (tmp_path / "kit/a.txt").read_bytes() == b"a"


def test_two_at_once_fetch_it_once(server: Server, tmp_path: Path) -> None:
    """Without a lock, the second would resume the first one's part, and both would find their own stream right."""
    threads = [threading.Thread(target=fetch, args=([server.archive()], tmp_path)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.asked) == 1
    assert hashlib.md5((tmp_path / "kit.tar").read_bytes()).hexdigest() == MD5
    assert (tmp_path / "kit/a.bin").read_bytes() == NOISE
    assert not list(tmp_path.rglob("*.lock"))
