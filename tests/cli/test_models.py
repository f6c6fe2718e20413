"""imageseg models: the networks and encoders as a table and as JSON."""

from __future__ import annotations

import json
import re

import pytest
import timm
import torch

import imageseg
from imageseg import InputError
from imageseg.cli import main
from imageseg.models.catalog import encoder_facts, encoders_like, network_facts


def test_every_network_is_listed_with_paper_and_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    text = capsys.readouterr().out
    for name in imageseg.MODELS:
        (row,) = re.findall(rf"^{re.escape(name)} .*", text, flags=re.M)
        assert re.search(r"\d+\.\d\d M", row), row
        # A linear layer on frozen features has no paper.
        assert re.search(r"arXiv:\d{4}\.\d{4,5}", row) or name == "ViTLinear", row
    assert re.search(r"^UNet +resnet50 +- +32\.52 M +Ronneberger et al\. 2015, arXiv:1505\.04597$", text, flags=re.M)


def test_networks_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--json"]) == 0
    networks = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)["networks"]}
    assert networks.keys() == set(imageseg.MODELS)
    assert networks["DeepLabv3_plus"]["output_stride"] == 16
    assert networks["DeepLabv3_plus"]["encoder"] == "resnet50"


def test_parameters_are_those_of_the_built_network() -> None:
    network = imageseg.build_model("UNet", 19, pretrained=False)
    assert network_facts("unet").parameters == sum(parameter.numel() for parameter in network.parameters())


def test_encoders_are_listed_with_their_output_strides_and_weights(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--encoders", "resnet1[08]*", "--limit", "2"]) == 0
    captured = capsys.readouterr()
    rows = captured.out.splitlines()
    assert " ".join(rows[0].split()) == "encoder parameters GMACs output strides weights license of the weights"
    assert re.fullmatch(
        r"resnet10t +4\.92 M +1\.10 +32, 16, 8 +(downloaded at first use|on this machine) +apache-2\.0", rows[1]
    )
    assert rows[2].startswith("resnet18 ")
    assert "2 of " in captured.err
    assert "--limit 0 lists all" in captured.err


def test_gmacs_match_the_published_ones() -> None:
    assert encoder_facts("resnet18").gmacs == pytest.approx(
        1.82, abs=0.02
    )  # torchvision's table: 1.81 with its classifier
    assert encoder_facts("resnet18").parameters == 11_689_512 - 513_000
    with torch.device("meta"):
        assert encoder_facts("resnet18").strides == (2, 4, 8, 16, 32)


def test_encoders_as_json_with_those_that_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--encoders", "vgg11*", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in report["encoders"]] == ["vgg11", "vgg11_bn"]
    assert all(entry["output_strides"] == [32] for entry in report["encoders"])
    assert all(entry["license"] == entry["licence"] for entry in report["encoders"]), (
        "the key of earlier versions stays"
    )
    assert main(["models", "--encoders", "vit_tiny*", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["encoders"] == []
    assert all("accepts images of one size only" in reason for reason in report["refused"].values())
    assert main(["models", "--encoders", "vit_tiny*"]) == 0
    assert "of timm cannot be used here: vit_tiny" in capsys.readouterr().out


def test_the_location_of_weights_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    encoder_facts.cache_clear()
    monkeypatch.setattr("imageseg.models.catalog.path_in_wheel", lambda name: None)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)
    assert encoder_facts("test_resnet").weights == "hub"
    assert encoder_facts("tf_efficientnet_lite0").weights == "package"
    encoder_facts.cache_clear()
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: "/cache/model.safetensors")
    assert encoder_facts("test_resnet").weights == "here"
    encoder_facts.cache_clear()


def test_patterns_and_names() -> None:
    assert encoders_like("resnet50") == ["resnet50"]
    assert encoders_like("mit_*") == [f"mit_b{size}" for size in range(6)]
    assert (encoder_facts("mit_b0").weights, encoder_facts("mit_b0").output_strides) == ("none", (32,))
    assert set(encoders_like("convnext_*")) <= set(timm.list_models())
    with pytest.raises(InputError, match=r"no encoder matches 'resnt50' \(did you mean 'resnet50'\?\)"):
        encoders_like("resnt50")


def test_a_negative_limit_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--encoders", "resnet18", "--limit", "-1"]) == 2
    assert "--limit must be 0 or more" in capsys.readouterr().err
