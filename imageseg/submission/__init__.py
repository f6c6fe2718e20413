"""Submissions to benchmark servers."""
