"""The contract of a dataset, held by every one in the table."""

import json
import pickle
import subprocess
import sys

import fakes
import numpy as np
import pytest
import torch
from fakes import EXPECTED, write_fake

from imageseg import DATASETS, build_dataset
from imageseg.datasets.base import SegmentationDataset
from imageseg.errors import InputError
from imageseg.labels import LabelSpace

every_dataset = pytest.mark.parametrize("name", list(DATASETS))


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Name -> the dataset on its fake, written once."""
    made = {}

    def build(name):
        if name not in made:
            made[name] = build_dataset(name, **write_fake(name, tmp_path_factory.mktemp(name)))
        return made[name]

    return build


def splits_of(name):
    return EXPECTED[name].items()


@every_dataset
def test_labels(built, name):
    dataset = built(name)
    assert isinstance(dataset, SegmentationDataset)
    assert isinstance(dataset.labels, LabelSpace)
    assert 2 <= len(dataset.labels) == len(set(dataset.labels.names))
    assert dataset.labels.ignore_index == 255
    assert LabelSpace.from_dict(dataset.labels.to_dict()) == dataset.labels  # what a checkpoint keeps
    assert dataset.scored_split in EXPECTED[name]


@every_dataset
def test_pairs_are_the_expected_ones_and_exist(built, name):
    for split, expected in splits_of(name):
        pairs = built(name).pairs(split)
        assert [pair.name for pair in pairs] == [sample.name for sample in expected]
        assert all(pair.image.is_file() and (pair.mask is None or pair.mask.is_file()) for pair in pairs)
        assert pairs == built(name).pairs(split)


@every_dataset
def test_samples_hold_to_their_types(built, name):
    dataset = built(name)
    for split, expected in splits_of(name):
        if dataset.pairs(split)[0].mask is None:
            continue
        samples = dataset.samples(split)
        assert len(samples) == len(expected)
        for index, (label, size, _) in enumerate(expected):
            sample = samples[index]
            assert set(sample) == {"image", "mask", "name"}
            assert sample["name"] == samples.name(index) == label
            assert sample["image"].dtype == sample["mask"].dtype == torch.uint8
            assert tuple(sample["image"].shape) == (3, *size)
            assert tuple(sample["mask"].shape) == size
            assert set(sample["mask"].unique().tolist()) <= {*range(len(dataset.labels)), 255}


@every_dataset
def test_classes_are_those_counted_by_hand(built, name):
    for split, expected in splits_of(name):
        for index, (_, _, pixels) in enumerate(expected):
            if pixels is not None:
                values, counts = np.unique(built(name).samples(split)[index]["mask"].numpy(), return_counts=True)
                assert dict(zip(values.tolist(), counts.tolist(), strict=True)) == pixels


@every_dataset
def test_splits_are_those_that_can_be_listed(built, name):
    splits = built(name).splits
    assert set(splits) == set(EXPECTED[name])
    assert splits[:2] == ("train", "val")
    for split in splits:
        listing = built(name).listing(split)
        assert listing.pairs == built(name).pairs(split)
        assert listing.without_mask == listing.without_image == []


@every_dataset
def test_an_unknown_split_is_refused_with_the_known_ones(built, name):
    with pytest.raises(InputError, match="no split 'valid'") as caught:
        built(name).pairs("valid")
    assert "train" in str(caught.value)
    assert "\n" not in str(caught.value)


@every_dataset
def test_a_missing_root_is_named(tmp_path, name):
    root = tmp_path / "not here"
    with pytest.raises(InputError) as caught:
        build_dataset(name, root).pairs("train")
    assert str(root) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not root.exists()


@every_dataset
def test_an_argument_that_it_lacks_is_refused(name):
    with pytest.raises(InputError, match="no argument 'rooot'"):
        build_dataset(name, rooot="here")


@every_dataset
def test_preparing_twice_is_harmless(tmp_path, name):
    dataset = build_dataset(name, **write_fake(name, tmp_path))
    dataset.prepare()
    once = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    dataset.prepare()
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == once


READER = """
import json, pickle, sys
for name, samples in pickle.load(open(sys.argv[1], "rb")).items():
    print(json.dumps([name, samples[0]["image"].tolist(), samples[0]["mask"].tolist()]))
"""


def test_another_process_reads_the_same_samples(built, tmp_path):
    """As a loader's worker that is spawned, not forked, gets them."""
    samples = {name: built(name).samples("train") for name in DATASETS}
    (tmp_path / "samples.pickle").write_bytes(pickle.dumps(samples))
    ended = subprocess.run(
        [sys.executable, "-c", READER, str(tmp_path / "samples.pickle")], capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    read = {name: (image, mask) for name, image, mask in map(json.loads, ended.stdout.splitlines())}
    assert set(read) == set(DATASETS)
    for name, (image, mask) in read.items():
        assert image == samples[name][0]["image"].tolist()
        assert mask == samples[name][0]["mask"].tolist()


def test_a_newcomer_without_a_fake_is_told_to_add_one(tmp_path, monkeypatch):
    monkeypatch.delitem(fakes.FAKES, "VOC")
    with pytest.raises(LookupError, match=r"tests/fakes\.py has no fake of VOC: add"):
        write_fake("VOC", tmp_path)


def test_every_dataset_has_its_expected_samples():
    assert set(EXPECTED) == set(DATASETS), "tests/fakes.py: EXPECTED needs one entry per dataset"
