"""Encoder families that need extra timm settings or padded images: MiT, Swin, HRNet and others."""

from __future__ import annotations

from typing import Any

MIT = {f"mit_b{size}": f"pvt_v2_b{size}" for size in range(6)}
"""SegFormer's encoders (Xie et al. 2021, arXiv:2105.15203, table 6), and the similar timm networks that they are built from.

Channels, depths, heads and key reduction are those of PVTv2; only the hidden layers differ, 4 times as wide as the others in
every stage. NVIDIA's MiT weights are licensed for research only; PVTv2's own weights are free.
"""

_SWIN = ("swin_", "swinv2_")
_MULTIPLES = {
    # Size of a patch; deeper layers pad their windows and merged patches themselves.
    **dict.fromkeys(_SWIN, 4),
    # These add maps of two strides, or move pixels into channels, and require matching sizes.
    **dict.fromkeys(("dla", "hrnet", "tresnet", "hieradet_", "sam2_hiera_"), 32),
}


def timm_name(name: str) -> str:
    """The name of the timm network that this encoder is built from."""
    return MIT.get(name, name)


def timm_settings(name: str) -> dict[str, Any]:
    """Arguments besides the name with which timm creates this encoder."""
    if name in MIT:
        return {"mlp_ratios": (4, 4, 4, 4)}
    # Swin's windows fit any map; by default timm requires the image size that the network was trained with.
    return {"strict_img_size": False} if name.startswith(_SWIN) else {}


def needed_multiple(name: str) -> int:
    """The number that must divide the sides of this encoder's images."""
    return next((multiple for family, multiple in _MULTIPLES.items() if name.startswith(family)), 1)
