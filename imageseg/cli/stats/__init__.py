"""imageseg stats: ``command`` parses and prints JSON, ``statistics`` counts, ``tables`` and ``chart`` show the result."""

from imageseg.cli.stats.command import run

__all__ = ["run"]
