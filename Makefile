# Two commands for newcomers: `make demo` and `make test`. Each makes .venv first, and only when it has to.

PYTHON ?= python3
JOBS ?= 2
SORTER ?= kilosort4
VENV := .venv
RTSORT := .rtsort-venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.spikelab-is-installed

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test test-rtsort lint types format faults gpu-check bench bench-kilosort bench-accuracy bench-curation docs image wheel clean

help:  ## this list
	@echo "make TARGET, where TARGET is one of"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1	\2/p' $(MAKEFILE_LIST) | expand -t 18
	@echo "Options: PYTHON=python3.12 (used once, to make $(VENV)), JOBS=2 (tests at once), ARGS=\"-k lock\" (for pytest)"

demo: $(STAMP)  ## simulate a two-well recording, sort it, compare with the truth
	@$(BIN)/spikelab demo

test: lint types  ## format, lint, layers, types and all tests
	@echo "Running the tests"
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(ARGS)

lint: $(STAMP)  ## format and lint, without changing anything, and the layers of the package
	@echo "Checking the format"
	@$(BIN)/ruff format --check .
	@echo "Checking for likely mistakes"
	@$(BIN)/ruff check .
	@echo "Checking the layers"
	@$(BIN)/lint-imports --no-logo

types: $(STAMP)  ## static types
	@echo "Checking the types"
	@$(BIN)/mypy

format: $(STAMP)  ## format, and repair what can be repaired
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format .

test-rtsort: $(STAMP)  ## build the environment of RT-Sort in .rtsort-venv (1.4 GB), and sort with it for real
	@$(BIN)/spikelab rt-sort-env $(RTSORT)
	@OMP_NUM_THREADS=1 SPIKELAB_RTSORT_PYTHON=$(CURDIR)/$(RTSORT)/bin/python $(BIN)/python -m pytest -m rtsort -s $(ARGS)

faults: $(STAMP)  ## the promises about crashes, full disks and lost power: kills, cuts and starves on purpose
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/faults -m "" \
	    -n $(JOBS) --dist loadfile $(ARGS)

gpu-check: $(STAMP)  ## on a machine with a GPU: kill Kilosort4 in each step, survive a shortage of GPU memory
	@$(BIN)/python -m pytest tests/gpu -m gpu -v $(ARGS)

bench: $(STAMP)  ## measure: each script in benchmarks/ prints a table
	@for script in benchmarks/[!_]*.py; do echo "$$script"; $(BIN)/python "$$script" || exit 1; done

bench-kilosort: $(STAMP)  ## measure Kilosort4 with our functions and without (an hour): ARGS="--layout linear --duration 30"
	@$(BIN)/python benchmarks/kilosort4.py $(ARGS)

bench-curation: $(STAMP)  ## measure curation of large results, and merging against SpikeInterface's
	@$(BIN)/python benchmarks/curation.py
	@OMP_NUM_THREADS=1 $(BIN)/python benchmarks/merging.py

bench-accuracy: $(STAMP)  ## which units Kilosort4 finds of those that are there: ARGS="--layout mea --seed 21"
	@OMP_NUM_THREADS=1 $(BIN)/python benchmarks/accuracy.py $(ARGS)

image:  ## build and try a sorter's image, with Docker: SORTER=rt_sort, ARGS="--build-arg BASE=..." (docker/README.md)
	@docker/build.sh $(SORTER) $(ARGS)

docs: $(STAMP)  ## the documentation as a site, in docs/_build/html; runs the examples, unless ARGS="-D nb_execution_mode=off"
	@OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -q -W --keep-going -b html $(ARGS) docs docs/_build/html
	@echo "docs/_build/html/index.html"

wheel: $(STAMP)  ## dist/spikelab-*.whl
	@$(BIN)/python -m build --wheel --no-isolation --outdir dist . >/dev/null
	@ls dist/*.whl

clean:  ## remove caches and built files (the environment stays)
	@rm -rf build dist docs/_build docs/generated docs/api/generated .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .grimp_cache
	@find spikelab tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 14))' || { \
	    echo "spikelab needs Python 3.10 to 3.13, and '$(PYTHON)' is none of them." >&2; \
	    echo "Name one that is: make PYTHON=python3.12 demo" >&2; exit 1; }
	@echo "Making a virtual environment in $(VENV)"
	@$(PYTHON) -m venv --clear $(VENV) || { rm -rf $(VENV); exit 1; }

$(STAMP): pyproject.toml requirements/constraints.txt | $(BIN)/python
	@echo "Installing spikelab, Kilosort4 and the development tools into $(VENV) (minutes the first time, nothing to do later)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check \
	    --constraint requirements/constraints.txt --editable '.[kilosort4,docker,dev]'
	@touch $@
