"""Losses: plain reference forms and tiled forms on coarse logits."""
