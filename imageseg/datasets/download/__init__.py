"""Downloading and unpacking the archives of a dataset."""
