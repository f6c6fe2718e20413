import pytest
import torch
from fakes import write_camvid

from imageseg.datasets.camvid import LABELS, CamVid
from imageseg.errors import InputError


@pytest.mark.parametrize("tree", ["images", "segnet"])
def test_both_trees(tmp_path, tree):
    dataset = CamVid(**write_camvid(tmp_path, tree=tree))
    assert dataset.samples("train")[0]["mask"].tolist() == [
        [3, 3, 3, 3, 3, 3],
        [3, 255, 255, 255, 3, 9],
        [3, 255, 8, 255, 3, 9],
        [3, 3, 3, 3, 3, 3],
    ]
    assert dataset.scored_split == "test"
    assert {split: len(dataset.pairs(split)) for split in ("train", "val", "test")} == {"train": 1, "val": 1, "test": 1}


def test_the_folder_is_found_in_any_spelling(tmp_path):
    write_camvid(tmp_path, tree="segnet")
    (tmp_path / "CamVid").rename(tmp_path / "camvid")
    assert CamVid(str(tmp_path)).pairs("val")[0].image == tmp_path / "camvid/val/val_1.png"


def test_without_a_test_split_val_is_scored(tmp_path):
    write_camvid(tmp_path)
    (tmp_path / "masks/test").rename(tmp_path / "masks/elsewhere")
    dataset = CamVid(str(tmp_path))
    assert dataset.scored_split == "val"
    with pytest.raises(InputError, match="has no split 'test'; it has train, val"):
        dataset.pairs("test")


def test_a_folder_that_holds_neither_tree(tmp_path):
    (tmp_path / "images").mkdir()
    with pytest.raises(InputError, match="holds neither images/train with masks/train nor train with trainannot"):
        CamVid(str(tmp_path)).pairs("train")


def test_a_lonely_file_is_named(tmp_path):
    write_camvid(tmp_path)
    (tmp_path / "masks/train/train_1.png").rename(tmp_path / "masks/train/train_2.png")
    with pytest.raises(InputError, match=r"train: 1 pictures without mask: .*images/train/train_1\.jpg"):
        CamVid(str(tmp_path)).pairs("train")


def test_the_label_table_is_segnets():
    assert len(LABELS) == 11
    assert [(LABELS.names[index], LABELS.labels[index].color) for index in (0, 4, 10)] == [
        ("sky", (128, 128, 128)),
        ("pavement", (60, 40, 222)),
        ("bicyclist", (0, 128, 192)),
    ]


@pytest.mark.samples
def test_the_real_set(samples):
    dataset = CamVid(str(samples / "camvid"))
    assert {split: len(dataset.pairs(split)) for split in ("train", "val")} == {"train": 367, "val": 101}
    assert dataset.scored_split == "val"
    val = dataset.samples("val")
    classes = torch.cat([val[index]["mask"].unique() for index in range(0, len(val), 10)]).unique()
    assert classes.tolist() == [*range(11), 255]
    assert val[0]["image"].shape == (3, 360, 480)
