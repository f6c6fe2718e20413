"""Checking a dataset before it is trained on: facts about every file, and the faults that they show."""
