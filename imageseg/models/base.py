"""Network: what every segmentation network here is, to whoever trains, scores or exports it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imageseg.errors import InputError
from imageseg.models.row_bands import each_part, ranges

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_BAND = 2**19
"""Resized logits that a thread holds at once, over all classes and pictures: 2 MB, which a processor's cache can hold."""


class Network(nn.Module, ABC):
    """A segmentation network that takes plain RGB pictures and owns their normalisation.

    Subclasses keep their pretrained part in ``self.encoder``: it trains with its own learning rate. They implement
    ``coarse_logits`` at the size that suits them; the step to the picture's size is the same for all.

    Args:
        num_classes: the number of logits per pixel.
        mean: per channel, on a scale of 0 to 1, as the encoder's weights were trained with.
        std: likewise.
        pretrained: whether the encoder starts from published weights.
        align_corners: which grid coarse logits lie on: False puts their outer edges on the picture's, True the centres of
            their corner pixels. A network is trained for one of them.
    """

    encoder: nn.Module
    pretrained: bool
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        num_classes: int,
        *,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        pretrained: bool = False,
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        if not 1 <= num_classes <= 255:
            raise ValueError(f"num_classes must be from 1 to 255, found {num_classes}")  # 255 is the ignored index
        self.num_classes = num_classes
        self.pretrained = pretrained
        self.align_corners = align_corners
        # In the units of the pictures, 0 to 255: one multiplication less on every pixel.
        self.register_buffer("mean", 255 * torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    @abstractmethod
    def coarse_logits(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) normalised pictures to (N, num_classes, h, w) logits, where h and w may be a fraction of H and W."""

    def forward(self, images: Tensor) -> Tensor:
        """Logits for every pixel.

        Args:
            images: (N, 3, H, W) RGB, uint8 or floating point on the same scale of 0 to 255; any N, and any H and W that the
                encoder can take: all from 32 on, and for most (ResNets) below.

        Returns:
            (N, num_classes, H, W) logits.

        Raises:
            InputError: another number of channels; a picture smaller than the encoder can take (32 x 32 is enough for all);
                in training, a single picture so small that batch statistics are undefined.
        """
        logits = self.coarse_logits(self.normalize(images))
        return resize(logits, images.shape[-2:], align_corners=self.align_corners)

    def coarse_logits_with_aux(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """As ``coarse_logits``, and the coarse logits of each auxiliary head, of which there are none unless overridden."""
        return self.coarse_logits(images), []

    def forward_with_aux(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The logits, and those of the auxiliary heads at the same size."""
        logits, auxiliary = self.coarse_logits_with_aux(self.normalize(images))
        logits, *auxiliary = (
            resize(maps, images.shape[-2:], align_corners=self.align_corners) for maps in (logits, *auxiliary)
        )
        return logits, auxiliary

    def predict_classes(self, images: Tensor) -> Tensor:
        """The most likely class of every pixel: (N, 3, H, W) pictures to (N, H, W) uint8 class indices."""
        logits = self.coarse_logits(self.normalize(images))
        return classes_at(logits, images.shape[-2:], align_corners=self.align_corners)

    def normalize(self, images: Tensor) -> Tensor:
        """Pictures of 0 to 255 to the range that the encoder was trained on; keeps the memory order.

        Raises:
            InputError: no (N, C, H, W) with as many channels as the network takes.
        """
        if images.dim() != 4 or images.shape[1] != self.mean.shape[1]:
            raise InputError(f"the network takes (N, {self.mean.shape[1]}, H, W) pictures, found {tuple(images.shape)}")
        return (images.to(self.mean.dtype) - self.mean) / self.std


def resize(maps: Tensor, size: Sequence[int], *, align_corners: bool = False) -> Tensor:
    """(N, C, h, w) bilinearly to (N, C, *size); unless corners are aligned, any two sizes share their pixel grid."""
    if maps.shape[-2:] == torch.Size(size):
        return maps
    return F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=align_corners)


def classes_at(logits: Tensor, size: Sequence[int], *, align_corners: bool = False) -> Tensor:
    """``most_likely(resize(logits.float(), size, align_corners=...))`` without ever holding all logits at the full size.

    Resized logits are the largest array of a prediction: 159 MB for 19 classes at 1024 x 2048. Here a band of rows is
    resized, its classes are taken, and the band is forgotten.

    Args:
        logits: (N, C, h, w).
        size: H and W.
        align_corners: as for ``resize``.

    Returns:
        (N, H, W) uint8 class indices.
    """
    (number, channels, height, _), (rows, columns) = logits.shape, size
    if logits.shape[-2:] == torch.Size(size):
        return most_likely(logits)
    classes = torch.empty((number, rows, columns), dtype=torch.uint8, device=logits.device)
    factor = rows // height

    def from_whole_rows(rows_of: tuple[int, int]) -> None:
        top, bottom = rows_of
        first, last = max(top - 1, 0), min(bottom + 1, height)
        resized = resize(logits[:, :, first:last].float(), ((last - first) * factor, columns))
        kept = resized[:, :, (top - first) * factor : (bottom - first) * factor]
        classes[:, top * factor : bottom * factor] = most_likely(kept)

    def between_rows(rows_of: tuple[int, int]) -> None:
        part = slice(*rows_of)
        first, last = int(upper[part][0]), int(lower[part][-1]) + 1
        wide = resize(logits[:, :, first:last].float(), (last - first, columns), align_corners=align_corners)
        above, below = (wide[:, :, (index[part] - first).to(wide.device)] for index in (upper, lower))
        classes[:, part] = most_likely(torch.lerp(above, below, weight[part]))

    if rows == factor * height and not align_corners:
        # Then a band of coarse rows, with one more on either side, gives the same rows as the whole.
        work, bands = from_whole_rows, ranges(height, max(1, _BAND // (number * channels * columns * factor)))
    else:
        # Otherwise the two steps of bilinear interpolation by hand, first along the rows, then between them.
        places = places_on(height, rows, align_corners=align_corners, dtype=torch.float32)
        upper = places.floor().long()
        lower = (upper + 1).clamp(max=height - 1)
        weight = (places - upper).view(-1, 1).to(logits.device)
        work, bands = between_rows, ranges(rows, max(1, _BAND // (number * channels * columns)))
    for _ in each_part(work, bands, logits.device):
        pass
    return classes


def places_on(source: int, size: int, *, align_corners: bool, dtype: torch.dtype) -> Tensor:
    """Where on an axis of ``source`` values each of ``size`` interpolated ones lies."""
    places = torch.arange(size, dtype=dtype)
    if align_corners:
        return places * ((source - 1) / max(size - 1, 1))
    return ((places + 0.5) * (source / size) - 0.5).clamp(min=0)


def most_likely(logits: Tensor) -> Tensor:
    """(N, C, H, W) logits to (N, H, W) uint8 class indices; of equal logits, the first."""
    if logits.is_cuda:
        return logits.argmax(1).to(torch.uint8)
    if logits.stride(1) == 1:
        return logits.max(1).indices.to(torch.uint8)  # channels last: four times faster than argmax()
    # Torch finds the place of a maximum one by one, the maximum alone by whole vectors: several times faster.
    classes = logits.shape[1]
    rank = torch.arange(classes, 0, -1, dtype=torch.uint8).view(1, -1, 1, 1)
    first = ((logits == logits.amax(1, keepdim=True)) * rank).amax(1)
    return (classes - first).clamp(max=classes - 1)  # where all are NaN, any class will do
