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
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $@

.venv/dev: .venv/local requirements/dev.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/dev.txt
	touch $@

install: .venv/local  ## Install the command `mlops` with everything a laptop needs, into .venv

install-dev: .venv/dev  ## The same, with everything the checks need

run: install  ## The main job on real data: a baseline, then a candidate through every stage and a canary against it
	$(BIN)/mlops status flight-delay --serving >/dev/null 2>&1 || { \
	  $(BIN)/mlops exec examples/flights -- python data.py --through 3; \
	  $(BIN)/mlops run examples/flights; }
	$(BIN)/mlops exec examples/flights -- python data.py --through 4
	$(BIN)/mlops run examples/flights

test: check  ## Every test, with coverage (what .ci/run calls)
	bash tests/run-all

check: install-dev  ## Format, lint, types, layers and generated files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) --no-print-directory generate
	test -z "$$(git status --porcelain -- $(GENERATED))" || { git diff -- $(GENERATED); exit 1; }

fix: install-dev  ## Mend what can be mended by a machine
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

generate: install-dev  ## Write every generated file from its one source
	$(BIN)/python -m mlops.contract.schema
	$(BIN)/python -m mlops.profile

bench-%: install-dev  ## Measure: bench-run, bench-split, bench-decide, bench-serve, bench-validate, bench-mutation
	$(BIN)/python benchmarks/$*.py

stop:  ## End everything that `make run` left running
	$(BIN)/mlops stop

clean: stop  ## End everything and remove what was built here (not the releases in the data folder)
	rm -rf .venv build examples/*/data examples/*/.mlops

COMPILE := $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header

lock: .venv/bootstrap  ## Pin all requirements again, with hashes
	$(COMPILE) --python-version 3.11 requirements/bootstrap.in -o requirements/bootstrap.txt
	$(COMPILE) --python-version 3.11 --extra local pyproject.toml -o requirements/local.txt
	$(COMPILE) --python-version 3.11 --extra local -c requirements/local.txt pyproject.toml requirements/dev.in -o requirements/dev.txt
	cd runners && ../$(COMPILE) --no-annotate --python-version 3.9 --extra score mlops_serve/pyproject.toml -o mlops_serve/requirements.txt
	cd examples/flights && ../../$(COMPILE) --no-annotate --python-version 3.11 requirements.in -o requirements.lock

GENERATED := resources

.PHONY: help install install-dev run test check fix generate stop clean lock
