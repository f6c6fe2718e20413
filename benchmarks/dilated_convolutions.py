"""Dilated 3x3 convolutions compared with PyTorch's: as nine shifted 1x1 convolutions, and a backward pass without padding.

``python benchmarks/dilated_convolutions.py`` measures the forward pass as nine shifted 1x1 convolutions, which imageseg uses on
CPUs without AMX. ``--parts backward`` measures the backward pass that skips products with the padding, which imageseg uses in
training if at most half of the products lie inside the map. The median of alternating runs is printed. The benchmark stops if
the results differ.
"""

from __future__ import annotations

import argparse
import functools
import itertools

import torch
from measuring import Row, in_turn, report
from torch.nn import functional as F

from imageseg.models.layers.dilated_conv import share_inside, shifted_conv, trimmed_conv

CHANNELS, MAPS, DILATIONS = (512, 2048), (32, 64), (6, 12, 24, 36)
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 3e-2}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each side (default: 5)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument(
        "--parts", nargs="+", choices=("forward", "backward"), default=["forward"], help="passes to measure"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON list instead of a table")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    cases = list(itertools.product(TOLERANCE, CHANNELS, MAPS, DILATIONS))
    rows = []
    if "forward" in given.parts:
        with torch.inference_mode():
            rows += [compared(*case, given.repeats) for case in cases]
    if "backward" in given.parts:
        rows += [backward(*case, given.repeats) for case in cases]
    report(rows, as_json=given.json)


def compared(dtype: torch.dtype, channels: int, side: int, dilation: int, repeats: int) -> Row:
    """Compare both forward passes on one feature map in channels_last memory format."""
    maps, weight = (
        (scale * torch.randn(shape)).to(dtype).contiguous(memory_format=torch.channels_last)
        for scale, shape in ((1.0, (1, channels, side, side)), (0.01, (256, channels, 3, 3)))
    )

    def shifted() -> torch.Tensor:
        return shifted_conv(maps, weight, dilation)

    def direct() -> torch.Tensor:
        return F.conv2d(maps, weight, padding=dilation, dilation=dilation)

    found, expected = shifted().float(), direct().float()
    if (found - expected).abs().max() > TOLERANCE[dtype] * expected.abs().max():
        raise SystemExit("the results differ")
    kind = str(dtype).removeprefix("torch.")
    return Row(
        f"{kind}, {channels} to 256 on {side} x {side}, dilation {dilation}", *in_turn(shifted, direct, repeats), "ms"
    )


def backward(dtype: torch.dtype, channels: int, side: int, dilation: int, repeats: int) -> Row:
    """Compare both backward passes on two feature maps in channels_last memory format."""
    maps, weight = (
        (scale * torch.randn(shape)).to(dtype).contiguous(memory_format=torch.channels_last).requires_grad_()
        for scale, shape in ((1.0, (2, channels, side, side)), (0.01, (256, channels, 3, 3)))
    )
    results = (
        trimmed_conv(maps, weight, dilation),
        F.conv2d(maps, weight, padding=dilation, dilation=dilation),
    )
    slope = torch.randn_like(results[0])
    ours, theirs = (
        functools.partial(torch.autograd.grad, result, (maps, weight), slope, retain_graph=True) for result in results
    )
    for found, expected in zip(ours(), theirs(), strict=True):
        if (found.float() - expected.float()).abs().max() > 10 * TOLERANCE[dtype] * expected.float().abs().max():
            raise SystemExit("the gradients differ")
    kind, inside = str(dtype).removeprefix("torch."), share_inside(side, side, dilation)
    title = f"{kind}, {channels} to 256 on {side} x {side}, dilation {dilation}, {inside:.2f} inside"
    return Row(f"backward: {title}", *in_turn(ours, theirs, repeats), "ms")


if __name__ == "__main__":
    main()
