"""Encoder: any timm network with feature maps at several strides, and the creation of timm networks with their weights."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Sequence
from pickle import UnpicklingError
from typing import Any, Literal

import timm
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional as F

from imageseg.errors import InputError, did_you_mean
from imageseg.models.encoders.dilation import dilate_first_blocks
from imageseg.models.encoders.families import MIT, needed_multiple, timm_name, timm_settings
from imageseg.models.encoders.wheels import EXTRA, encoder_state_in_wheel, wheel_of

_DILATING = "resnet50, resnext50_32x4d, regnety_008, efficientnet_b0, mobilenetv3_large_100, convnext_tiny"


class Encoder(nn.Module):
    """A timm network without its classifier, as a list of feature maps, finest first.

    Args:
        name: timm name, for example "resnet50", or one of SegFormer's "mit_b0" to "mit_b5".
        pretrained: Whether to load timm's weights, from this machine's cache or by downloading them once.
        output_stride: Coarsest stride: 8, 16 or 32. Below 32 the last stages are dilated instead of strided.
        first_block: Dilation policy for the first convolutions of a dilated stage: "contract" keeps the dilation of the stage
            before, as in torchvision and timm and as published weights expect; "full" applies the new dilation, as in
            segmentation_models_pytorch and hszhao/semseg.
        in_channels: Number of image channels. If it is not 3, timm adapts the weights of the first convolution.

    Attributes:
        strides: Image pixels per feature pixel for each map, ascending; dilated stages repeat the stride before them.
        channels: Number of channels of each map.
        mean: Mean per channel that the weights were trained with, on a scale of 0 to 1.
        std: Standard deviation per channel that the weights were trained with, on the same scale.
        pretrained: Whether timm's weights were loaded.

    Raises:
        InputError: Unknown name, an encoder that cannot dilate or has no feature pyramid, or unavailable weights.
    """

    def __init__(
        self,
        name: str,
        *,
        pretrained: bool = True,
        output_stride: int = 32,
        first_block: Literal["contract", "full"] = "contract",
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        if first_block not in ("contract", "full"):
            raise InputError(f"first_block must be 'contract' or 'full', found {first_block!r}")
        if output_stride not in (8, 16, 32):
            raise InputError(f"output_stride must be 8, 16 or 32, found {output_stride}")
        require_known(name)
        self.name = name
        self.network: Any = _create(name, pretrained=pretrained, output_stride=output_stride, in_channels=in_channels)
        self.network.pretrained_cfg.pop("state_dict", None)  # weights from a package, which have been loaded
        self.pretrained = pretrained
        self.in_channels = in_channels
        self.mean, self.std = normalization_of(self.network, in_channels)
        info = self.network.feature_info
        reductions = [round(reduction) for reduction in info.reduction()]
        self._kept = [i for i, stride in enumerate(reductions) if stride > 1]
        self.strides = [reductions[i] for i in self._kept]
        self.channels = [info.channels()[i] for i in self._kept]
        if not {4, 8} <= set(self.strides) or self.strides[-1] != output_stride:
            raise InputError(
                f"encoder '{name}' has feature maps at strides {reductions}; a pyramid from 4 to {output_stride} is needed, "
                "for example that of resnet50"
            )
        if first_block == "full" and output_stride < 32:
            # On the meta device a network has structure but no values.
            with torch.device("meta"):
                strided = timm.create_model(name, features_only=True, in_chans=in_channels)
            dilate_first_blocks(self.network, strided)
        self._multiple = needed_multiple(name)
        # Some timm networks (Swin) return (N, H, W, C).
        self._channels_last_axis = str(getattr(self.network, "output_fmt", "NCHW")).endswith("NHWC")

    def deepest(self, stride: int) -> int:
        """The index of the last map with this stride, which is the deepest if several stages have it."""
        return max(i for i, found in enumerate(self.strides) if found == stride)

    def levels_from(self, finest: int) -> list[int]:
        """The index of the deepest map of each stride from ``finest`` on, finest first."""
        return [self.deepest(stride) for stride in sorted(set(self.strides)) if stride >= finest]

    def forward(self, images: Tensor) -> list[Tensor]:
        """(N, in_channels, H, W) to feature maps (N, channels[i], about H / strides[i], about W / strides[i]).

        Raises:
            InputError: Images too small for this encoder or for batch statistics in training, or of an unsupported size.
        """
        count, _, height, width = images.shape
        if self.training:
            values = count * -(-height // self.strides[-1]) * -(-width // self.strides[-1])
            require_values(values, (height, width), name=self.name, stride=self.strides[-1])
        padded = images
        if self._multiple > 1:
            # Zero is the mean color after normalization.
            padded = F.pad(images, (0, -width % self._multiple, 0, -height % self._multiple))
        try:
            maps = self._maps(padded)
        except RuntimeError as error:
            # Out of memory is a RuntimeError too; torch's errors about mismatched sizes contain the word "size".
            if isinstance(error, torch.OutOfMemoryError) or "size" not in str(error).lower():
                raise
            coarsest = self.strides[-1]
            if min(height, width) < 32:
                raise InputError(
                    f"encoder '{self.name}' cannot process a {height} x {width} image; 32 x 32 is enough"
                ) from error
            if height % coarsest or width % coarsest:
                raise InputError(
                    f"encoder '{self.name}' cannot process a {height} x {width} image, only sides divisible by {coarsest}; "
                    "most encoders, for example resnet50, accept any size"
                ) from error
            raise
        features = [maps[i] for i in self._kept]
        if self._channels_last_axis:
            features = [feature.permute(0, 3, 1, 2) for feature in features]
        if self._multiple > 1:
            features = [
                feature[..., : -(-height // stride), : -(-width // stride)]
                for feature, stride in zip(features, self.strides, strict=True)
            ]
        if self.training:
            # Some encoders (VGG, ConvNeXt) round the size of a map down, others up.
            require_values(features[-1][:, 0].numel(), (height, width), name=self.name, stride=self.strides[-1])
        return features

    def _maps(self, images: Tensor) -> list[Tensor]:
        """All maps in timm's ``feature_info``."""
        maps: list[Tensor] = self.network(images)
        return maps


def require_values(values: int, size: Sequence[int], *, name: str, stride: int) -> None:
    """Refuse to train on a map with a single value per channel, which has no variance.

    Args:
        values: Number of values per channel of the coarsest map, over the batch.
        size: H and W of the images.
        name: Name of the encoder.
        stride: Stride of the map.

    Raises:
        InputError: There are fewer than two values.
    """
    if values < 2:
        height, width = size
        raise InputError(
            f"a single {height} x {width} image cannot train encoder '{name}': batch normalization needs more than one "
            f"value per channel; use images of {2 * stride} x {2 * stride} or more, or a larger batch"
        )


def normalization_of(network: Any, in_channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The mean and standard deviation per image channel that a timm network's weights were trained with."""
    config = network.pretrained_cfg
    return spread_over_channels(config["mean"], in_channels), spread_over_channels(config["std"], in_channels)


def spread_over_channels(values: Sequence[float], channels: int) -> tuple[float, ...]:
    """One value per channel: the values themselves if the numbers agree, otherwise their mean, as timm mixes channel weights."""
    if channels == len(values):
        return tuple(values)
    return (sum(values) / len(values),) * channels


def file_in_cache(config: Any) -> str | None:
    """The weights file of a timm configuration in the hub's cache on this machine, or None."""
    import huggingface_hub

    for filename in ("model.safetensors", "pytorch_model.bin") if config.hf_hub_id else ():
        cached = huggingface_hub.try_to_load_from_cache(str(config.hf_hub_id), filename)
        if isinstance(cached, str):
            return cached
    return None


def require_known(name: str) -> None:
    """Raises:
    InputError: timm has no network with this name.
    """
    if not isinstance(name, str) or not timm.is_model(timm_name(name)):
        hint = did_you_mean(str(name), [*timm.list_models(), *MIT])
        raise InputError(f"timm has no encoder '{name}'{hint}; list them with: imageseg models --encoders '*'")


def timm_network(name: str, *, pretrained: bool, **arguments: Any) -> Any:
    """Create a timm network, with timm's weights if ``pretrained``.

    Raises:
        InputError: The weights do not exist, are unavailable, are damaged or belong to a different network.
    """
    weights: dict[str, Any] = {"pretrained_cfg_overlay": _weights_overlay(name)} if pretrained else {}
    try:
        return timm.create_model(timm_name(name), pretrained=pretrained, **weights, **arguments)
    # Damaged weights raise UnpicklingError or SafetensorError; weights of a different network a RuntimeError of many lines.
    except (RuntimeError, OSError, AttributeError, UnpicklingError, SafetensorError) as error:
        raise InputError(f"timm cannot create encoder '{name}' ({' '.join(str(error).split())[:300]})") from error


def _create(name: str, *, pretrained: bool, output_stride: int, in_channels: int) -> Any:
    settings = timm_settings(name)
    config = timm.get_pretrained_cfg(timm_name(name))
    if config is not None and config.fixed_input_size and "strict_img_size" not in settings:
        raise InputError(
            f"encoder '{name}' accepts images of one size only; use one without this limit, such as convnext_tiny or pvt_v2_b0"
        )
    # Encoders that cannot dilate refuse this argument even for the default stride.
    stride: dict[str, Any] = {} if output_stride == 32 else {"output_stride": output_stride}
    try:
        return timm_network(name, pretrained=pretrained, features_only=True, in_chans=in_channels, **settings, **stride)
    except (TypeError, AssertionError) as error:
        if not stride:
            raise InputError(f"timm cannot extract feature maps from '{name}' ({error})") from error
        raise InputError(
            f"encoder '{name}' cannot dilate to output_stride {output_stride}; use output_stride 32, a network that does not "
            f"dilate (UNet), or an encoder that can: {_DILATING}"
        ) from error


def _weights_overlay(name: str) -> dict[str, Any]:
    """timm settings that load the weights from an installed package or the cache; empty if timm can download them.

    Raises:
        InputError: There are no weights, or they are neither on this machine nor available for download.
    """
    import huggingface_hub

    if (state := encoder_state_in_wheel(name)) is not None:
        return {"state_dict": state}
    if name in MIT:
        raise InputError(
            f"encoder '{name}' has no freely licensed pretrained weights; use {MIT[name]}, which has, or pass "
            "--network.pretrained false"
        )
    config = timm.get_pretrained_cfg(name)
    if config is None or not config.has_weights:
        raise InputError(f"encoder '{name}' has no pretrained weights; pass --network.pretrained false")
    if not config.hf_hub_id:
        return {}
    if (cached := file_in_cache(config)) is not None:
        return {"file": cached}
    package = f"{EXTRA}, " if wheel_of(name) else ""
    if huggingface_hub.constants.HF_HUB_OFFLINE:
        raise InputError(
            f"the pretrained weights of encoder '{name}' are not on this machine, and HF_HUB_OFFLINE forbids downloads; "
            f"{package}unset it once, or pass --network.pretrained false"
        )
    # The hub's client retries a failing request for most of a minute, so test the connection first.
    endpoint = huggingface_hub.constants.ENDPOINT
    try:
        urllib.request.urlopen(urllib.request.Request(endpoint, method="HEAD"), timeout=10).close()
    except urllib.error.HTTPError:
        pass  # the server answered
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise InputError(
            f"the pretrained weights of encoder '{name}' are not on this machine and {endpoint} cannot be reached ({reason}); "
            f"{package}connect once, or pass --network.pretrained false"
        ) from error
    return {}
