"""Scoring of prediction folders: benchmarks.py (rules), pairing.py (files that belong together), score_files.py."""
