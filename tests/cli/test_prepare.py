"""imageseg prepare: what it prints, its exit codes, and that nothing happens twice."""

import json
from pathlib import Path

import pytest
from fakes import write_bdd100k, write_camvid, write_cityscapes, write_coco

from imageseg.cli import main


def printed(capsys: pytest.CaptureFixture[str], arguments: list[str], code: int = 0) -> tuple[str, str]:
    assert main(["prepare", *arguments]) == code
    captured = capsys.readouterr()
    return captured.out, captured.err


def test_it_says_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_coco(tmp_path / "coco", prepared=False)
    write_cityscapes(tmp_path / "cs", kind="polygons")
    write_bdd100k(tmp_path / "bdd", kind="rles")
    coco = ["COCOModule", "--root", str(tmp_path / "coco"), "--min_pixels", "-1"]
    for arguments, name, there in (
        (coco, "COCO", "2 train, 1 val"),
        (["cityscapes", "--root", str(tmp_path / "cs")], "Cityscapes", "1 train, 1 val, 1 test"),
        (["BDD", "--root", str(tmp_path / "bdd")], "BDD100K", "1 train, 1 val, 1 test"),
    ):
        for _ in range(2):
            assert printed(capsys, arguments) == (f"{name} in {arguments[2]}: {there}\n", "")


def test_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_coco(tmp_path, prepared=False)
    out, err = printed(capsys, ["COCO", "--root", str(tmp_path), "--json", "--workers", "1"])
    assert json.loads(out) == {"dataset": "COCO", "root": str(tmp_path), "images": {"train": 0, "val": 1}}
    assert err == ""


def test_files_without_partner_are_said_and_change_the_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_cityscapes(tmp_path)
    next((tmp_path / "leftImg8bit" / "val").rglob("*.png")).unlink()
    out, err = printed(capsys, ["Cityscapes", "--root", str(tmp_path)], code=3)
    assert out == f"Cityscapes in {tmp_path}: 1 train, 0 val, 1 test\n"
    assert err == (
        "val: 1 mask without image, such as frankfurt_000001_083852; "
        f"'imageseg check Cityscapes --root {tmp_path}' lists all of them\n"
    )


def test_no_workers_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--workers must be 1 or more, found 0" in printed(capsys, ["COCO", "--workers", "0"], code=2)[1]


def test_a_mirror_without_download_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["VOC", "--root", str(tmp_path), "--mirror", "http://localhost:1/"]
    assert "--mirror is the URL for --download; pass both" in printed(capsys, arguments, code=2)[1]


def test_help_explains_the_datasets_own_flags(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, there in ((["COCO", "--help"], True), (["--help"], False)):
        with pytest.raises(SystemExit) as left:
            main(["prepare", *arguments])
        assert left.value.code == 0
        told = capsys.readouterr().out
        assert "--download" in told
        assert ("--crowd {class,ignore,skip}" in told) is there


def test_packing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_camvid(tmp_path / "data")
    arguments = ["--root", str(tmp_path / "data"), "--pack-folder", str(tmp_path / "store"), "--workers", "1"]
    out, err = printed(capsys, ["pack", "CamVid", *arguments])
    assert err == ""
    [first, train, val] = out.splitlines()
    assert first == f"CamVid in {tmp_path / 'data'}: 1 train, 1 val, 1 test"
    folder = next((tmp_path / "store").iterdir())
    assert train == f"packed train: 1 image, 1 of them new, 0.0 MB in {folder / 'train'}"
    assert val == f"packed val: 1 image, 1 of them new, 0.0 MB in {folder / 'val'}"
    out, _ = printed(capsys, ["CamVid", "--pack", *arguments])
    assert out.count("nothing to do") == 2
    out, _ = printed(capsys, ["CamVid", "--pack", *arguments, "--splits", "test", "--json"])
    assert json.loads(out)["packed"] == {
        "test": {"folder": str(folder / "test"), "images": 1, "done": 1, "bytes": 64 + 4 * 4 * 6}
    }


def test_packing_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_camvid(tmp_path)
    root = ["CamVid", "--root", str(tmp_path)]
    assert "has no split 'trian'" in printed(capsys, [*root, "--pack", "--splits", "trian"], code=2)[1]
    assert "are options of --pack; pass it too" in printed(capsys, [*root, "--splits", "train"], code=2)[1]
    (tmp_path / "file").write_text("in the way")
    _, err = printed(capsys, [*root, "--pack", "--pack_folder", str(tmp_path / "file")], code=2)
    assert "cannot be written" in err
    assert len(err.splitlines()) == 1
