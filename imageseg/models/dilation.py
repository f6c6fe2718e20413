"""The dilation of an encoder's stages: the policy of their first block, and multi-grid."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imageseg.models.encoder import Encoder


def dilate_first_blocks(encoder: Encoder) -> None:
    """Gives the first block of every stage that dilates the dilation of its other blocks.

    State dicts stay the same, logits do not: weights trained with the one policy are wrong with the other.
    """
    raise NotImplementedError
