"""FCN (Long et al. 2015, arXiv:1411.4038): VGG with a convolutional classifier and skip connections, and dilated successors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imageseg.errors import InputError
from imageseg.models.base import Network, resize
from imageseg.models.encoders.timm_encoder import Encoder, timm_network
from imageseg.models.layers.blocks import FCNHead, classifier, conv_norm_relu, initialize_head
from imageseg.models.layers.dropout import Dropout

_SKIPS = {"32s": (), "16s": (16,), "8s": (16, 8)}
_OUTPUT_STRIDES = {"dilated": 8, "d6": 16}


class FCN(Network):
    """FCN: class scores of the encoder's coarsest map, refined with scores of finer maps, or of a map kept fine by dilation.

    Args:
        num_classes: Number of classes.
        variant: "32s", "16s" and "8s" are the paper's (section 4.2): scores at stride 32, to which the latter two add scores at
            stride 16, and at strides 16 and 8. "dilated" is the head of PSPNet's auxiliary loss on a dilated encoder, as
            torchvision's FCN. "d6" has two 3x3 convolutions of dilation 6 at stride 16, as mmsegmentation's FCN-D6.
        encoder: Name of the timm encoder. If not set, "vgg16" for the paper's variants and "resnet50" for the dilated ones. A VGG
            is followed by its fully connected layers as convolutions; other encoders are scored directly, like GoogLeNet in
            the paper.
        pretrained: Whether to start from the encoder's published weights; with a VGG also those of its fully connected layers.
        in_channels: Number of image channels.
        pad: Padding of the paper's variants. "same" keeps the maps on the pixel grid of the image. "caffe", for VGG only, computes
            the same as the authors' networks: a border of 100 pixels, and maps that are upsampled by fixed bilinear kernels
            and cropped, at 1.7 times the cost.
        channels: Number of channels of a VGG's fully connected layers; published weights have 4096.
        at_once: Whether the finer maps are scaled by 0.01 and 0.0001 before scoring, so that all skip connections are trained
            together instead of in stages.
        output_stride: Coarsest stride of the encoder in the dilated variants. If not set, 8, or 16 for "d6".
        dropout: Dropout rate. If not set, 0.5 after the fully connected layers and 0.1 before the classifier of the dilated
            variants.
        aux: Whether to add an auxiliary head on the stage before the last to the dilated variants, for ``forward_with_aux``.
        first_block: Dilation policy of the encoder: "contract" as in torchvision, "full" as in segmentation_models_pytorch.
        align_corners: Whether every resizing, including the last step to the image, aligns corner pixels.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        variant: Literal["32s", "16s", "8s", "dilated", "d6"] = "8s",
        encoder: str | None = None,
        pretrained: bool = True,
        in_channels: int = 3,
        pad: Literal["same", "caffe"] = "same",
        channels: int = 4096,
        at_once: bool = False,
        output_stride: int | None = None,
        dropout: float | None = None,
        aux: bool = False,
        first_block: Literal["contract", "full"] = "contract",
        align_corners: bool = False,
    ) -> None:
        skips = _SKIPS.get(variant)
        name = encoder or ("vgg16" if skips is not None else "resnet50")
        _check(name, variant=variant, pad=pad)
        _check_unused(
            variant,
            {
                "output_stride": output_stride not in (None, 32),
                "aux": aux,
                "first_block": first_block != "contract",
            }
            if skips is not None
            else {"at_once": at_once, "channels": channels != 4096},
        )
        body = Encoder(
            name,
            pretrained=pretrained,
            output_stride=output_stride or _OUTPUT_STRIDES.get(variant, 32),
            first_block=first_block,
            in_channels=in_channels,
        )
        super().__init__(num_classes, body, align_corners=align_corners)
        self.auxiliary = FCNHead(body.channels[-2], num_classes) if aux else None
        if skips is None:
            head = FCNHead if variant == "dilated" else FCND6Head
            self.head: nn.Module = head(body.channels[-1], num_classes, dropout=0.1 if dropout is None else dropout)
            return
        vgg = _is_vgg(name)
        if vgg:
            _adapt_vgg(body, border=100 if pad == "caffe" else 1)
        # timm gives a VGG's maps before pooling, at half the stride of the pooled maps that the paper scores.
        self.skips = [body.deepest(stride // 2 if vgg else stride) for stride in skips]
        self.pools_skips = vgg
        self.head = FCNSkipHead(
            [body.channels[-1], *(body.channels[index] for index in self.skips)],
            num_classes,
            fully_connected=channels if vgg else None,
            pad=pad,
            scales=(0.01, 0.0001) if at_once else (1, 1),
            dropout=0.5 if dropout is None else dropout,
            align_corners=align_corners,
        )
        if vgg and pretrained and channels == 4096:
            self.head.take_fully_connected(_fully_connected_of(body))

    def decode(self, features: list[Tensor], size: Sequence[int]) -> Tensor:
        """Logits at the stride of the finest scored map, or with ``pad="caffe"`` at the size of the images."""
        if not isinstance(self.head, FCNSkipHead):
            dense: Tensor = self.head(features[-1])
            return dense
        skips = [features[index] for index in self.skips]
        if self.pools_skips:
            skips = [F.max_pool2d(skip, 2, 2, ceil_mode=True) for skip in skips]
        logits: Tensor = self.head([features[-1], *skips], size)
        return logits


class FCNSkipHead(nn.Module):
    """Class scores of several maps, coarsest first, each upsampled to the next and added to it.

    Args:
        in_channels: Number of channels of each map, coarsest first.
        num_classes: Number of classes.
        fully_connected: Number of channels of VGG's fully connected layers on the coarsest map, or None to omit them.
        pad: "same" or "caffe", as for ``FCN``.
        scales: Factors applied to the finer maps.
        dropout: Dropout rate after each fully connected layer.
        align_corners: Whether resizing with ``pad="same"`` aligns corner pixels.
    """

    # Crop offsets of the authors' networks, which follow from a border of 100, unpadded kernels and pooling that rounds up.
    _SKIP_OFFSETS = (5, 9)
    _LAST_OFFSETS = (19, 27, 31)

    up_kernel: Tensor
    last_kernel: Tensor

    def __init__(
        self,
        in_channels: Sequence[int],
        num_classes: int,
        *,
        fully_connected: int | None,
        pad: Literal["same", "caffe"],
        scales: Sequence[float],
        dropout: float,
        align_corners: bool,
    ) -> None:
        super().__init__()
        self.caffe = pad == "caffe"
        self.scales = tuple(scales)
        self.align_corners = align_corners
        self.last_stride = 32 // 2 ** (len(in_channels) - 1)
        self.fc6: nn.Module | None = None
        self.fc7: nn.Module | None = None
        self.dropout = Dropout(dropout)
        if fully_connected is not None:
            self.fc6 = nn.Conv2d(in_channels[0], fully_connected, 7, padding=0 if self.caffe else 3)
            self.fc7 = nn.Conv2d(fully_connected, fully_connected, 1)
            initialize_head(self)
        widths = [fully_connected or in_channels[0], *in_channels[1:]]
        self.scores = nn.ModuleList(nn.Conv2d(width, num_classes, 1) for width in widths)
        for parameter in self.scores.parameters():  # as in the authors' networks
            nn.init.zeros_(parameter)
        if self.caffe:
            for name, kernel in (("up_kernel", 4), ("last_kernel", 2 * self.last_stride)):
                weight = bilinear_kernel(kernel).repeat(num_classes, 1, 1, 1)
                self.register_buffer(name, weight, persistent=False)

    def take_fully_connected(self, source: Any) -> None:
        """Copy the weights of VGG's fully connected layers, which timm stores as convolutions ``fc1`` and ``fc2``."""
        for ours, theirs in ((self.fc6, source.fc1), (self.fc7, source.fc2)):
            assert ours is not None
            ours.load_state_dict(theirs.state_dict())

    def forward(self, maps: list[Tensor], size: Sequence[int]) -> Tensor:
        """Maps, coarsest first, to logits at the stride of the last map, or with ``pad="caffe"`` at ``size``."""
        coarsest, *skips = maps
        if self.fc6 is not None and self.fc7 is not None:
            coarsest = self.dropout(F.relu(self.fc6(coarsest)))
            coarsest = self.dropout(F.relu(self.fc7(coarsest)))
        logits: Tensor = self.scores[0](coarsest)
        for index, (skip, scale) in enumerate(zip(skips, self.scales, strict=False)):
            scores = self.scores[index + 1](skip if scale == 1 else scale * skip)
            if self.caffe:
                logits = _upsample(logits, self.up_kernel, stride=2)
                logits = logits + _crop(scores, logits.shape[-2:], offset=self._SKIP_OFFSETS[index])
            else:
                logits = resize(logits, scores.shape[-2:], align_corners=self.align_corners) + scores
        if self.caffe:
            logits = _upsample(logits, self.last_kernel, stride=self.last_stride)
            logits = _crop(logits, size, offset=self._LAST_OFFSETS[len(skips)])
        return logits


class FCND6Head(nn.Module):
    """mmsegmentation's FCN-D6: two 3x3 convolutions of dilation 6, a third one on their output and input, dropout, classifier."""

    def __init__(self, in_channels: int, num_classes: int, *, dropout: float = 0.1) -> None:
        super().__init__()
        width = in_channels // 4
        self.convs = nn.Sequential(
            conv_norm_relu(in_channels, width, dilation=6), conv_norm_relu(width, width, dilation=6)
        )
        self.join = conv_norm_relu(in_channels + width, width)
        self.dropout = Dropout(dropout)
        initialize_head(self)
        self.classifier = classifier(width, num_classes)

    def forward(self, features: Tensor) -> Tensor:
        """(N, in_channels, h, w) to (N, num_classes, h, w)."""
        joined = self.join(torch.cat([features, self.convs(features)], dim=1))
        logits: Tensor = self.classifier(self.dropout(joined))
        return logits


def bilinear_kernel(size: int) -> Tensor:
    """(1, 1, size, size) kernel with which a transposed convolution of stride ``size`` / 2 interpolates bilinearly."""
    factor = (size + 1) // 2
    center = factor - 1 if size % 2 else factor - 0.5
    weights = 1 - (torch.arange(size, dtype=torch.float32) - center).abs() / factor
    return (weights[:, None] * weights).view(1, 1, size, size)


def _upsample(logits: Tensor, kernel: Tensor, *, stride: int) -> Tensor:
    # One kernel per class. The authors' files have one per pair of classes, most of them zero.
    return F.conv_transpose2d(logits, kernel, stride=stride, groups=logits.shape[1])


def _crop(maps: Tensor, size: Sequence[int], *, offset: int) -> Tensor:
    return maps[:, :, offset : offset + size[0], offset : offset + size[1]]


def _is_vgg(encoder: str) -> bool:
    return encoder.startswith("vgg")


def _check(encoder: str, *, variant: str, pad: str) -> None:
    if variant not in (*_SKIPS, *_OUTPUT_STRIDES):
        raise InputError(f"variant must be one of {', '.join((*_SKIPS, *_OUTPUT_STRIDES))}, found {variant!r}")
    if pad not in ("same", "caffe"):
        raise InputError(f"pad must be 'same' or 'caffe', found {pad!r}")
    if pad == "caffe" and not (variant in _SKIPS and _is_vgg(encoder)):
        raise InputError(
            f"pad 'caffe' is for variants {', '.join(_SKIPS)} on a VGG, found variant '{variant}' on encoder '{encoder}'; "
            "leave it out, or use encoder vgg16"
        )


def _check_unused(variant: str, given: Mapping[str, bool]) -> None:
    """Raises:
    InputError: An argument is given that the variant does not use.
    """
    for argument, is_given in given.items():
        if is_given:
            others = ("dilated", "d6") if variant in _SKIPS else tuple(_SKIPS)
            raise InputError(
                f"variant '{variant}' does not use {argument}; leave it out, or use variant {' or '.join(others)}"
            )


def _adapt_vgg(encoder: Encoder, *, border: int) -> None:
    """Make pooling round up as in the authors' networks, so that images of any size keep all pixels, and set the border."""
    for layer in encoder.network.modules():
        if isinstance(layer, nn.MaxPool2d):
            layer.ceil_mode = True
    first = next(layer for layer in encoder.network.modules() if isinstance(layer, nn.Conv2d))
    first.padding = (border, border)


def _fully_connected_of(encoder: Encoder) -> Any:
    """The fully connected layers of the encoder's VGG, with the published weights of the same file."""
    return timm_network(encoder.name, pretrained=True).pre_logits
