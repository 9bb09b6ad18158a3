# Every command of the project. `make run` and `make test` need nothing but Python 3.11+.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
# Only what the checks need is exported; a virtual environment of the caller must not leak in.
unexport PYTHONPATH VIRTUAL_ENV

help:  ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/bootstrap: requirements/bootstrap.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/bootstrap.txt
	touch $@

.venv/local: .venv/bootstrap requirements/local.txt pyproject.toml
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/local.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	touch $@

.venv/dev: .venv/local requirements/dev.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/dev.txt
	touch $@

install: .venv/local  ## Install the command `mlops` with everything a laptop needs, into .venv

install-dev: .venv/dev  ## The same, with everything the checks need

lock:  ## Pin all requirements again, with hashes
	uv pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11 requirements/bootstrap.in -o requirements/bootstrap.txt
	uv pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11 --extra local pyproject.toml -o requirements/local.txt
	uv pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11 --extra local -c requirements/local.txt pyproject.toml requirements/dev.in -o requirements/dev.txt

.PHONY: help install install-dev lock
