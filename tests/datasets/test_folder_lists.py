"""A user's own lists: every usual form of a line, and every usual mistake in one line that names list and number."""

from pathlib import Path

import pytest
from fakes import write_folder
from PIL import Image

from imageseg.datasets import folder as folder_module
from imageseg.datasets.folder import Folder
from imageseg.errors import InputError

PAIR = "images/train/train_1.jpg masks/train/train_1.png"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_folder(tmp_path)
    return tmp_path


def listed(root: Path, text: str, *, place: str = "train.txt") -> Folder:
    path = root / place
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text.encode("utf-8"))
    return Folder(str(root))


def refusal(root: Path, text: str) -> str:
    with pytest.raises(InputError) as refused:
        listed(root, text).pairs("train")
    line = refused.value.line()
    assert "\n" not in line
    assert line.startswith(str(root / "train.txt"))
    return line.removeprefix(str(root / "train.txt"))


@pytest.mark.parametrize(
    "text",
    [
        PAIR,
        f"\n# images and masks\n\n{PAIR}\n\n",
        PAIR.replace(" ", "\t"),
        PAIR.replace(" ", ","),
        PAIR.replace(" ", " ,  ") + "\r\n",
        "\ufeff" + PAIR,  # as Windows' editor saves it
        PAIR.replace("/", "\\"),
        f"  {PAIR.replace(' ', '     ')}  ",
    ],
)
def test_every_form_of_a_line(root: Path, text: str) -> None:
    dataset = listed(root, text)
    assert dataset.splits == ("train",)
    assert dataset.pairs("train") == [
        (root / "images/train/train_1.jpg", root / "masks/train/train_1.png", "train_1"),
    ]
    assert dataset.samples("train")[0]["mask"].shape == (4, 6)


def test_absolute_paths_and_paths_from_the_list(root: Path) -> None:
    absolute = " ".join(str(root / part) for part in PAIR.split())
    assert len(listed(root, absolute).pairs("train")) == 1
    (root / "train.txt").unlink()
    (root / "lists").mkdir()
    dataset = listed(root, " ".join(f"../{part}" for part in PAIR.split()), place="lists/train.txt")
    (pair,) = dataset.pairs("train")
    assert pair.image.samefile(root / "images/train/train_1.jpg")
    assert listed(root, PAIR, place="splits/val.txt").pairs("val")[0].mask == root / "masks/train/train_1.png"


def test_lists_alone_say_what_the_splits_are_and_in_which_order(root: Path) -> None:
    """Folders in images may be anything then: towns, classes, days."""
    dataset = listed(root, f"images/val/val_1.jpg masks/val/val_1.png\n{PAIR}\n", place="val.txt")
    assert dataset.splits == ("val",)
    assert [pair.name for pair in dataset.pairs("val")] == ["val_1", "train_1"]
    with pytest.raises(InputError, match="has no split 'train'; it has val"):
        dataset.pairs("train")


def test_one_column_is_for_predicting(root: Path) -> None:
    dataset = listed(root, "images/train/train_1.jpg\nimages/val/val_1.jpg\n", place="test.txt")
    assert [pair.mask for pair in dataset.pairs("test")] == [None, None]
    assert dataset.scored_split == "val"
    assert listed(root, PAIR, place="test.txt").scored_split == "test"


def test_two_images_of_one_name_keep_their_folders_names(root: Path) -> None:
    for town in ("ulm", "bonn"):
        (root / town).mkdir()
        Image.new("RGB", (6, 4)).save(root / town / "1.jpg")
    dataset = listed(root, "ulm/1.jpg\nbonn/1.jpg\nimages/val/val_1.jpg", place="test.txt")
    assert [pair.name for pair in dataset.pairs("test")] == ["ulm_1", "bonn_1", "val_1"]


def test_files_that_are_not_there_are_faults(root: Path) -> None:
    text = f"{PAIR}\nimages/train/gone.jpg masks/train/gone.png\nimages/val/val_1.jpg masks/val/gone.png\n"
    dataset = listed(root, text)
    listing = dataset.listing("train")
    assert [pair.name for pair in listing.pairs] == ["train_1"]
    assert [pair.image for pair in listing.without_image] == [root / "images/train/gone.jpg"]
    assert [pair.mask for pair in listing.without_mask] == [root / "masks/val/gone.png"]
    with pytest.raises(InputError, match=r"train: 1 image without mask: .*val_1\.jpg has no .*gone\.png"):
        dataset.pairs("train")


def test_mistakes_name_the_line(root: Path) -> None:
    example = "as in 'images/a.jpg masks/a.png'"
    assert refusal(root, f"{PAIR}\nimages/val/val_1.jpg\n") == (
        f" line 2: an image without mask, line 1 has an image and a mask; give all lines a mask, {example}, or none"
    )
    assert refusal(root, "\na b c") == (
        f" line 2: has 3 columns; a line is an image and its mask, {example}; put a tab or a comma between the two where names "
        "have blanks"
    )
    assert refusal(root, "images/a.jpg,,") == f" line 1: has 3 columns; a line is an image and its mask, {example}"
    assert refusal(root, "images/a.jpg,") == f" line 1: has 2 columns; a line is an image and its mask, {example}"
    assert refusal(root, "train_1\n") == (
        f" line 1: 'train_1' is not a file below {root}; a line is the path of an image and the path of its mask, {example}"
    )
    assert refusal(root, f"{PAIR}\n\n{PAIR}") == " line 3: repeats line 1, images/train/train_1.jpg; delete one of them"
    assert refusal(root, "# nothing\n") == f": the list is empty; a line is an image and its mask, {example}"
    (root / "train.txt").write_bytes(b"\xff\xfea\x00")
    with pytest.raises(InputError, match="is not UTF-8 text; save the list as UTF-8"):
        Folder(str(root)).pairs("train")


def test_names_with_blanks_need_a_tab_or_a_comma(root: Path) -> None:
    (root / "images/train/train_1.jpg").rename(root / "images/train/my photo.jpg")
    dataset = listed(root, "images/train/my photo.jpg\tmasks/train/train_1.png")
    assert [pair.name for pair in dataset.pairs("train")] == ["my photo"]


def test_training_on_a_list_without_masks_is_one_line(root: Path) -> None:
    dataset = listed(root, "images/train/train_1.jpg")
    with pytest.raises(InputError, match="this split has no masks; predict it"):
        dataset.samples("train")[0]


def test_names_made_of_folders_never_collide(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("x/y/c.png", "x_y/c.png", "a/c.png", "a_c.png")]
    names = folder_module._names(paths, tmp_path)
    assert len(set(names)) == 4
    assert names[0] == "x_y_c"
