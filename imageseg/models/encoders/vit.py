"""ViTEncoder: a plain vision transformer in timm, block by block, for images of any size."""

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
"""timm modules whose networks keep one sequence of tokens from the first block to the last."""


class ViTEncoder(nn.Module):
    """A plain ViT in timm without its classifier: DINOv2, DINOv3, DeiT, EVA-02, ViT.

    Images are padded at the right and lower edge to complete patches, with the mean color; ``unpad`` removes the padding from
    the logits. Position embeddings are interpolated to the size of the image.

    Args:
        name: timm name, for example "vit_small_patch14_reg4_dinov2".
        pretrained: Whether to load timm's weights, from this machine's cache or by downloading them once.
        in_channels: Number of image channels. If it is not 3, timm adapts the weights of the first convolution.
        frozen: Whether the weights stay fixed: they have no gradient, and the encoder remains in evaluation mode when the
            network around it trains.
        layers: Layers whose maps ``forward`` returns: the number of last layers, or their indices from 0. Blocks after the last
            of these layers are omitted.

    Attributes:
        patch: Side of a patch in pixels, which is the stride of the maps.
        channels: Number of channels of every map.
        depth: Number of blocks.
        prefix_tokens: Number of tokens before those of the patches: the class token and registers.
        mean: Mean per channel that the weights were trained with, on a scale of 0 to 1.
        std: Standard deviation per channel that the weights were trained with, on the same scale.
        pretrained: Whether timm's weights were loaded.

    Raises:
        InputError: Unknown name, an encoder that is not a plain ViT, unavailable weights, or layers that do not exist.
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
                f"encoder '{name}' is not a plain ViT; use one, such as vit_small_patch14_reg4_dinov2, "
                "or a network for other encoders, such as UPerNet or SegFormer"
            )
        self.name = name
        network: Any = timm_network(
            name, pretrained=pretrained, in_chans=in_channels, num_classes=0, dynamic_img_size=True
        )
        self.layers = _indices(layers, len(network.blocks), name)
        self.depth = max(self.layers) + 1
        network.blocks = network.blocks[: self.depth]
        if isinstance(network.norm, nn.Identity):
            # In networks made for pooling, the normalization comes after it.
            network.norm, network.fc_norm = network.fc_norm, nn.Identity()
        network.reset_classifier(0, "")  # also removes attention pooling
        self.network: Any = network.requires_grad_(not frozen)
        self.pretrained = pretrained
        self.in_channels = in_channels
        self.mean, self.std = normalization_of(network, in_channels)
        self.frozen = frozen
        self.patch = int(network.patch_embed.patch_size[0])
        self.channels = int(network.embed_dim)
        self.prefix_tokens = int(network.num_prefix_tokens)
        self._rotary = isinstance(network, timm.models.Eva)
        self._rotary_per_block = self._rotary and bool(network.rope_mixed)
        self.train()

    def train(self, mode: bool = True) -> ViTEncoder:
        """Set the training mode; a frozen encoder remains in evaluation mode, without stochastic depth and dropout."""
        return super().train(mode and not self.frozen)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(N, in_channels, H, W) to the normalized maps of ``layers``, each (N, channels, ceil(H / patch), ceil(W / patch))."""
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
        """Number of rows and columns of patches that cover an image of H and W."""
        return -(-size[0] // self.patch), -(-size[1] // self.patch)

    def padded(self, size: Sequence[int]) -> tuple[int, int]:
        """H and W of an image of ``size`` after padding to complete patches."""
        rows, columns = self.grid(size)
        return rows * self.patch, columns * self.patch

    def embed(self, images: Tensor) -> tuple[Tensor, Any]:
        """(N, in_channels, H, W) to (N, prefix_tokens + patches, channels) tokens, and their rotary position embedding if any."""
        (height, width), (rows, columns) = images.shape[-2:], self.padded(images.shape[-2:])
        # Images are normalized: zero is the mean color.
        patches = self.network.patch_embed(F.pad(images, (0, columns - width, 0, rows - height)))
        embedded = self.network._pos_embed(patches)
        tokens, rotation = embedded if self._rotary else (embedded, None)
        return self.network.norm_pre(tokens), rotation

    def block(self, index: int, tokens: Tensor, rotation: Any, *, mask: Tensor | None = None) -> Tensor:
        """Process tokens in one block.

        Args:
            index: Index of the block, from 0.
            tokens: (N, T, channels).
            rotation: Rotary position embedding from ``embed``.
            mask: (N, 1, T, T) bool, True if the token of the row may attend to the token of the column. None allows all.
        """
        block = self.network.blocks[index]
        if not self._rotary:
            joined: Tensor = block(tokens, attn_mask=mask)
        else:
            joined = block(tokens, rope=rotation[index] if self._rotary_per_block else rotation, attn_mask=mask)
        return joined

    def add_prefix_tokens(self, count: int, *, blocks: int) -> None:
        """Prepare the last ``blocks`` blocks for ``count`` more tokens at the front, which have no rotary position."""
        if self._rotary:
            for block in self.network.blocks[-blocks:]:
                block.attn.num_prefix_tokens += count

    def unpad(self, logits: Tensor, size: Sequence[int]) -> Tensor:
        """Remove the padding.

        Args:
            logits: (N, C, h, w) of the padded image, at any fraction of its size.
            size: H and W of the image.

        Returns:
            The same logits if nothing was padded. Otherwise (N, C, H, W), because the padding may end inside a coarse pixel.
        """
        padded = self.padded(size)
        if padded == tuple(size):
            return logits
        return resize(logits, padded)[:, :, : size[0], : size[1]]


def on_grid(patches: Tensor, grid: tuple[int, int]) -> Tensor:
    """(N, rows * columns, C) patch tokens to a map (N, C, rows, columns)."""
    return patches.transpose(1, 2).reshape(patches.shape[0], patches.shape[2], *grid)


def _indices(layers: int | Sequence[int], depth: int, name: str) -> list[int]:
    indices = list(range(depth - layers, depth)) if isinstance(layers, int) else list(layers)
    if not indices or len(set(indices)) < len(indices) or not all(0 <= index < depth for index in indices):
        raise InputError(
            f"layers must be 1 to {depth} or different indices from 0 to {depth - 1} for encoder '{name}', found {layers}"
        )
    return indices
