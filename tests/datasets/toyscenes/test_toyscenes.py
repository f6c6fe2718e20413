import os
import stat

import numpy as np
import pytest
from PIL import Image

from imageseg.datasets.folder import Folder
from imageseg.datasets.toyscenes import dataset as toyscenes
from imageseg.datasets.toyscenes.dataset import LABELS, ToyScenes
from imageseg.errors import InputError

SMALL = {"size": (64, 70), "counts": (2, 1, 1)}


def content(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_the_same_seed_and_size_give_the_same_bytes(tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        ToyScenes(str(tmp_path / name), **SMALL, seed=seed).prepare()
    first, same, other = (content(tmp_path / name) for name in "abc")
    assert len(first) == 2 * (2 + 1 + 1) + 2
    assert first == same
    images = [name for name in first if name.startswith("images")]
    assert all(first[name] != other[name] for name in images)
    assert len({first[name] for name in images}) == 4  # the splits share no scene


def test_a_image_does_not_depend_on_how_many_there_are(tmp_path):
    for name, counts in (("few", (1, 1, 1)), ("more", (3, 1, 2))):
        ToyScenes(str(tmp_path / name), size=(64, 64), counts=counts).prepare()
    few, more = content(tmp_path / "few"), content(tmp_path / "more")
    assert all(more[name] == few[name] for name in few if name.endswith(".png"))


def test_it_is_a_folder_of_ones_own_images_too(tmp_path):
    dataset = ToyScenes(str(tmp_path / "toys"), **SMALL)
    dataset.prepare()
    folder = Folder(str(tmp_path / "toys"))
    assert folder.labels == LABELS == dataset.labels
    assert folder.pairs("train") == dataset.pairs("train")
    sample = dataset.samples("train")[0]
    assert sample["mask"].shape == (64, 70)
    assert sample["mask"].tolist() == folder.samples("train")[0]["mask"].tolist()
    assert len(sample["mask"].unique()) >= 4
    with Image.open(dataset.pairs("train")[0].mask) as mask:
        assert mask.mode == "P"
        assert mask.getpalette()[:24] == [channel for label in LABELS.labels for channel in label.color]


@pytest.mark.parametrize("arguments", [{"size": (64, 71)}, {"seed": 1}, {"counts": (2, 1, 2)}])
def test_scenes_of_other_arguments_stay_and_are_told(tmp_path, arguments):
    ToyScenes(str(tmp_path / "toys"), **SMALL).prepare()
    before = content(tmp_path / "toys")
    with pytest.raises(
        InputError, match=r"toys: contains ToyScenes with .*but .* was requested.*pass another --data\.root"
    ) as caught:
        ToyScenes(str(tmp_path / "toys"), **(SMALL | arguments)).prepare()
    assert "\n" not in str(caught.value)
    assert content(tmp_path / "toys") == before


def test_a_folder_with_something_else_stays(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty and does not contain ToyScenes"):
        ToyScenes(str(tmp_path), **SMALL).prepare()
    assert content(tmp_path) == {"thesis.txt": b"mine"}


def test_an_empty_folder_may_be_there(tmp_path):
    (tmp_path / "toys").mkdir()
    dataset = ToyScenes(str(tmp_path / "toys"), **SMALL)
    dataset.prepare()
    assert len(dataset.pairs("train")) == 2


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, OSError])
def test_interrupted_painting_leaves_nothing(tmp_path, monkeypatch, interruption):
    painted = []

    def stop_at_the_third(generator, size):
        painted.append(size)
        if len(painted) == 3:
            raise interruption
        return np.zeros((*size, 3), np.uint8), np.zeros(size, np.uint8)

    monkeypatch.setattr(toyscenes, "paint_scene", stop_at_the_third)
    with pytest.raises(interruption):
        ToyScenes(str(tmp_path / "toys"), **SMALL).prepare()
    assert len(painted) == 3
    assert list(tmp_path.iterdir()) == []


def test_unprepared_scenes_say_how_to_prepare_them(tmp_path):
    with pytest.raises(
        InputError, match=r"toys does not exist; 'imageseg prepare ToyScenes --root .*toys' generates it"
    ):
        ToyScenes(str(tmp_path / "toys")).pairs("train")


@pytest.mark.parametrize("arguments", [{"size": (63, 64)}, {"counts": (1, 0, 1)}])
def test_impossible_arguments(arguments):
    with pytest.raises(InputError, match="at least 64 x 64, one image per split"):
        ToyScenes(**arguments)


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o755), (0o027, 0o750)])
def test_the_folder_is_as_open_as_the_users_others(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        ToyScenes(str(tmp_path / "toys"), size=(64, 64), counts=(1, 1, 1)).prepare()
    finally:
        os.umask(before)
    assert {stat.S_IMODE((tmp_path / "toys" / name).stat().st_mode) for name in ("", "images/train")} == {mode}
