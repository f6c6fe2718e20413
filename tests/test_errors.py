import pickle
import shlex

import pytest

from imageseg.errors import InputError, command, counted, did_you_mean


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Unte", " (did you mean 'UNet'?)"),
        ("unett", " (did you mean 'UNet'?)"),
        ("deeplabv3", " (did you mean 'DeepLabV3'?)"),
        ("zebra", ""),
        ("", ""),
    ],
)
def test_did_you_mean(name, hint):
    assert did_you_mean(name, ["UNet", "DeepLabV3", "FCN"]) == hint


def test_without_known_names_there_is_no_hint():
    assert did_you_mean("UNet", []) == ""


def test_the_line_is_the_message():
    assert InputError("a.png: is not an image").line() == "a.png: is not an image"
    assert isinstance(InputError("x"), ValueError)


def test_the_line_of_an_error_that_a_worker_wrapped():
    wrapped = (
        "Caught InputError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
        '  File "samples.py", line 1, in read\n    raise InputError(f"x")\nimageseg.errors.InputError: a.png: no such file\n'
    )
    assert InputError(wrapped).line() == "a.png: no such file"


def test_an_error_can_be_pickled():
    copy = pickle.loads(pickle.dumps(InputError("a.png: no such file")))
    assert isinstance(copy, InputError)
    assert copy.line() == "a.png: no such file"


def test_a_command_can_be_pasted():
    assert command("check", "VOC", "--root", "data") == "'imageseg check VOC --root data'"
    pasted = command("check", "VOC", "--root", "my data")
    assert shlex.split(shlex.split(pasted)[0]) == ["imageseg", "check", "VOC", "--root", "my data"]


@pytest.mark.parametrize(("count", "said"), [(0, "0 masks"), (1, "1 mask"), (2, "2 masks")])
def test_a_count_agrees_with_its_noun(count, said):
    assert counted(count, "mask", "masks") == said
