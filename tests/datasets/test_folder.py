import re

import numpy as np
import pytest
from fakes import write_folder
from PIL import Image

from imageseg.datasets.folder import Folder
from imageseg.errors import InputError

SCENE = [[0, 0, 0, 0, 0, 0], [0, 255, 255, 255, 0, 1], [0, 255, 2, 255, 0, 1], [0, 0, 0, 0, 0, 0]]


def one_line(error):
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("kind", ["L", "P", "I;16", "RGB"])
def test_every_kind_of_mask_gives_the_same_classes(tmp_path, kind):
    dataset = Folder(**write_folder(tmp_path, kind=kind))
    with Image.open(tmp_path / "masks/train/train_1.png") as image:
        assert image.mode == kind
    assert dataset.samples("train")[0]["mask"].tolist() == SCENE
    assert dataset.samples("val")[0]["mask"].tolist() == [[0] * 5, [0, 0, 0, 255, 255], [0] * 5]


def test_two_stored_values_may_be_one_class(tmp_path):
    write_folder(tmp_path)
    stored = np.full((4, 6), 7, np.uint8)
    stored[0, :2] = 24, 25
    Image.fromarray(stored).save(tmp_path / "masks/train/train_1.png")
    assert Folder(str(tmp_path)).samples("train")[0]["mask"][0].tolist() == [1, 1, 0, 0, 0, 0]


def test_the_labels_come_from_the_table(tmp_path):
    labels = Folder(**write_folder(tmp_path)).labels
    assert labels.names == ["road", "person", "car"]
    assert labels.labels[1].values == (24, 25)
    assert labels.ignored_values == (0,)


def test_folders_are_found_in_any_spelling(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "images").rename(tmp_path / "Images")
    (tmp_path / "masks").rename(tmp_path / "MASKS")
    assert Folder(str(tmp_path)).pairs("train")[0][:2] == (
        tmp_path / "Images/train/train_1.jpg",
        tmp_path / "MASKS/train/train_1.png",
    )


def test_a_test_split_is_scored_where_there_is_one(tmp_path):
    dataset = Folder(**write_folder(tmp_path))
    assert dataset.scored_split == "val"
    for kind in ("images", "masks"):
        (tmp_path / kind / "val").rename(tmp_path / kind / "test")
    assert dataset.scored_split == "test"


def test_pairs_are_sorted_by_name_and_other_files_do_not_count(tmp_path):
    write_folder(tmp_path)
    for name in ("b", "a", "10", "9"):
        for kind, suffix in (("images", ".jpg"), ("masks", ".png")):
            source = tmp_path / kind / "train" / f"train_1{suffix}"
            (source.parent / f"{name}{suffix}").write_bytes(source.read_bytes())
    for stray in ("Thumbs.db", ".hidden.jpg", "notes.txt"):
        (tmp_path / "images/train" / stray).write_text("stray")
    assert [pair.name for pair in Folder(str(tmp_path)).pairs("train")] == ["10", "9", "a", "b", "train_1"]


def test_a_mask_without_image_is_named(tmp_path):
    write_folder(tmp_path)
    Image.new("L", (6, 4), 7).save(tmp_path / "masks/train/extra.png")
    with pytest.raises(
        InputError, match=r"train: 1 mask without image: .*masks/train/extra\.png has no .*extra"
    ) as caught:
        Folder(str(tmp_path)).pairs("train")
    one_line(caught)


def test_two_images_of_one_name_are_refused(tmp_path):
    write_folder(tmp_path)
    Image.new("RGB", (6, 4)).save(tmp_path / "images/train/train_1.PNG")
    with pytest.raises(InputError, match=r"train_1\.PNG and .*train_1\.jpg have the same name"):
        Folder(str(tmp_path)).pairs("train")


def test_a_folder_without_images(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "images/test").mkdir()
    with pytest.raises(InputError, match=r"images/test: contains no images"):
        Folder(str(tmp_path)).pairs("test")


def test_no_label_table(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "labels.yaml").unlink()
    with pytest.raises(
        InputError, match=r"labels\.yaml: no label table; 'imageseg check Folder .* write 'labels: \[\{name: road"
    ):
        Folder(str(tmp_path)).samples("train")


def test_a_label_table_of_another_suffix_is_named(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "labels.yaml").rename(tmp_path / "labels.yml")
    with pytest.raises(InputError, match=r"labels\.yml: rename it to labels\.yaml$"):
        Folder(str(tmp_path)).samples("train")


def test_a_mask_of_another_size_names_both_files_and_sizes(tmp_path):
    samples = Folder(**write_folder(tmp_path)).samples("train")
    mask = tmp_path / "masks/train/train_1.png"
    Image.new("L", (7, 4), 7).save(mask)
    with pytest.raises(InputError) as caught:
        samples[0]
    image = tmp_path / "images/train/train_1.jpg"
    assert one_line(caught) == f"{mask}: is 7 x 4 pixels, its image {image} is 6 x 4"


def test_a_mask_on_its_side_is_told_apart(tmp_path):
    samples = Folder(**write_folder(tmp_path)).samples("train")
    Image.new("L", (4, 6), 7).save(tmp_path / "masks/train/train_1.png")
    with pytest.raises(InputError, match=r"is 4 x 6 pixels, .* is 6 x 4; they are rotated against each other"):
        samples[0]


def test_undeclared_values_are_counted(tmp_path):
    samples = Folder(**write_folder(tmp_path)).samples("train")
    stored = np.full((4, 6), 7, np.uint8)
    stored[0, :3] = 99
    stored[1, 0] = 12
    mask = tmp_path / "masks/train/train_1.png"
    Image.fromarray(stored).save(mask)
    with pytest.raises(InputError) as caught:
        samples[0]
    message = one_line(caught)
    assert message.startswith(f"{mask}: value 12 (1 pixel), value 99 (3 pixels) are not in the label table")
    assert "classes 7, 24, 25, 26; ignored 0" in message


def test_undeclared_colors_are_counted(tmp_path):
    samples = Folder(**write_folder(tmp_path, kind="RGB")).samples("train")
    colors = np.full((4, 6, 3), (128, 64, 128), np.uint8)
    colors[0, :2] = 128, 64, 127
    mask = tmp_path / "masks/train/train_1.png"
    Image.fromarray(colors).save(mask)
    with pytest.raises(InputError) as caught:
        samples[0]
    assert one_line(caught) == f"{mask}: color (128, 64, 127) (2 pixels) is not in the label table"


@pytest.mark.parametrize("kind", ["images", "masks"])
@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n"])
def test_an_unreadable_file_is_named(tmp_path, kind, content):
    samples = Folder(**write_folder(tmp_path)).samples("train")
    path = next((tmp_path / kind / "train").iterdir())
    path.write_bytes(content)
    with pytest.raises(InputError, match=re.escape(f"{path}: ")) as caught:
        samples[0]
    one_line(caught)


def test_a_file_that_has_gone_is_named(tmp_path):
    samples = Folder(**write_folder(tmp_path)).samples("train")
    (tmp_path / "images/train/train_1.jpg").unlink()
    with pytest.raises(InputError, match=r"train_1\.jpg: no such file"):
        samples[0]


def test_test_images_may_do_without_masks(tmp_path):
    dataset = Folder(**write_folder(tmp_path))
    (tmp_path / "images/test").mkdir()
    for name in ("b.png", "a.jpg"):
        Image.new("RGB", (6, 4)).save(tmp_path / "images/test" / name)
    assert dataset.splits == ("train", "val", "test")
    assert dataset.scored_split == "val"  # nobody can score the test
    assert [(pair.name, pair.mask) for pair in dataset.pairs("test")] == [("a", None), ("b", None)]
    assert dataset.objects(dataset.pairs("test")[0]) is None
    Image.new("RGB", (6, 4)).save(tmp_path / "images/test/a.png")
    with pytest.raises(InputError, match=r"a\.jpg and .*a\.png have the same name"):
        dataset.pairs("test")


def test_test_masks_that_are_there_count(tmp_path):
    dataset = Folder(**write_folder(tmp_path))
    for kind in ("images", "masks"):
        (tmp_path / kind / "val").rename(tmp_path / kind / "test")
    assert dataset.scored_split == "test"
    assert dataset.pairs("test")[0].mask == tmp_path / "masks/test/val_1.png"


def test_without_the_masks_of_a_split_the_line_says_where_they_go(tmp_path):
    dataset = Folder(**write_folder(tmp_path))
    (tmp_path / "masks/val").rename(tmp_path / "elsewhere")
    with pytest.raises(InputError) as caught:
        dataset.pairs("val")
    assert one_line(caught) == (
        f"{tmp_path / 'masks/val'}: no such folder; put the masks of the images in {tmp_path / 'images/val'} there, with "
        "the images' names"
    )


def test_what_is_in_the_root_instead_is_said(tmp_path):
    with pytest.raises(
        InputError, match=r"has no folder images and no lists \(it is empty\); Folder expects images/train and"
    ):
        Folder(str(tmp_path)).pairs("train")
    for name in "abcdefghij":
        (tmp_path / name).mkdir()
    with pytest.raises(InputError, match=r"\(it contains a, b, c, d, e, f, g, h, \.\.\.\)") as caught:
        Folder(str(tmp_path)).pairs("train")
    one_line(caught)
    for ask in (lambda d: d.pairs("train"), lambda d: d.labels, lambda d: d.splits):
        with pytest.raises(
            InputError, match=r"nowhere does not exist; Folder expects .*; pass --data.root for another folder"
        ):
            ask(Folder(str(tmp_path / "nowhere")))


def test_images_without_folders_for_the_splits(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "images/train").rename(tmp_path / "flat")
    (tmp_path / "images/val/val_1.jpg").rename(tmp_path / "flat/val_1.jpg")
    (tmp_path / "images/val").rmdir()
    (tmp_path / "images").rmdir()
    (tmp_path / "flat").rename(tmp_path / "images")
    with pytest.raises(
        InputError, match=r"images: contains 2 images but no folders train and val; sort them, and their masks"
    ):
        Folder(str(tmp_path)).pairs("train")


def test_masks_with_an_ending_of_their_own(tmp_path):
    dataset = Folder(**write_folder(tmp_path))
    (tmp_path / "masks/train/train_1.png").rename(tmp_path / "masks/train/train_1_mask.png")
    listing = dataset.listing("train")
    assert (len(listing.without_mask), len(listing.without_image)) == (1, 1)
    with pytest.raises(InputError) as caught:
        dataset.pairs("train")
    assert (
        "there are images like train_1.jpg and masks like train_1_mask.png; name the masks like the images, or"
        in one_line(caught)
    )


def test_black_and_white_masks(tmp_path):
    """255 is a class where a label stores it; without that, the table would use 255 twice."""
    write_folder(tmp_path)
    table = "labels: [{name: no, color: [0, 0, 0], values: [0]}, {name: yes, color: [255, 255, 255], values: [255]}]\n"
    (tmp_path / "labels.yaml").write_text(table)
    stored = np.zeros((4, 6), np.uint8)
    stored[0, 0] = 255
    Image.fromarray(stored).save(tmp_path / "masks/train/train_1.png")
    dataset = Folder(str(tmp_path))
    assert dataset.labels.ignored_values == ()
    assert dataset.samples("train")[0]["mask"][0, :2].tolist() == [1, 0]
    (tmp_path / "labels.yaml").write_text(table + "ignored_values: [255]\n")
    with pytest.raises(InputError, match="uses the stored value 255 twice"):
        dataset.labels  # noqa: B018


@pytest.mark.parametrize("text", ["labels: 3", "labels: [3]", "labels: [{name: a, color: [0, 0, 0], values: 255}]"])
def test_a_malformed_table_is_one_line(tmp_path, text):
    write_folder(tmp_path)
    (tmp_path / "labels.yaml").write_text(text)
    with pytest.raises(InputError, match=r"labels\.yaml: ") as caught:
        Folder(str(tmp_path)).labels  # noqa: B018
    one_line(caught)
