"""Layers of several networks: ``blocks`` first, then pooling pyramids (``aspp``, ``pyramid_pooling``), then two that replace
torch's on CPUs (``dilated_conv``, ``dropout``)."""
