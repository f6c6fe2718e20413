"""Archives for benchmark servers.

Read formats.py (rules of each server) first, then build.py (from predictions to an archive) and check.py (an archive against
the rules). Both use archive.py (files of a zip or tar.gz) and faults.py (one line per kind of fault).
"""
