"""Archives of a dataset: ``fetch.py`` downloads and verifies them, ``unpack.py`` unpacks them safely."""
