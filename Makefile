# `make demo` and `make test` are the whole set-up: each makes .venv and installs what it needs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
PYTEST_ARGS ?= -n 2
BENCH_ARGS ?=

.PHONY: help demo test check lint types layers docs gpu bench fuzz chaos floor clean

help:
	@echo "make demo    watch a real clip being remembered (installs what it needs)"
	@echo "make test    run the tests                      (installs what it needs)"
	@echo "make check   lint, types, layers, docs, tests: what must be green before a commit lands"
	@echo "make docs    build the documentation site: docs/_build/html/index.html"
	@echo "make bench   measure every published number beside its peer; records, docs/numbers.md"
	@echo "make fuzz    feed malformed messages and memory files, 10^5 and more, to what reads them"
	@echo "make chaos   kill processes at random, 200 seeds; what is promised must hold (20 minutes)"
	@echo "make gpu     the tests that need a CUDA device; its absence is a failure"
	@echo "make floor   the tests with the oldest supported torch, in their own environment"

demo: $(VENV)/.run
	$(BIN)/retain demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest $(PYTEST_ARGS)

check: lint types layers docs test

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

layers: $(VENV)/.dev
	PYTHONPATH=.src $(BIN)/lint-imports

docs: $(VENV)/.docs
	$(BIN)/sphinx-build -W --keep-going -j auto -b html docs docs/_build/html

gpu: $(VENV)/.dev
	REQUIRE_CUDA=1 $(BIN)/python -m pytest -m gpu

bench: $(VENV)/.dev
	$(PIP) install -c constraints.txt -e '.[bench]'
	$(BIN)/retain bench --record $(BENCH_ARGS)

fuzz: $(VENV)/.dev
	$(BIN)/python benchmarks/fuzz.py

chaos: $(VENV)/.dev
	$(BIN)/python benchmarks/chaos.py

floor:
	$(PYTHON) -m venv .venv-floor
	.venv-floor/bin/python -m pip install -c constraints-floor.txt -e '.[dev]'
	.venv-floor/bin/python -m pip install --no-deps -r assets.txt
	.venv-floor/bin/python -m pytest $(PYTEST_ARGS)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "retain needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: pyproject.toml constraints.txt assets.txt | $(VENV)/bin/python
	$(PIP) install -c constraints.txt -e '.[track]'
	$(PIP) install --no-deps -r assets.txt
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	$(PIP) install -c constraints.txt -e '.[dev]'
	@touch $@

$(VENV)/.docs: $(VENV)/.run
	$(PIP) install -c constraints.txt -e '.[docs]'
	@touch $@

clean:
	rm -rf $(VENV) .venv-floor build .mypy_cache .ruff_cache .pytest_cache docs/_build docs/reference
