# Every target does its own set-up: only Python 3.11 (or newer) with pip, and make, need to be there.
#   make bench ONLY=map,hover  row groups, or rows, of the benchmarks
#   make test ARGS='-k ledger' options of pytest
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.PHONY: help install browser demo test check bench bench-long bench-compare assets

BIN := .venv/bin
INSTALLED := .venv/.installed
WARMED := .venv/.warmed

help:  ## list the targets
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

install: $(INSTALLED) $(WARMED)  ## .venv with the exact versions of constraints.txt; instant when nothing changed

demo: install  ## the map of the Hubble Deep Field's galaxies in your browser
	$(BIN)/voorwerp demo

# Two processes share what needs no browser; the journeys fill two cores by themselves, one after the other. What fails
# is run once more, alone, and said to be: on a busy machine a click comes between two frames, a process ends a second late.
test: install browser  ## every test, the journeys in a real Chromium too
	@found=0; status=0; \
	for part in '--ignore=tests/ui --numprocesses=2 --dist=worksteal' tests/ui; do \
	  code=0; $(BIN)/python -m pytest --durations=15 $$part $(ARGS) || code=$$?; \
	  if [ $$code = 1 ]; then \
	    echo 'These failed, and are run once more, alone:'; \
	    code=0; $(BIN)/python -m pytest --last-failed --last-failed-no-failures=none -v $${part%--numprocesses*} $(ARGS) || code=$$?; \
	  fi; \
	  case $$code in 0) found=1 ;; 5) ;; *) found=1; status=$$code ;; esac; \
	done; \
	if [ $$found = 0 ]; then echo 'no test was run' >&2; exit 5; fi; \
	exit $$status

check: $(INSTALLED)  ## style, types and the arrows between the modules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: install browser  ## one table of ratios to named alternatives (at most 20 minutes); ONLY=rows for some
	$(BIN)/python -m tests.benchmarks $(if $(ONLY),--only $(ONLY))

bench-long: install browser  ## the rows that need training, many kills or more than 10 minutes
	$(BIN)/python -m tests.benchmarks --long $(if $(ONLY),--only $(ONLY))

bench-compare: $(INSTALLED)  ## what changed since the rows were last kept in .bench/, or since RUN=20261124-101500
	$(BIN)/python -m tests.benchmarks --compare $(RUN)

assets: install browser  ## make the demo's checkpoint, the screenshots and the tour again
	$(BIN)/python assets/make_demo.py
	$(BIN)/python -m tests.ui.screenshots
	$(BIN)/python -m tests.ui.capture

browser: $(INSTALLED)
	@$(BIN)/python -m tests.ui.browser

# Python 3.11 first: constraints.txt was made with it. A python without ensurepip (Debian's, without python3-venv)
# still makes an environment with the help of its own pip.
$(BIN)/python:
	@for python in python3.11 python3.12 python3.13 python3; do \
	  if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    if "$$python" -c 'import ensurepip' 2>/dev/null; then \
	      "$$python" -m venv .venv; \
	    elif "$$python" -m pip --version >/dev/null 2>&1; then \
	      "$$python" -m venv --without-pip .venv; \
	      "$$python" -m pip --python $(BIN)/python install --quiet pip; \
	    else \
	      echo "$$python has neither ensurepip nor pip; install one (Debian, Ubuntu: apt-get install python3-venv)" >&2; \
	      exit 1; \
	    fi; \
	    exit 0; \
	  fi; \
	done; \
	echo "Python 3.11 or newer was not found; install it (https://www.python.org/downloads/) and call make again" >&2; \
	exit 1

$(INSTALLED): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

# The compiled renderer stays beside the source: the first map need not wait for it.
KERNELS := explorer.cells explorer.raster explorer.services.orders explorer.services.histograms explorer.services.shards models.consensus models.retirement models.swap
$(WARMED): $(INSTALLED) $(addsuffix .py,$(subst .,/,$(KERNELS))) explorer/pixels.py
	$(BIN)/python -c 'import importlib, sys; [importlib.import_module(m).warm() for m in sys.argv[1:]]' $(KERNELS)
	@touch $@
