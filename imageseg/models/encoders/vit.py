"""ViTEncoder: a plain vision transformer of timm, block by block, for pictures of any size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import timm
from torch import Tensor, nn
from torch.nn import functional as F

from imageseg.errors import InputError
from imageseg.models.base import resize
from imageseg.models.encoders.timm_encoder import normalization_of, require_known, timm_network

_FAMILIES = ["vision_transformer", "deit", "eva"]
"""timm's files whose networks keep one row of tokens from the first block to the last."""


class ViTEncoder(nn.Module):
    """A plain ViT of timm without its classifier: DINOv2, DINOv3, DeiT, EVA-02, ViT.

    A picture is padded at its right and lower edge to whole patches, with the mean colour, and ``unpad`` takes the padding
    off the logits. Position embeddings are interpolated to the size of the picture.

    Args:
        name: timm's name, for example "vit_small_patch14_reg4_dinov2".
        pretrained: load the weights that timm names; they come from this machine's cache or are fetched once.
        in_channels: of the pictures; timm spreads the weights of its first convolution over other numbers than 3.
        frozen: keep the weights as they are: they have no gradient, and the encoder stays in evaluation mode, also when
            the network around it trains.
        layers: whose maps ``forward`` gives: the last so many, or indices from 0. Blocks after the last of them are
            left out.

    Attributes:
        patch: side of a patch in pixels; the stride of the maps.
        channels: of every map.
        depth: how many blocks there are.

    Raises:
        InputError: unknown name, an encoder that is no plain ViT, weights that cannot be had, layers that it lacks.
    """

    def __init__(
        self,
        name: str,
        *,
        pretrained: bool = True,
        in_channels: int = 3,
        frozen: bool = True,
        layers: int | Sequence[int] = 1,
    ) -> None:
        super().__init__()
        require_known(name)
        if not timm.models.is_model_in_modules(name, _FAMILIES):
            raise InputError(
                f"encoder '{name}' is no plain ViT; take one, as vit_small_patch14_reg4_dinov2, "
                "or a network for other encoders, as UPerNet or SegFormer"
            )
        self.name = name
        network: Any = timm_network(
            name, pretrained=pretrained, in_chans=in_channels, num_classes=0, dynamic_img_size=True
        )
        self.layers = _indices(layers, len(network.blocks), name)
        self.depth = max(self.layers) + 1
        network.blocks = network.blocks[: self.depth]
        if isinstance(network.norm, nn.Identity):
            # Made to be pooled, its normalisation comes after that.
            network.norm, network.fc_norm = network.fc_norm, nn.Identity()
        network.reset_classifier(0, "")  # of which attention pooling is a part
        self.network: Any = network.requires_grad_(not frozen)
        self.in_channels = in_channels
        self.mean, self.std = normalization_of(network, in_channels)
        self.frozen = frozen
        self.patch = int(network.patch_embed.patch_size[0])
        self.channels = int(network.embed_dim)
        self.prefix_tokens = int(network.num_prefix_tokens)
        """Tokens in front of those of the patches: the class token and registers."""
        self._rotary = isinstance(network, timm.models.Eva)
        self._rotary_per_block = self._rotary and bool(network.rope_mixed)
        self.train()

    def train(self, mode: bool = True) -> ViTEncoder:
        """As any module, but a frozen encoder stays in evaluation mode: no dropped paths, no dropout."""
        return super().train(mode and not self.frozen)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(N, in_channels, H, W) to the normalised maps of ``layers``, each (N, channels, ceil(H / patch), ceil(W / patch))."""
        grid = self.grid(images.shape[-2:])
        tokens, rotation = self.embed(images)
        maps = {}
        for index in range(self.depth):
            tokens = self.block(index, tokens, rotation)
            if index in self.layers:
                patches = self.network.norm(tokens)[:, self.prefix_tokens :]
                maps[index] = on_grid(patches, grid)
        return [maps[index] for index in self.layers]

    def grid(self, size: Sequence[int]) -> tuple[int, int]:
        """Rows and columns of patches that cover H and W."""
        return -(-size[0] // self.patch), -(-size[1] // self.patch)

    def padded(self, size: Sequence[int]) -> tuple[int, int]:
        """H and W of the patches that cover a picture."""
        rows, columns = self.grid(size)
        return rows * self.patch, columns * self.patch

    def embed(self, images: Tensor) -> tuple[Tensor, Any]:
        """(N, in_channels, H, W) to (N, prefix_tokens + patches, channels) tokens, and the rotation of their positions if any."""
        (height, width), (rows, columns) = images.shape[-2:], self.padded(images.shape[-2:])
        # Pictures are normalised: zero is the mean.
        patches = self.network.patch_embed(F.pad(images, (0, columns - width, 0, rows - height)))
        embedded = self.network._pos_embed(patches)
        tokens, rotation = embedded if self._rotary else (embedded, None)
        return self.network.norm_pre(tokens), rotation

    def block(self, index: int, tokens: Tensor, rotation: Any, *, mask: Tensor | None = None) -> Tensor:
        """Tokens through one block.

        Args:
            index: of the block, from 0.
            tokens: (N, T, channels).
            rotation: as ``embed`` gives it.
            mask: (N, 1, T, T) bool, True where a token of the row may attend to one of the column; None for everywhere.
        """
        block = self.network.blocks[index]
        if not self._rotary:
            joined: Tensor = block(tokens, attn_mask=mask)
        else:
            joined = block(tokens, rope=rotation[index] if self._rotary_per_block else rotation, attn_mask=mask)
        return joined

    def make_room(self, count: int, *, blocks: int) -> None:
        """Lets so many more tokens come first in the last ``blocks`` blocks: rotary positions pass them over."""
        if self._rotary:
            for block in self.network.blocks[-blocks:]:
                block.attn.num_prefix_tokens += count

    def unpad(self, logits: Tensor, size: Sequence[int]) -> Tensor:
        """Takes the padding off.

        Args:
            logits: (N, C, h, w) of the padded picture, at any fraction of its size.
            size: H and W of the picture.

        Returns:
            The same where nothing was padded, else (N, C, H, W): what is left of a coarse map has no whole pixels.
        """
        padded = self.padded(size)
        if padded == tuple(size):
            return logits
        return resize(logits, padded)[:, :, : size[0], : size[1]]


def on_grid(patches: Tensor, grid: tuple[int, int]) -> Tensor:
    """(N, rows * columns, C) tokens of patches to a map (N, C, rows, columns)."""
    return patches.transpose(1, 2).reshape(patches.shape[0], patches.shape[2], *grid)


def _indices(layers: int | Sequence[int], depth: int, name: str) -> list[int]:
    indices = list(range(depth - layers, depth)) if isinstance(layers, int) else list(layers)
    if not indices or len(set(indices)) < len(indices) or not all(0 <= index < depth for index in indices):
        raise InputError(
            f"layers must be 1 to {depth} or different indices of 0 to {depth - 1} for encoder '{name}', found {layers}"
        )
    return indices
