"""Scoring folders of predictions."""
