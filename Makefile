# Two commands do everything: 'make reproduce' and 'make test'. Neither needs root, a browser or a GPU.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
PROFILE ?= quick
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PEERS := .venv-peers
PEERS_READY := $(PEERS)/.ready
BENCH := $(if $(CELLS),--cells "$(CELLS)") $(if $(FORCE),--force)
# The GPU packages are taken where there is an NVIDIA driver; GPU=1 or GPU=0 decides by hand.
GPU ?= $(shell test -e /proc/driver/nvidia/version -o -e /dev/nvidiactl && echo 1 || echo 0)
LOCKS := -r requirements.lock $(if $(filter 1,$(GPU)),-r requirements-gpu.lock)
UV_COMPILE := uv pip compile --universal --python-version 3.11 --fork-strategy fewest \
	--generate-hashes --no-header --no-annotate --no-emit-index-url --quiet

.PHONY: help setup reproduce test lint format lab status bench bench-peers gpu paper figures claims verify lock clean

help:  ## list all targets
	@echo "hybridbench: what speeds up the training of hybrid quantum-classical models"
	@echo
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'
	@echo
	@echo "  PROFILE=quick|full (now $(PROFILE))   PYTHON=python3.12 (now $(PYTHON))   GPU=0|1 (now $(GPU))"

setup: $(READY)  ## make .venv with the pinned, hashed packages (Python 3.11, 3.12 or 3.13)

$(READY): requirements.lock requirements-gpu.lock pyproject.toml
	@$(PYTHON) -c 'import sys; ok = (3, 11) <= sys.version_info < (3, 14); \
	  sys.exit(0 if ok else "Python %d.%d runs here; hybridbench needs 3.11, 3.12 or 3.13: make PYTHON=python3.12 setup" % sys.version_info[:2])'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "Python has no venv module: install it first (Debian: the package python3-venv)."; exit 1; }
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	@echo "Installing the pinned packages (about 2 GB on disk, 2 to 5 minutes) ..."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes $(LOCKS)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

reproduce: setup  ## run all notebooks (PROFILE=quick) and end with the verdict on every claim
	$(BIN)/hybridbench run --profile $(PROFILE)

test: setup  ## every test: unit tests, notebook contract, nbval against a fresh execution
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile tests
	@echo "Executing the committed notebooks afresh and comparing their outputs (5 to 8 minutes) ..."
	$(BIN)/python -m pytest -p tests.notebooks.gate --nbval notebooks

lint: setup  ## ruff: style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup  ## let ruff mend style and formatting
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lab: setup  ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) notebooks/00_start_here.ipynb

status: setup  ## what has run, what is out of date, which records there are
	$(BIN)/hybridbench status --profile $(PROFILE)

bench: setup  ## time one training step in every way (CELLS="8,2,32 memory" for some, FORCE=1 for again)
	$(BIN)/hybridbench bench $(BENCH)

bench-peers: setup $(PEERS_READY)  ## the same with PennyLane 0.45 + jax.jit (own environment) and C by hand
	$(BIN)/hybridbench bench-peers $(BENCH)

$(PEERS_READY): requirements-peers.lock
	rm -rf $(PEERS)
	$(PYTHON) -m venv $(PEERS)
	@echo "Installing the peers' pinned packages (about 900 MB on disk, half a minute) ..."
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-peers.lock
	touch $@

gpu: setup  ## everything that needs an NVIDIA GPU, with proof, 10 minutes a part (PART=engine, MINUTES=5 for less)
	$(BIN)/hybridbench gpu $(if $(PART),--part $(PART)) $(if $(MINUTES),--minutes $(MINUTES))

verify: setup  ## check data/ against its checksums
	$(BIN)/hybridbench verify

claims: setup  ## compute data/claims.json and the README's table from the shipped records
	$(BIN)/hybridbench claims

figures: setup  ## draw figures/ from the shipped records
	$(BIN)/hybridbench figures

paper: claims figures  ## build paper/paper.pdf with every number from data/claims.json
	$(BIN)/hybridbench paper

lock:  ## renew all lock files (needs uv)
	$(UV_COMPILE) pyproject.toml --extra dev --output-file requirements.lock
	$(UV_COMPILE) peers/requirements.in --output-file requirements-peers.lock
	$(UV_COMPILE) pyproject.toml --extra gpu --constraint requirements.lock --output-file requirements-gpu.lock \
	  $$(sed -nE 's/^([a-zA-Z0-9_.-]+)==.*/--no-emit-package \1/p' requirements.lock)

clean:  ## remove build/ (own records, executed notebooks, own figures); keeps .venv
	rm -rf build
