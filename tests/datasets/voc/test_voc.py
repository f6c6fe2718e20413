import re
import shutil

import numpy as np
import pytest
from fakes import write_voc
from PIL import Image

from imageseg.datasets.voc.dataset import LABELS, VOC
from imageseg.errors import InputError
from imageseg.labels import voc_color


@pytest.mark.parametrize("year", ["2007", "2012"])
@pytest.mark.parametrize("devkit", ["VOCdevkit", "VOCDevkit", "vocdevkit", "", "TrainVal/VOCdevkit"])
def test_the_devkit_is_found_in_any_spelling(tmp_path, devkit, year):
    write_voc(tmp_path, year=year, devkit=devkit)
    image, mask, name = VOC(str(tmp_path), year=year).pairs("train")[0]
    base = tmp_path / devkit / f"VOC{year}"
    assert (image, mask) == (base / "JPEGImages/2007_000001.jpg", base / "SegmentationClass/2007_000001.png")
    assert name == "2007_000001"


@pytest.mark.parametrize("below", ["VOCdevkit", "VOCdevkit/VOC2012"])
def test_the_root_may_be_the_devkit_or_the_year_itself(tmp_path, below):
    write_voc(tmp_path)
    assert len(VOC(str(tmp_path / below)).pairs("train")) == 1


def test_the_year_of_another_folder_is_not_taken(tmp_path):
    write_voc(tmp_path, year="2007")
    with pytest.raises(InputError, match=r"VOC2012: .* has no VOCdevkit/VOC2012"):
        VOC(str(tmp_path)).pairs("train")
    with pytest.raises(InputError, match="VOC2012: "):
        VOC(str(tmp_path / "VOCdevkit" / "VOC2007")).pairs("train")


def test_a_year_without_segmentation_is_refused():
    with pytest.raises(InputError, match="2007 and 2012, found '2010'"):
        VOC(year="2010")


def test_palette_and_gray_masks_give_indices(tmp_path):
    write_voc(tmp_path)
    base = tmp_path / "VOCdevkit/VOC2012/SegmentationClass"
    with Image.open(base / "2007_000001.png") as palette, Image.open(base / "2007_000002.png") as gray:
        assert (palette.mode, gray.mode) == ("P", "L")
    dataset = VOC(str(tmp_path))
    assert dataset.samples("train")[0]["mask"][1].tolist() == [0, 255, 255, 255, 0, 15]
    assert dataset.samples("val")[0]["mask"].tolist() == [[0] * 5, [0, 0, 0, 255, 255], [0] * 5]


def test_the_test_split_of_2012_is_for_predicting_only(tmp_path):
    write_voc(tmp_path)
    dataset = VOC(str(tmp_path))
    assert [(pair.name, pair.mask) for pair in dataset.pairs("test")] == [("2008_000003", None)]
    samples = dataset.samples("test")
    assert len(samples) == 1
    with pytest.raises(InputError, match=r"2008_000003\.jpg: this split has no masks; predict it"):
        samples[0]


def test_the_scored_split_is_the_one_with_public_masks(tmp_path):
    write_voc(tmp_path / "a", year="2007")
    write_voc(tmp_path / "b", year="2012")
    assert VOC(str(tmp_path / "a"), year="2007").scored_split == "test"
    assert len(VOC(str(tmp_path / "a"), year="2007").samples("test")[0]["mask"]) == 4
    assert VOC(str(tmp_path / "b"), year="2012").scored_split == "val"


def test_without_the_separate_test_download_2007_is_scored_on_val(tmp_path):
    write_voc(tmp_path, year="2007")
    (tmp_path / "VOCdevkit/VOC2007/ImageSets/Segmentation/test.txt").unlink()
    assert VOC(str(tmp_path), year="2007").scored_split == "val"


def test_a_listed_file_that_is_missing_is_named_with_the_count(tmp_path):
    write_voc(tmp_path)
    (tmp_path / "VOCdevkit/VOC2012/SegmentationClass/2007_000002.png").unlink()
    with pytest.raises(InputError, match=r"trainval: 1 image without mask: .*SegmentationClass/2007_000002"):
        VOC(str(tmp_path)).pairs("trainval")


@pytest.mark.parametrize(("text", "message"), [(None, r"train\.txt: no such list"), ("\n \n", "the list is empty")])
def test_lists_without_names_are_refused(tmp_path, text, message):
    write_voc(tmp_path)
    path = tmp_path / "VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt"
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(InputError, match=message):
        VOC(str(tmp_path)).pairs("train")


def test_the_labels_are_the_devkits():
    assert len(LABELS) == 21
    assert [LABELS.names[index] for index in (0, 1, 7, 15, 20)] == [
        "background",
        "aeroplane",
        "car",
        "person",
        "tvmonitor",
    ]
    colors = {1: (128, 0, 0), 2: (0, 128, 0), 7: (128, 128, 128), 15: (192, 128, 128), 20: (0, 64, 128)}
    assert {index: LABELS.labels[index].color for index in colors} == colors
    assert voc_color(255) == (224, 224, 192)
    assert LABELS.palette[255].tolist() == [224, 224, 192]


@pytest.mark.samples
def test_the_palette_is_the_one_in_the_official_files(samples):
    paths = sorted(samples.glob("refinenet_examples/VOC/**/*.png"))
    paths += sorted(samples.glob("voc_sample/VOCdevkit/VOC2012/SegmentationClass/*.png"))
    checked = 0
    for path in paths:
        with Image.open(path) as image:
            if image.mode != "P":
                continue
            official = np.array(image.getpalette()).reshape(-1, 3)
        ours = np.array([voc_color(value) for value in range(len(official))])
        np.testing.assert_array_equal(official, ours, str(path))
        np.testing.assert_array_equal(LABELS.palette[:21], official[:21])
        checked += 1
    assert checked >= 5


@pytest.mark.samples
def test_a_real_devkit(samples, tmp_path):
    shutil.copytree(samples / "voc_sample", tmp_path / "voc")
    lists = tmp_path / "voc/VOCdevkit/VOC2012/ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("2007_000063\n")
    sample = VOC(str(tmp_path / "voc")).samples("train")[0]
    assert sample["mask"].unique().tolist() == [0, 9, 12, 255]  # chair and dog
    assert sample["image"].shape[1:] == sample["mask"].shape == (375, 500)


@pytest.mark.samples
def test_a_real_mask_is_the_same_with_palette_and_in_gray(samples):
    from imageseg.images import read_mask

    masks = {}
    for path in sorted((samples / "voc_2007_000129").rglob("*.png")):
        with Image.open(path) as image:
            masks[image.mode] = read_mask(path)
    assert set(masks) == {"P", "L"}
    np.testing.assert_array_equal(masks["P"], masks["L"])
    assert masks["P"].max() == 255


def test_without_lists_the_one_split_is_by_name(tmp_path):
    write_voc(tmp_path)
    base = tmp_path / "VOCdevkit/VOC2012"
    shutil.rmtree(base / "ImageSets")
    dataset = VOC(str(tmp_path))
    assert dataset.splits == ("unlisted",)
    listing = dataset.listing("unlisted")
    assert [pair.name for pair in listing.pairs] == ["2007_000001", "2007_000002"]
    assert [pair.name for pair in listing.without_mask] == ["2008_000003", "unlisted"]
    with pytest.raises(InputError) as refused:
        dataset.pairs("val")
    assert refused.value.line() == (
        f"VOC2012: {base / 'ImageSets/Segmentation'} contains no lists, so there is no split 'val'; copy ImageSets from the "
        "devkit, or use the split 'unlisted', which pairs all images and masks by name"
    )
    dataset.prepare()
    with pytest.raises(InputError, match="train_aug"):
        dataset.pairs("train_aug")


def test_objects_are_distinct_values_besides_background_and_border(tmp_path):
    write_voc(tmp_path)
    dataset = VOC(str(tmp_path))
    (pair,) = dataset.pairs("train")
    assert dataset.objects(pair) is None
    folder = tmp_path / "VOCdevkit/VOC2012/SegmentationObject"
    folder.mkdir()
    stored = np.zeros((4, 6), np.uint8)
    stored[0, :4] = 1, 2, 2, 255
    stored[3, 5] = 7
    image = Image.fromarray(stored)
    image.putpalette([0, 0, 0] * 256)  # whoever counts colors finds one
    image.save(folder / f"{pair.name}.png")
    assert dataset.objects(pair) == 3


def test_archives_are_the_owners(tmp_path):
    urls = {year: [archive.url for archive in VOC(year=year).archives()] for year in ("2007", "2012")}
    assert [url.rpartition("/")[2] for url in urls["2007"]] == [
        "VOCtrainval_06-Nov-2007.tar",
        "VOCtest_06-Nov-2007.tar",
    ]
    assert [url.rpartition("/")[2] for url in urls["2012"]] == ["VOCtrainval_11-May-2012.tar", "benchmark.tgz"]
    for year in ("2007", "2012"):
        assert all(re.fullmatch(r"[0-9a-f]{32}", archive.md5) for archive in VOC(year=year).archives())


@pytest.mark.samples
def test_the_real_lists_have_the_published_counts(samples, tmp_path):
    """Names are the devkit's own; the images are not here."""
    base = tmp_path / "VOCdevkit/VOC2007"
    shutil.copytree(samples / "voc2007_lists", base / "ImageSets/Segmentation")
    (base / "JPEGImages").mkdir()
    (base / "SegmentationClass").mkdir()
    names = {name for path in (samples / "voc2007_lists").iterdir() for name in path.read_text().split()}
    for name in names:
        (base / "JPEGImages" / f"{name}.jpg").touch()
        (base / "SegmentationClass" / f"{name}.png").touch()
    dataset = VOC(str(tmp_path), year="2007")
    counts = {split: len(dataset.pairs(split)) for split in dataset.splits}
    assert counts == {"train": 209, "val": 213, "test": 210, "trainval": 422}


@pytest.mark.samples
def test_the_real_sample_without_lists(samples):
    dataset = VOC(str(samples / "voc_sample"))
    assert dataset.splits == ("unlisted",)
    listing = dataset.listing("unlisted")
    assert [pair.name for pair in listing.pairs] == ["2007_000063"]
    assert [pair.name for pair in listing.without_mask] == ["2011_003353"]
    assert listing.without_image == []
    assert dataset.objects(listing.pairs[0]) == 2


def test_2007_is_scored_on_val_where_the_tests_masks_are_not_there(tmp_path):
    write_voc(tmp_path, year="2007", test_masks=False)
    assert VOC(str(tmp_path), year="2007").scored_split == "val"
