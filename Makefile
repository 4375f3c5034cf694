# Everything runs in .venv, and whatever starts services runs behind tests/images/engine.py,
# which finds or starts a Docker engine and puts the test images into it.

PYTHON ?= python3
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
BIN := .venv/bin
WITH_ENGINE := $(BIN)/python tests/images/engine.py --

.PHONY: help demo test bench lint venv clean
.DEFAULT_GOAL := help

help: ## show this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 8

demo: venv ## run the example shop: a real environment, tested
	$(WITH_ENGINE) $(BIN)/python -m pytest example_packages/shop -v

test: lint ## check the style, then run all tests
	$(WITH_ENGINE) $(BIN)/python -m pytest

bench: venv ## measure, side by side with the alternatives
	$(WITH_ENGINE) $(BIN)/python -m benchmarks

lint: venv ## check style, types, import order of the rooms, and docstrings
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/interrogate pytest_enclave

venv: .venv/installed ## make .venv with the project and its tools; PYTHON=... chooses the interpreter

.venv/installed: pyproject.toml constraints.txt
	@# Debian's python3 comes without what makes environments.
	$(PYTHON) -c 'import ensurepip' || { $(SUDO) apt-get update && $(SUDO) apt-get install -y python3-venv; }
	$(PYTHON) -m venv .venv
	@# Dependency groups need pip 25.1.
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet -c constraints.txt -e . --group dev
	touch $@

clean: ## remove all that the other targets made here
	rm -rf .venv build dist .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
