"""Network: the contract of every segmentation network in this package."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imageseg.errors import InputError
from imageseg.models.row_bands import each_part, ranges

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_BAND = 2**19
"""Number of resized logits that a thread holds at once, over all classes and images: 2 MB, which fits into a CPU cache."""


class ImageEncoder(Protocol):
    """What a network needs to know about its encoder, which is a ``torch.nn.Module``.

    Attributes:
        mean: Mean per channel of the images that the encoder's weights were trained with, on a scale of 0 to 1.
        std: Standard deviation per channel of these images.
        pretrained: Whether the encoder starts from published weights.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    pretrained: bool


class Network(nn.Module):
    """A segmentation network that accepts plain RGB images and owns their normalization.

    A subclass implements ``decode``, from the encoder's features to logits at any stride; all networks share the step to the
    image size. A subclass whose encoder and decode head cannot be separated overrides ``coarse_logits`` instead.

    Args:
        num_classes: Number of classes, 1 to 255.
        encoder: Pretrained part of the network, which trains with a learning rate of its own.
        align_corners: Pixel grid of the coarse logits. False aligns their outer edges with those of the image, True aligns the
            centers of their corner pixels. A network is trained for one of the two.

    Attributes:
        encoder: The encoder.
        pretrained: Whether the encoder starts from pretrained weights.
        auxiliary: The auxiliary head on one of the encoder's feature maps, or None. Subclasses set it.
        auxiliary_level: Index of this feature map; by default the one before the coarsest.
        mean: (1, C, 1, 1) buffer in units of the images, 0 to 255.
        std: (1, C, 1, 1) buffer in the same units.
    """

    encoder: nn.Module
    pretrained: bool
    auxiliary: nn.Module | None
    auxiliary_level: int = -2
    mean: Tensor
    std: Tensor

    def __init__(self, num_classes: int, encoder: ImageEncoder, *, align_corners: bool = False) -> None:
        super().__init__()
        if not 1 <= num_classes <= 255:
            raise ValueError(f"num_classes must be from 1 to 255, found {num_classes}")  # 255 is the ignored index
        assert isinstance(encoder, nn.Module)
        self.num_classes = num_classes
        self.align_corners = align_corners
        self.encoder = encoder
        self.pretrained = encoder.pretrained
        self.auxiliary = None
        # In units of the images, 0 to 255: saves one multiplication per pixel.
        self.register_buffer("mean", 255 * torch.tensor(encoder.mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(encoder.std).view(1, -1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits for every pixel.

        Args:
            images: (N, C, H, W), uint8 or floating point on the same scale of 0 to 255. Any N, and any H and W that the
                encoder accepts: every encoder accepts 32 and more, and most (ResNets) also less.

        Returns:
            (N, num_classes, H, W) logits.

        Raises:
            InputError: A different number of channels, an image that is smaller than the encoder accepts, or, in training, a
                single image so small that batch statistics are undefined.
        """
        logits = self.coarse_logits(self.normalize(images))
        return resize(logits, images.shape[-2:], align_corners=self.align_corners)

    def forward_with_aux(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Compute the logits and those of the auxiliary heads, all (N, num_classes, H, W)."""
        logits, auxiliary = self.coarse_logits_with_aux(self.normalize(images))
        logits, *auxiliary = (
            resize(maps, images.shape[-2:], align_corners=self.align_corners) for maps in (logits, *auxiliary)
        )
        return logits, auxiliary

    def predict_classes(self, images: Tensor) -> Tensor:
        """Predict the most likely class of every pixel: (N, C, H, W) images to (N, H, W) uint8 class indices."""
        logits = self.coarse_logits(self.normalize(images))
        return classes_at(logits, images.shape[-2:], align_corners=self.align_corners)

    def coarse_logits(self, images: Tensor) -> Tensor:
        """Compute (N, num_classes, h, w) logits of normalized (N, C, H, W) images, where h and w may be a fraction of H and W.

        The auxiliary head is not run.
        """
        return self.decode(self.encoder(images), images.shape[-2:])

    def coarse_logits_with_aux(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Compute ``coarse_logits`` and a list with those of the auxiliary head, which is empty if there is none."""
        if self.auxiliary is None:
            return self.coarse_logits(images), []
        features = self.encoder(images)
        return self.decode(features, images.shape[-2:]), [self.auxiliary(features[self.auxiliary_level])]

    def decode(self, features: list[Tensor], size: Sequence[int]) -> Tensor:
        """Compute coarse logits from the encoder's feature maps.

        Args:
            features: Feature maps of the normalized images, finest first.
            size: H and W of the images.

        Returns:
            (N, num_classes, h, w) logits.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement decode or override coarse_logits")

    def normalize(self, images: Tensor) -> Tensor:
        """Scale images of 0 to 255 to the range that the encoder was trained on. The memory format is preserved.

        Raises:
            InputError: The images are not (N, C, H, W) with the network's number of channels.
        """
        if images.dim() != 4 or images.shape[1] != self.mean.shape[1]:
            raise InputError(f"the network expects (N, {self.mean.shape[1]}, H, W) images, found {tuple(images.shape)}")
        return (images.to(self.mean.dtype) - self.mean) / self.std


def resize(maps: Tensor, size: Sequence[int], *, align_corners: bool = False) -> Tensor:
    """Resize (N, C, h, w) bilinearly to (N, C, *size)."""
    if maps.shape[-2:] == torch.Size(size):
        return maps
    return F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=align_corners)


def classes_at(logits: Tensor, size: Sequence[int], *, align_corners: bool = False) -> Tensor:
    """``most_likely(resize(logits.float(), size, align_corners=...))`` without holding all resized logits at once.

    Resized logits are the largest array of a prediction: 159 MB for 19 classes at 1024 x 2048. Here they are computed for one
    band of rows at a time, and only their classes are kept.

    Args:
        logits: (N, C, h, w).
        size: H and W.
        align_corners: Alignment of the pixel grids, see ``resize``.

    Returns:
        (N, H, W) uint8 class indices.
    """
    (number, channels, height, _), (rows, columns) = logits.shape, size
    if logits.shape[-2:] == torch.Size(size):
        return most_likely(logits)
    classes = torch.empty((number, rows, columns), dtype=torch.uint8, device=logits.device)
    factor = rows // height

    def resize_rows(band: tuple[int, int]) -> None:
        top, bottom = band  # rows of the coarse logits
        first, last = max(top - 1, 0), min(bottom + 1, height)
        resized = resize(logits[:, :, first:last].float(), ((last - first) * factor, columns))
        kept = resized[:, :, (top - first) * factor : (bottom - first) * factor]
        classes[:, top * factor : bottom * factor] = most_likely(kept)

    def interpolate_between_rows(band: tuple[int, int]) -> None:
        part = slice(*band)  # rows of the result
        first, last = int(upper[part][0]), int(lower[part][-1]) + 1
        wide = resize(logits[:, :, first:last].float(), (last - first, columns), align_corners=align_corners)
        above, below = (wide[:, :, (index[part] - first).to(wide.device)] for index in (upper, lower))
        classes[:, part] = most_likely(torch.lerp(above, below, weight[part]))

    if rows == factor * height and not align_corners:
        # A band of coarse rows, with one more row on either side, then gives the same rows as the complete map.
        work, bands = resize_rows, ranges(height, max(1, _BAND // (number * channels * columns * factor)))
    else:
        # Otherwise the two steps of bilinear interpolation are separate: first along the rows, then between them.
        positions = source_positions(height, rows, align_corners=align_corners, dtype=torch.float32)
        upper = positions.floor().long()
        lower = (upper + 1).clamp(max=height - 1)
        weight = (positions - upper).view(-1, 1).to(logits.device)
        work, bands = interpolate_between_rows, ranges(rows, max(1, _BAND // (number * channels * columns)))
    for _ in each_part(work, bands, logits.device):
        pass
    return classes


def source_positions(source: int, size: int, *, align_corners: bool, dtype: torch.dtype) -> Tensor:
    """(size,) positions on an axis of ``source`` values at which bilinear resizing to ``size`` values interpolates."""
    positions = torch.arange(size, dtype=dtype)
    if align_corners:
        return positions * ((source - 1) / max(size - 1, 1))
    return ((positions + 0.5) * (source / size) - 0.5).clamp(min=0)


def most_likely(logits: Tensor) -> Tensor:
    """(N, C, H, W) logits to (N, H, W) uint8 class indices. Of equal logits, the first class wins."""
    if logits.is_cuda:
        return logits.argmax(1).to(torch.uint8)
    if logits.stride(1) == 1:
        return logits.max(1).indices.to(torch.uint8)  # channels last: four times faster than argmax()
    # On the CPU, torch computes argmax value by value but the maximum with vector instructions: several times faster.
    classes = logits.shape[1]
    rank = torch.arange(classes, 0, -1, dtype=torch.uint8).view(1, -1, 1, 1)
    first = ((logits == logits.amax(1, keepdim=True)) * rank).amax(1)
    return (classes - first).clamp(max=classes - 1)  # where all logits are NaN, any class will do
