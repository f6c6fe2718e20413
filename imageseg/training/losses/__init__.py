"""Losses.

``plain`` defines each loss on full-size logits. Training uses ``tiled_pixel`` and ``tiled_region``, which compute the same values
and gradients on coarse logits through ``upsampled``, without storing full-size logits. ``mask_matching`` is the loss of networks
that predict masks. Read them in this order.
"""
