"""Tests here use the fixtures for networks."""

from network_fixtures import any_algorithm, forgotten_warnings, one_thread, randomize

__all__ = ["any_algorithm", "forgotten_warnings", "one_thread", "randomize"]
