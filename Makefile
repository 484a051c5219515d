PYTHON ?= python3
UV_VERSION := 0.13.8
# Absolute, as dvc runs the stages in other folders; all else is relative, as make takes a space in a path for its end.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export DVC_NO_ANALYTICS := 1
# Threads that wait in a spin slow everything down several times over when something else wants the cores.
export OMP_WAIT_POLICY ?= passive

EXPERIMENTS := retrieval moments alignment guided pretraining heads recognition resources full

.DEFAULT_GOAL := help
.PHONY: help env repro test check lint bench torture lock $(EXPERIMENTS)

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-7s %s\n", $$1, $$2}' Makefile
	@echo "make NAME   the same as stillmotion run NAME, for NAME in $(EXPERIMENTS)"

env: .venv/.stamp  ## make the environment in .venv, from requirements.lock

.venv/.stamp: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Stillmotion needs Python 3.11 or newer; $(PYTHON) is older. Try: make PYTHON=python3.11 env"; exit 2; }
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	.venv/bin/uv pip sync --quiet --compile-bytecode --python .venv/bin/python --require-hashes requirements.lock
	.venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable .
	@touch $@

repro: env  ## make the environment and rebuild every result that is not up to date
	@stillmotion mend
	dvc repro

$(EXPERIMENTS): env
	stillmotion run $@

test: env  ## make the environment and run every test, in two processes
	python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

check: env  ## the quick tests
	python -m pytest -n 2 --dist loadfile -m "not slow and not pipeline"

lint: env  ## ruff and mypy
	ruff check src tests benchmarks examples
	ruff format --check src tests benchmarks examples
	mypy

bench: env  ## measure speed and memory against named peers; writes benchmarks/results
	python -m benchmarks

torture: env  ## kill, spoil and fill whatever the tiny pipeline uses, and compare its bytes
	python -m benchmarks.torture

lock:  ## resolve the dependencies again into requirements.lock
	.venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-emit-find-links --no-header --group dev --all-extras --output-file requirements.lock --upgrade pyproject.toml
