"""Transformers as encoders: MiT by way of timm's PVTv2, and Swin for pictures of any size."""

from __future__ import annotations

from typing import Any

MIT = {f"mit_b{size}": f"pvt_v2_b{size}" for size in range(6)}
"""SegFormer's encoders (Xie et al. 2021, arXiv:2105.15203, table 6), and the networks of timm that they differ little from.

Widths, depths, heads and the reduction of keys are those of PVTv2; only the hidden layers are 4 times as wide as the others
in every stage. NVIDIA publishes weights of theirs for research alone; PVTv2's own are free.
"""


def timm_name(name: str) -> str:
    """What timm calls this encoder."""
    return MIT.get(name, name)


def timm_settings(name: str) -> dict[str, Any]:
    """What timm must be told to make this encoder, beside its name."""
    if name in MIT:
        return {"mlp_ratios": (4, 4, 4, 4)}
    # Its windows tile any map; timm holds it to the size of its training unless asked not to.
    return {"strict_img_size": False} if _is_swin(name) else {}


def needed_multiple(name: str) -> int:
    """What the sides of a picture must be multiples of; maps deeper inside may have any size."""
    return 4 if _is_swin(name) else 1  # pixels of a patch


def _is_swin(name: str) -> bool:
    return name.startswith(("swin_", "swinv2_"))
