"""Train a network, then evaluate its best checkpoint: python run.py --use CityscapeModule --model DeepLabv3_plus."""

import sys

from imageseg.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
