from pathlib import Path

import numpy as np
import pytest
import torch
from fakes import CAMVID_FRAMES, write_camvid
from PIL import Image

from imageseg.datasets.camvid.dataset import CamVid
from imageseg.datasets.camvid.labels import ORIGINAL_LABELS, ORIGINAL_NAMES, ids_of_colors, segnet_split
from imageseg.datasets.camvid.labels import SEGNET_LABELS as LABELS
from imageseg.errors import InputError


@pytest.mark.parametrize("tree", ["images", "segnet", "ids", "colors"])
def test_every_tree(tmp_path, tree):
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
    with pytest.raises(
        InputError, match="contains neither images/train with masks/train, nor train with trainannot, nor"
    ):
        CamVid(str(tmp_path)).pairs("train")


def test_a_lonely_file_is_named(tmp_path):
    write_camvid(tmp_path)
    (tmp_path / "masks/train/train_1.png").rename(tmp_path / "masks/train/train_2.png")
    with pytest.raises(InputError, match=r"train: 1 image without mask: .*images/train/train_1\.jpg"):
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
    assert {split: {segnet_split(pair.name) for pair in dataset.pairs(split)} for split in ("train", "val")} == {
        "train": {"train"},
        "val": {"val"},
    }


def test_the_rule_splits_all_701_frames():
    """The frames of the four sequences at the owner's rates: every 30th, and 0016E5's val at every second one."""
    frames = [f"0001TP_{n:06}" for n in range(6690, 10381, 30)] + [f"0006R0_f{n:05}" for n in range(930, 3931, 30)]
    frames += [f"0016E5_{n:05}" for n in range(7959, 8160, 2)] + [f"Seq05VD_f{n:05}" for n in range(0, 5101, 30)]
    counts = {split: sum(segnet_split(frame) == split for frame in frames) for split in ("train", "val", "test")}
    assert counts == {"train": 62 + 101, "val": 101, "test": 62 + 171}  # and 204 others of 0016E5 in train
    assert segnet_split("0016E5_07957") == segnet_split("0016E5_08161") == segnet_split("0001TP_008520") == "train"
    assert segnet_split("0001TP_008550") == "test"
    assert segnet_split("train_1") is segnet_split("0016E5_7959x") is None


def test_names_order_and_colors_do_not_depend_on_the_tree(tmp_path):
    labels = {tree: CamVid(**write_camvid(tmp_path / tree, tree=tree)).labels for tree in ("segnet", "ids", "colors")}
    assert labels["ids"] == labels["colors"]
    assert labels["segnet"].names == labels["ids"].names
    assert [label.color for label in labels["segnet"].labels] == [label.color for label in labels["ids"].labels]
    assert labels["segnet"] != labels["ids"]


def test_the_32_classes_become_11():
    assert len(ORIGINAL_NAMES) == len(set(ORIGINAL_NAMES)) == 32
    assert list(ORIGINAL_NAMES) == sorted(ORIGINAL_NAMES, key=str.lower)
    classes = ORIGINAL_LABELS.encode(np.arange(32)[None])[0]  # every id is declared
    eleven = {
        name: "void" if index == 255 else LABELS.names[index]
        for name, index in zip(ORIGINAL_NAMES, classes, strict=True)
    }
    measured = {  # on five frames that both SegNet and fastai offer
        **{"Building": "building", "Car": "car", "SUVPickupTruck": "car", "Column_Pole": "pole", "Road": "road"},
        **{
            "LaneMkgsDriv": "road",
            "Misc_Text": "sign_symbol",
            "Pedestrian": "pedestrian",
            "Sky": "sky",
            "Tree": "tree",
        },
        **{"VegetationMisc": "tree", "OtherMoving": "void", "Void": "void"},
    }
    usual = {
        **dict.fromkeys(("Archway", "Bridge", "Tunnel", "Wall"), "building"),
        **{"TrafficCone": "pole", "LaneMkgsNonDriv": "road", "Fence": "fence", "Bicyclist": "bicyclist"},
        **dict.fromkeys(("Sidewalk", "ParkingBlock", "RoadShoulder"), "pavement"),
        **dict.fromkeys(("SignSymbol", "TrafficLight"), "sign_symbol"),
        **dict.fromkeys(("Truck_Bus", "Train"), "car"),
        **dict.fromkeys(("Child", "CartLuggagePram", "Animal"), "pedestrian"),
        "MotorcycleScooter": "bicyclist",
    }
    assert eleven == measured | usual


def test_colors_are_read_exactly(tmp_path):
    """Three of the owner's colors, looked up by hand in label_colors.txt, and what is nearly one."""
    colors = np.array([[(64, 128, 64), (192, 192, 0), (0, 0, 0), (64, 192, 0)]], np.uint8)
    assert ids_of_colors(colors, Path("x")).tolist() == [[0, 29, 30, 31]]
    colors[0, 1:3] = (192, 192, 1), (64, 64, 64)
    with pytest.raises(InputError) as refused:
        ids_of_colors(colors, Path("x_L.png"))
    assert refused.value.line() == "x_L.png: the color (192, 192, 1) is not one of CamVid's 32; 2 pixels have no class"


def test_color_masks_of_segnets_tree_are_not_taken_for_the_owners(tmp_path):
    dataset = CamVid(**write_camvid(tmp_path))
    Image.new("RGB", (6, 4), (60, 40, 222)).save(tmp_path / "masks/train/train_1.png")
    assert dataset.samples("train")[0]["mask"].unique().tolist() == [4]


@pytest.mark.parametrize("tree", ["ids", "colors"])
def test_lists_split_the_original_tree_where_they_are_there(tmp_path, tree):
    dataset = CamVid(**write_camvid(tmp_path, tree=tree))
    assert dataset.splits == ("train", "val", "test")
    assert [pair.name for pair in dataset.pairs("val")] == [CAMVID_FRAMES["val"]]
    (tmp_path / "train.txt").write_text(f"/any/where/{CAMVID_FRAMES['test']}.png /x/{CAMVID_FRAMES['test']}_L.png\n")
    (tmp_path / "val.txt").write_text(f"{CAMVID_FRAMES['train']}\n{CAMVID_FRAMES['val']}\n")
    assert dataset.splits == ("train", "val")
    assert [pair.name for pair in dataset.pairs("val")] == [CAMVID_FRAMES["train"], CAMVID_FRAMES["val"]]
    assert [pair.name for pair in dataset.pairs("train")] == [CAMVID_FRAMES["test"]]


def test_lonely_files_of_the_original_tree_are_faults(tmp_path):
    dataset = CamVid(**write_camvid(tmp_path, tree="colors"))
    (tmp_path / "LabeledApproved_full" / f"{CAMVID_FRAMES['train']}_L.png").rename(
        tmp_path / "LabeledApproved_full/0016E5_00420_L.png"
    )
    listing = dataset.listing("train")
    assert listing.pairs == []
    (lonely,) = listing.without_mask
    assert lonely.mask == tmp_path / "LabeledApproved_full" / f"{CAMVID_FRAMES['train']}_L.png"
    (lonely,) = listing.without_image
    assert lonely.image == tmp_path / "701_StillsRaw_full/0016E5_00420.png"


def test_a_frame_of_no_sequence_asks_for_lists(tmp_path):
    dataset = CamVid(**write_camvid(tmp_path, tree="ids"))
    Image.new("RGB", (6, 4)).save(tmp_path / "images/mine.png")
    with pytest.raises(
        InputError, match=r"'mine' in .*images is not a frame of .* list the names of each split in .*train\.txt"
    ):
        dataset.pairs("train")


def test_fastais_list_of_classes_must_be_ours(tmp_path):
    dataset = CamVid(**write_camvid(tmp_path, tree="ids"))
    (tmp_path / "codes.txt").write_text("\n".join(ORIGINAL_NAMES))
    assert dataset.splits == ("train", "val", "test")
    (tmp_path / "codes.txt").write_text("\n".join(ORIGINAL_NAMES).replace("Archway", "Arch"))
    with pytest.raises(InputError, match=r"codes\.txt: names 'arch' where CamVid has 'Archway'"):
        dataset.pairs("train")
    (tmp_path / "codes.txt").write_text("\n".join(ORIGINAL_NAMES[:-1]))
    with pytest.raises(InputError, match="names 31 classes, not 32"):
        dataset.pairs("train")
