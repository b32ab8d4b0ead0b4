# Two commands do everything on a fresh machine with Python 3.11 or newer: `make repro` and `make test`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNS := $(VENV)/.runs
INSTALLED := $(VENV)/.installed
EXTRAS := dev,s3,scenes,colmap,ray,demo,second-opinion

# The stages call `python`: let it be the environment's, whether or not it is activated.
export PATH := $(CURDIR)/$(BIN):$(PATH)
# No word at every start about torchvision, which nothing here needs.
export TRANSFORMERS_VERBOSITY ?= error

.DEFAULT_GOAL := help
.PHONY: help install repro test check bench gpu-check mini docs format clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "  make %-9s %s\n", $$1, $$2}'

# Python compiles what it imports; compiling all that is installed takes a minute of a core.
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt

# What the pipeline needs. Runs again only when what is to be installed has changed, as does the next.
$(RUNS): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0])'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) --editable .
	@touch $@

$(INSTALLED): $(RUNS)
	$(PIP_INSTALL) --editable '.[$(EXTRAS)]'
	@touch $@

install: $(INSTALLED) ## Create .venv with everything, at the versions of constraints.txt

repro: $(RUNS) ## Run the whole pipeline, from raw video to metrics and pictures
	dvc repro
	@echo
	@echo "adapter:  models/adapter/"
	@echo "metrics:  metrics.json"
	@echo "report:   reports/index.html"

test: $(INSTALLED) ## Run all tests (two at a time, each on one core)
	python -m pytest -n 2 --dist loadfile

check: $(INSTALLED) ## Lint, formatting and types, as CI runs them
	ruff check
	ruff format --check
	basedpyright

bench: $(INSTALLED) ## Measure speed and memory on the processor into benchmarks/results.md (half an hour)
	python benchmarks/bench.py

gpu-check: $(INSTALLED) ## Check on a CUDA device what is said of GPUs, into benchmarks/gpu.md (eight minutes)
	python benchmarks/gpu_check.py

mini: $(INSTALLED) ## Train the base model again and replace data/base/mini (hours on two cores; resumes)
	dvc repro recipes/mini/dvc.yaml

docs: $(INSTALLED) ## Build the pages of docs/ into site/; a warning is an error
	$(PIP_INSTALL) --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict --quiet

format: $(INSTALLED) ## Mend formatting and what the linter can mend
	ruff check --fix
	ruff format

clean: ## Remove the environment and the caches of tools (not DVC's cache)
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis site fourdistill.egg-info
