"""Encoders: timm networks, VGG and plain vision transformers behind one interface."""
