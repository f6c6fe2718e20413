"""Entry point of ``python -m imageseg``."""

import sys

from imageseg.cli import main

if __name__ == "__main__":
    sys.exit(main())
