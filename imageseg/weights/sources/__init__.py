"""The networks of other projects that imageseg can load, one module of renaming rules per project.

``source`` defines ``Source``, one network of another project; ``shared_rules`` has the rules that several projects share.
"""

from imageseg.weights.sources.github_repositories import GITHUB
from imageseg.weights.sources.mmseg import MMSEG
from imageseg.weights.sources.smp import SMP
from imageseg.weights.sources.source import Source
from imageseg.weights.sources.torchvision import TORCHVISION

SOURCES: tuple[Source, ...] = (*TORCHVISION, *GITHUB, *SMP, *MMSEG)
"""Sources in the order in which they are tried: within a project the more specific marks come first."""
