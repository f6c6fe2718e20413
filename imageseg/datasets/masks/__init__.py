"""Masks made from annotations: run-length encoding and the cache folder."""
