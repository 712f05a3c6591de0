# Everything starts here. On a fresh machine `make demo` and `make test` set themselves up: Python >= 3.11, make and a
# C++ compiler are all that they expect.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# What the lock is made from: the floor of PyTorch that is tested, and all extras, so that no test skips for want of one.
TORCH := 2.13.0
EXTRAS := browser,data,dev,docs,eval,int8,peft,ray,serve,tensorboard

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup demo test lint claims bench docs lock clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

setup: $(READY) ## the environment that the other targets use

$(READY): requirements.lock pyproject.toml
	@test -x $(BIN)/python || { \
	  command -v $(PYTHON) >/dev/null 2>&1 \
	    || { echo "error: '$(PYTHON)' is not found; install Python 3.11 or newer, or name one: make PYTHON=python3.12" >&2; exit 1; }; \
	  $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "error: $$($(PYTHON) --version 2>&1) is too old; Interlace needs Python 3.11 or newer: make PYTHON=python3.12" >&2; exit 1; }; \
	  $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	    || { echo "error: '$(PYTHON)' has no venv module; install it (Debian, Ubuntu: the package python3-venv)" >&2; exit 1; }; \
	  echo "creating $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "installing requirements.lock"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -r requirements.lock
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@$(BIN)/python -c "from interlace import grid, sampling; from interlace.attention import paged; from interlace.nn import native; \
	  [part.library() for part in (grid, sampling, paged, native)]"
	@touch $@

demo: $(READY) ## a small model adapted, measured and shown, in minutes
	$(BIN)/interlace quickstart

test: lint ## style, types, then every test that is not slow, on all cores
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --maxprocesses 8 --dist worksteal

lint: $(READY) ## style (ruff) and types (mypy)
	$(BIN)/python -m ruff check .
	$(BIN)/python -m mypy

claims: $(READY) ## every system's published claim, measured here
	$(BIN)/interlace reproduce --all

bench: $(READY) ## the speed measurements of benchmarks/
	@set -e; for script in benchmarks/*.py; do echo "$$script"; $(BIN)/python "$$script"; done

docs: $(READY) ## the documentation, into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

lock: ## requirements.lock from a fresh environment and pyproject.toml
	rm -rf build/lock
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install -qq --upgrade pip
	build/lock/bin/python -m pip install -qq torch==$(TORCH) hatchling editables ".[$(EXTRAS)]"
	build/lock/bin/python -m pip check
	@{ echo "# Exact versions of all that make demo, make test and make docs need; written by make lock."; \
	   build/lock/bin/python -m pip freeze --all --exclude interlace --exclude pip \
	     | sed -E 's/^([A-Za-z0-9._-]+==[^+ ]+)\+[A-Za-z0-9.]+$$/\1/'; } > build/requirements.lock
	@! grep -nE '(^-|@|://)' build/requirements.lock
	mv build/requirements.lock requirements.lock
	rm -rf build/lock

clean: ## remove what was built and the caches; .venv stays
	rm -rf build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
