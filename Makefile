# Everything runs in .venv, and whatever starts services runs behind tests/images/engine.py,
# which puts the test images into the engines, and finds or starts a Docker engine where one is wanted.

PYTHON ?= python3
BIN := .venv/bin
WITH_EMBEDDED := $(BIN)/python tests/images/engine.py --only embedded --
WITH_ENGINES := $(BIN)/python tests/images/engine.py --
ROOT := $(filter 0,$(shell id -u))

.PHONY: help demo test suite suite-of-one-id bench lint images venv clean
.DEFAULT_GOAL := help

help: ## show this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 8

demo: ## run the example shop: a real environment, tested; no Docker, no registry, no root
	@# The images are made of what is downloaded while pip downloads.
	@$(MAKE) --no-print-directory -j2 .venv/project images
	$(WITH_EMBEDDED) $(BIN)/python -m pytest example_packages/shop -v --enclave-engine=embedded

test: lint ## check the style, then run all tests; root runs them on both engines, and again as a plain user
ifdef ROOT
	$(WITH_ENGINES) $(BIN)/python tests/suite.py
	$(BIN)/python tests/users/as_new_user.py --with-ids 'make demo suite' --without-ids 'make suite-of-one-id'
else
	@echo 'Not root: what needs a Docker engine is left out. All tests: sudo make test'
	$(MAKE) --no-print-directory suite
endif

suite: venv
	$(WITH_EMBEDDED) $(BIN)/python tests/suite.py -m "not docker"

suite-of-one-id: venv
	$(WITH_EMBEDDED) $(BIN)/python tests/suite.py -m "not docker" tests/engine tests/linux tests/images_room

bench: venv ## measure, side by side with the alternatives
	$(WITH_ENGINES) $(BIN)/python -m benchmarks

lint: venv ## check style, types, import order of the rooms, and docstrings
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/interrogate pytest_enclave

images: ## build the images that demo and tests use, from Debian packages
	$(PYTHON) tests/images/build.py

venv: .venv/installed ## make .venv with the project and its tools; PYTHON=... chooses the interpreter

.venv/installed: .venv/project
	@# Dependency groups need pip 25.1.
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet -c constraints.txt --group dev
	touch $@

.venv/project: pyproject.toml constraints.txt
	@# Debian's python3 comes without what makes environments.
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || $(if $(ROOT),{ apt-get update -qq && apt-get install -qq -y python3-venv; }, \
		{ echo '$(PYTHON) cannot make virtual environments: `sudo apt-get install python3-venv`, or choose another PYTHON=...'; exit 1; })
	$(PYTHON) -m venv .venv
	@# pyproject.toml configures pytest-timeout.
	$(BIN)/python -m pip install --quiet -c constraints.txt -e . pytest-timeout
	touch $@

clean: ## remove all that the other targets made here
	rm -rf .venv build dist .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
