"""Dropout whose noise is quickly drawn on processors."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

_KINDS = {torch.float32: torch.int32, torch.bfloat16: torch.int16, torch.float16: torch.int16}
"""Whole numbers of the same size."""


class Dropout(nn.Dropout):
    """As torch's, with other draws: on a processor torch draws one number after the other, at 15 ns each.

    Here numpy's SFC64 fills the memory, at half a nanosecond each; its seed comes from torch's generator, so that seeding
    torch is enough. The chance of a value to be dropped is a multiple of 2**-16 in half precision, of 2**-32 else.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Any shape to the same."""
        kind = _KINDS.get(input.dtype)
        if not self.training or not 0 < self.p < 1 or input.device.type != "cpu" or kind is None:
            return super().forward(input)
        if self.inplace or torch.compiler.is_compiling():
            return super().forward(input)
        return input * _noise_like(input, kind, self.p)


def _noise_like(values: Tensor, kind: torch.dtype, chance: float) -> Tensor:
    """0 with that chance, else what keeps the mean; in the memory order of ``values``."""
    seed = int(torch.randint(2**62, ()))
    steps = torch.iinfo(kind).bits
    words = -(-values.numel() * steps // 64)
    drawn = np.random.Generator(np.random.SFC64(seed)).integers(2**64, size=words, dtype=np.uint64)
    bits = torch.from_numpy(drawn).view(kind)[: values.numel()]
    first_kept = min(round(chance * 2**steps), 2**steps - 1) - 2 ** (steps - 1)
    kept = torch.ge(bits, first_kept, out=bits)  # 0 or 1
    # As whole numbers: a product with the bits of the factor is much faster than a conversion.
    factor = torch.tensor(1 / (1 - chance), dtype=values.dtype).view(kind)
    noise = kept.mul_(factor).view(values.dtype)
    if values.dim() == 4 and values.is_contiguous(memory_format=torch.channels_last):
        number, channels, height, width = values.shape
        return noise.view(number, height, width, channels).permute(0, 3, 1, 2)
    return noise.view(values.shape)
