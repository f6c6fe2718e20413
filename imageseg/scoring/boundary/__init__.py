"""Boundary metrics."""
