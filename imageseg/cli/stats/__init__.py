"""imageseg stats: the command, its tables and its chart."""

from imageseg.cli.stats.command import run

__all__ = ["run"]
