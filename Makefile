# Six targets; each sets up what it needs and installs nothing a second time.
#
#   make demo [LINK=unix|serial]   the whole system in one minute, explained step by step
#   make run                       a CA that stays: made and kept under ./var
#   make test                      every test; branch coverage of core and protocol must be 100 %
#   make lint                      formatting, lints, types, import contracts, pinned requirements
#   make bench                     the tracked figures
#   make docs                      the documentation, into build/docs
#
# PYTHON=python3.12 chooses another interpreter (3.11 or later), VENV=dir another place for the virtual environment.

PYTHON ?= python3
VENV ?= .venv
LINK ?= unix
# Two by default: the suite is laid out for two cores. `make test WORKERS=0` runs everything in one process.
WORKERS ?= 2

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

python := $(VENV)/bin/python
pip := $(python) -m pip --disable-pip-version-check --no-input --quiet
pip_install := $(pip) install --require-hashes -r
checked := src tests bench examples tools docs/conf.py

.PHONY: demo run test lint bench docs
.NOTPARALLEL: # one virtual environment, one pip at a time

demo: $(VENV)/installed-run
	@$(python) -m examples.demo --link $(LINK)

run: $(VENV)/installed-run
	@$(python) -m examples.run

test: $(VENV)/installed-test
	tools/setup-tests
	mkdir -p build
	$(python) -m pytest --numprocesses $(WORKERS) --cov --cov-branch --cov-report=
	$(python) -m coverage report
	@echo "core and protocol: every branch must be covered"
	$(python) -m coverage report --fail-under=100 --include='src/cassiopeia/core/*,src/cassiopeia/protocol/*'

lint: $(VENV)/installed-lint
	$(VENV)/bin/ruff check $(checked)
	$(VENV)/bin/ruff format --check $(checked)
	$(VENV)/bin/mypy $(checked)
	$(VENV)/bin/lint-imports
	$(python) tools/check_requirements.py

bench: $(VENV)/installed-run
	@$(python) -m bench

docs: $(VENV)/installed-docs
	$(python) tools/check_links.py
	$(python) -m sphinx --fail-on-warning --keep-going --nitpicky --quiet -d build/doctrees -b html docs build/docs
	@echo "The documentation is in build/docs/index.html"

# The virtual environment. Each stamp is younger than what it was made from, so a changed pin is installed at once. The
# build backend is pinned like the rest: no build fetches anything by itself.

$(VENV)/created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "make: Python 3.11 or later is needed; name one with: make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "Making a virtual environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/installed-run: $(VENV)/created requirements/build.txt requirements/run.txt pyproject.toml
	@echo "Installing pinned dependencies"
	@$(pip_install) requirements/build.txt -r requirements/run.txt
	@$(pip) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/installed-%: requirements/%.txt $(VENV)/installed-run
	@echo "Installing pinned dependencies for $*"
	@$(pip_install) $<
	@touch $@

$(VENV)/installed-lint: $(VENV)/installed-test
