"""Families of encoders that timm must be told more of, or whose pictures must be padded: MiT, Swin, HRNet and others."""

from __future__ import annotations

from typing import Any

MIT = {f"mit_b{size}": f"pvt_v2_b{size}" for size in range(6)}
"""SegFormer's encoders (Xie et al. 2021, arXiv:2105.15203, table 6), and the networks of timm that they differ little from.

Widths, depths, heads and the reduction of keys are those of PVTv2; only the hidden layers are 4 times as wide as the others
in every stage. NVIDIA publishes weights of theirs for research alone; PVTv2's own are free.
"""

_SWIN = ("swin_", "swinv2_")
_MULTIPLES = {
    # A patch; deeper inside, windows and merging pad for themselves.
    **dict.fromkeys(_SWIN, 4),
    # These add maps of two strides to each other, or fold pixels into channels, and expect the sizes to fit.
    **dict.fromkeys(("dla", "hrnet", "tresnet", "hieradet_", "sam2_hiera_"), 32),
}


def timm_name(name: str) -> str:
    """What timm calls this encoder."""
    return MIT.get(name, name)


def timm_settings(name: str) -> dict[str, Any]:
    """What timm must be told to make this encoder, beside its name."""
    if name in MIT:
        return {"mlp_ratios": (4, 4, 4, 4)}
    # Its windows tile any map; timm holds it to the size of its training unless asked not to.
    return {"strict_img_size": False} if name.startswith(_SWIN) else {}


def needed_multiple(name: str) -> int:
    """What the sides of its pictures must be multiples of."""
    return next((multiple for family, multiple in _MULTIPLES.items() if name.startswith(family)), 1)
