# Common tasks; they need only make and Python 3.11 or newer.
PYTHON ?= python3
BIN := .venv/bin

help:  ## show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

demo: .venv/.installed  ## generate street scenes, train DeepLabv3_plus on them, evaluate it, predict three images
	$(BIN)/python run.py --use ToyScenesModule --model DeepLabv3_plus --config configs/toyscenes_deeplabv3_plus.yaml

test: .venv/.tested  ## all tests
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: .venv/.tested  ## style, types and import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/.tested  ## measure speed compared with standard pipelines (about ten minutes)
	$(BIN)/python benchmarks/bench.py

accelerator: .venv/.tested  ## test and measure on a GPU in eight minutes; without one, run a small form on the CPU
	$(BIN)/python benchmarks/accelerator.py

clean:  ## remove the environment and the demo's output
	rm -rf .venv data/ToyScenes runs/ToyScenes-DeepLabv3_plus-*

.venv/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "imageseg needs Python 3.11 or newer; pass one: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

.venv/.tested: .venv/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $@

.PHONY: help demo test check bench accelerator clean
