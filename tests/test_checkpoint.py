import math
import os
import pickle
import signal
import struct
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from imageseg.checkpoint import read_checkpoint, read_network, write_checkpoint
from imageseg.errors import InputError
from imageseg.labels import Label, LabelSpace
from imageseg.recipe import Recipe


def round_trip(tree, tmp_path):
    write_checkpoint(tree, tmp_path / "a.ckpt")
    return read_checkpoint(tmp_path / "a.ckpt")


def test_plain_values_keep_their_kinds(tmp_path):
    tree = {
        "text": "Straße\n\x00 'quoted'",
        "none": None,
        "numbers": [0, -1, 2**70, 0.1, 1e-300, True, False],
        "tuples": ((), (1, (2.0, [3])), [(4,)]),
        "keys": {0: "int", "0": "text", -5: {"": {}}},
        "empty": {},
        "list": [],
        # the words that the format itself uses
        "tensor": {"tensor": "x", "dict": [1], "tuple": (2,), "checksum": 3},
    }
    found = round_trip(tree, tmp_path)
    assert found == tree
    assert repr(found) == repr(tree)  # == takes 1, 1.0 and True for the same


def test_nan_and_infinity_round_trip(tmp_path):
    found = round_trip({"values": [math.nan, math.inf, -math.inf, -0.0]}, tmp_path)["values"]
    assert math.isnan(found[0])
    assert found[1:3] == [math.inf, -math.inf]
    assert math.copysign(1, found[3]) == -1


def test_numpy_numbers_and_paths_become_plain(tmp_path):
    found = round_trip({"a": np.float32(0.5), "b": np.int64(3), "c": np.bool_(True), "d": tmp_path}, tmp_path)
    assert found == {"a": 0.5, "b": 3, "c": True, "d": str(tmp_path)}
    assert [type(value) for value in found.values()] == [float, int, bool, str]


DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16]
DTYPES += [torch.int8, torch.uint8, torch.bool]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (1,), (2, 3), (0, 4), (2, 3, 4, 5)], ids=str)
def test_tensors_of_any_kind_and_shape(tmp_path, dtype, shape):
    tensor = (torch.arange(math.prod(shape)).reshape(shape) - 3).to(dtype)
    found = round_trip({"deep": [{"er": (tensor,)}]}, tmp_path)["deep"][0]["er"][0]
    assert found.dtype == dtype
    assert found.shape == tensor.shape
    assert torch.equal(found, tensor)


def test_tensors_are_kept_bit_for_bit(tmp_path):
    tensor = torch.tensor([math.nan, -0.0, math.inf, 1e-45])
    assert round_trip({"t": tensor}, tmp_path)["t"].view(torch.int32).tolist() == tensor.view(torch.int32).tolist()


def test_channels_last_memory_format_is_kept(tmp_path):
    tensor = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    found = round_trip({"t": tensor, "plain": torch.randn(2, 3, 4, 5)}, tmp_path)
    assert torch.equal(found["t"], tensor)
    assert found["t"].stride() == tensor.stride()
    assert found["plain"].is_contiguous()


def test_views_and_shared_memory(tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    found = round_trip({"a": base, "b": base, "turned": base.T, "column": base[:, 1]}, tmp_path)
    assert torch.equal(found["a"], base)
    assert torch.equal(found["b"], base)
    assert found["turned"].tolist() == base.T.tolist()
    assert found["column"].tolist() == [1, 5, 9]


def test_parameters_come_back_as_tensors(tmp_path):
    found = round_trip({"p": torch.nn.Parameter(torch.ones(2))}, tmp_path)["p"]
    assert type(found) is torch.Tensor
    assert not found.requires_grad


def test_a_restored_optimizer_continues_exactly(tmp_path):
    def steps(weight, optimizer, count):
        for _ in range(count):
            optimizer.zero_grad()
            (weight**2).sum().backward()
            optimizer.step()

    weight = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer = torch.optim.AdamW([weight], lr=0.1)
    steps(weight, optimizer, 3)
    found = round_trip({"weight": weight, "optimizer": optimizer.state_dict()}, tmp_path)
    copy = torch.nn.Parameter(found["weight"])
    copied = torch.optim.AdamW([copy], lr=9.0)
    copied.load_state_dict(found["optimizer"])
    steps(weight, optimizer, 3)
    steps(copy, copied, 3)
    assert torch.equal(copy, weight)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8")),
    lambda values: (
        st.lists(values, max_size=3)
        | st.lists(values, max_size=3).map(tuple)
        | st.dictionaries(st.text("abc") | st.integers(), values, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=4), plain, max_size=3))
def test_any_tree_of_plain_values_round_trips(tmp_path_factory, tree):
    found = round_trip(tree, tmp_path_factory.mktemp("checkpoints"))
    assert repr(found) == repr(tree)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"callbacks": {"Stopping": {"mode": print}}}, r"checkpoint\.callbacks\.Stopping\.mode: a builtin_function_or"),
        ({"a": [1, {2, 3}]}, r"checkpoint\.a\.1: a set cannot be stored"),
        ({"a": b"bytes"}, r"checkpoint\.a: a bytes cannot be stored"),
        ({"a": np.zeros(2)}, r"checkpoint\.a: a ndarray cannot be stored"),
        ({"a": {(1, 2): 3}}, r"checkpoint\.a: a key of type tuple cannot be stored"),
    ],
)
def test_a_value_of_another_type_is_located_and_the_old_file_stays(tmp_path, tree, message):
    write_checkpoint({"old": 1}, tmp_path / "a.ckpt")
    with pytest.raises(TypeError, match=message):
        write_checkpoint(tree, tmp_path / "a.ckpt")
    assert read_checkpoint(tmp_path / "a.ckpt") == {"old": 1}
    assert len(list(tmp_path.iterdir())) == 1


def test_a_full_disk_keeps_the_old_file(tmp_path):
    resource = pytest.importorskip("resource")
    path = tmp_path / "a.ckpt"
    write_checkpoint({"old": torch.ones(3)}, path)
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.getsignal(signal.SIGXFSZ)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"a\.ckpt: cannot be written .*too large"):
            write_checkpoint({"new": torch.ones(100_000)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert read_checkpoint(path)["old"].tolist() == [1, 1, 1]
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_at_the_end_leaves_no_temporary(tmp_path, monkeypatch):
    def no_space(descriptor):
        raise OSError(28, "No space left on device")

    path = tmp_path / "a.ckpt"
    write_checkpoint({"old": 1}, path)
    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space left"):
        write_checkpoint({"new": 2}, path)
    assert read_checkpoint(path) == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]


TREE = {"weights": {"a": torch.arange(40.0), "b": torch.ones(2, 3, dtype=torch.int64)}, "step": 3, "names": ["x", "y"]}


@pytest.fixture
def whole(tmp_path):
    write_checkpoint(TREE, tmp_path / "whole.ckpt")
    return (tmp_path / "whole.ckpt").read_bytes()


def refuses(path, content):
    path.write_bytes(content)
    for read in (read_checkpoint, read_network):
        with pytest.raises(InputError) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)


def test_a_truncated_file_is_refused(tmp_path, whole):
    lengths = {0, 1, 7, 8, 9, len(whole) - 1, *range(10, len(whole), len(whole) // 14)}
    assert len(lengths) >= 20
    for length in lengths:
        refuses(tmp_path / "cut.ckpt", whole[:length])


def test_a_longer_file_is_refused(tmp_path, whole):
    refuses(tmp_path / "long.ckpt", whole + b"\0")


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 64, b"\xff" * 64, b"PK\x03\x04" + b"\0" * 60, b"{}" * 30, bytes(range(256)) * 4]
)
def test_garbage_is_refused(tmp_path, content):
    refuses(tmp_path / "garbage.ckpt", content)


def test_a_flipped_bit_is_never_loaded(tmp_path, whole):
    path = tmp_path / "flipped.ckpt"
    for place in range(len(whole)):
        content = bytearray(whole)
        content[place] ^= 1 << place % 8
        path.write_bytes(content)
        with pytest.raises(InputError):
            read_checkpoint(path)


def test_a_header_of_impossible_length_is_refused(tmp_path, whole):
    for length in (2**63, 2**40, len(whole) * 2):
        refuses(tmp_path / "header.ckpt", struct.pack("<Q", length) + whole[8:])


class Payload:
    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return os.mkdir, (self.marker,)


def test_a_pickle_is_refused_and_its_payload_never_runs(tmp_path):
    marker = tmp_path / "marker"
    (tmp_path / "a.pickle").write_bytes(pickle.dumps(Payload(marker)))
    torch.save({"state_dict": Payload(marker)}, tmp_path / "b.ckpt")
    for name in ("a.pickle", "b.ckpt"):
        for read in (read_checkpoint, read_network):
            with pytest.raises(InputError, match="is not a checkpoint of imageseg, or is damaged"):
                read(tmp_path / name)
    assert not marker.exists()
    pickle.loads((tmp_path / "a.pickle").read_bytes())
    assert marker.exists()  # so the payload works where somebody unpickles it


def test_safetensors_of_another_program_are_rejected(tmp_path):
    save_file({"a": torch.ones(2)}, tmp_path / "a.safetensors")
    with pytest.raises(InputError, match="is a safetensors file, but not a checkpoint of imageseg"):
        read_checkpoint(tmp_path / "a.safetensors")


def test_an_invalid_tree_is_refused(tmp_path):
    for tree in ("[", "[" * 10_000, "{}", '{"tensor": "absent", "checksum": 0}', '{"dict": [[1]]}'):
        metadata = {"format": "imageseg-checkpoint-1", "tree": tree, "checksum": str(zlib.crc32(tree.encode()))}
        save_file({"a": torch.ones(2)}, tmp_path / "a.ckpt", metadata=metadata)
        refuses(tmp_path / "a.ckpt", (tmp_path / "a.ckpt").read_bytes())


def test_a_missing_file(tmp_path):
    with pytest.raises(InputError, match="no such checkpoint"):
        read_checkpoint(tmp_path / "absent.ckpt")


def test_a_folder_is_not_a_checkpoint_but_may_hold_one(tmp_path):
    with pytest.raises(InputError, match="is a folder, and contains no checkpoint"):
        read_checkpoint(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "best.ckpt").touch()
    with pytest.raises(InputError, match=r"is a folder; pass one of its checkpoints, such as .*checkpoints.best\.ckpt"):
        read_checkpoint(tmp_path)


RECIPE = Recipe("VOC", "UNet", data={"crop_size": [64, 64]})
LABELS = LabelSpace((Label("road", (1, 2, 3), (0,)), Label("car", (4, 5, 6), (1,))))
RUN = {
    "global_step": 7,
    "state_dict": {"network.head.weight": torch.ones(2), "loss.weight": torch.zeros(1), "network.n": torch.tensor(3)},
    "optimizer_states": [{"state": {0: {"step": torch.tensor(7.0)}}}],
    "imageseg": {"recipe": RECIPE.to_dict(), "labels": LABELS.to_dict(), "version": "0"},
}


def test_recipe_labels_and_weights_are_read(tmp_path):
    write_checkpoint(RUN, tmp_path / "a.ckpt")
    trained = read_network(tmp_path / "a.ckpt")
    assert (trained.recipe, trained.labels, trained.step) == (RECIPE, LABELS, 7)
    assert {name: weight.tolist() for name, weight in trained.weights.items()} == {"head.weight": [1, 1], "n": 3}


@pytest.mark.parametrize("absent", ["imageseg", "state_dict"])
def test_a_checkpoint_without_a_network(tmp_path, absent):
    write_checkpoint({key: value for key, value in RUN.items() if key != absent}, tmp_path / "a.ckpt")
    with pytest.raises(InputError, match=r"a\.ckpt: contains no network of a training run"):
        read_network(tmp_path / "a.ckpt")


@pytest.mark.parametrize("record", [{}, {"recipe": RECIPE.to_dict()}, {"recipe": {}, "labels": LABELS.to_dict()}, 3])
def test_a_record_that_is_incomplete(tmp_path, record):
    write_checkpoint(RUN | {"imageseg": record}, tmp_path / "a.ckpt")
    with pytest.raises(InputError, match=r"a\.ckpt: "):
        read_network(tmp_path / "a.ckpt")


def test_tensors_stay_valid_when_the_file_is_replaced(tmp_path):
    """A run writes its last checkpoint again and again, perhaps while somebody else has read it."""
    found = round_trip({"a": torch.arange(5000.0)}, tmp_path)
    write_checkpoint({"a": torch.zeros(5000)}, tmp_path / "a.ckpt")
    assert torch.equal(found["a"], torch.arange(5000.0))
    (tmp_path / "a.ckpt").unlink()
    assert torch.equal(found["a"], torch.arange(5000.0))
