# Everything a person does here. Each target makes its own virtual environment; nothing is needed but git, make and Python.
PYTHON ?=
VENV   ?= .venv
DATA   ?= data
PORT   ?= 2583
BIN    := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help run test quick crash check format interop bench bench-signing lexicons clean

help:           ## list these targets
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 22

run: $(VENV)/.installed  ## start a box on port 2583 (PORT=...) with its data in ./data (DATA=...), and say what is next
	$(BIN)/pds-lite serve --data-dir $(DATA) --port $(PORT) --dev

test: $(VENV)/.dev       ## all tests but the interop ones
	$(BIN)/pytest -m "not interop and not crash"

quick: $(VENV)/.dev      ## the fast tests: core, store and house rules
	$(BIN)/pytest -m "not interop and not crash and not slow"

crash: $(VENV)/.dev      ## kill the server at named points and at random, and check what it left
	$(BIN)/pytest -m crash

interop: $(VENV)/.dev    ## tests against the npm reference packages (REF_DIR) and the public vectors
	$(BIN)/pytest -m interop

check: $(VENV)/.dev      ## format, lint, types, import contracts
	tools/check $(BIN)

format: $(VENV)/.dev     ## put the code in form
	$(BIN)/ruff format . && $(BIN)/ruff check --fix .

bench: $(VENV)/.dev      ## time the hot paths of the core on this machine
	$(BIN)/python tools/bench_core.py

bench-signing: $(VENV)/.dev  ## time the signing core on this machine
	$(BIN)/python tools/bench_signing.py

lexicons: $(VENV)/.dev   ## make pds_lite/lexicons.py again from the installed lexrpc
	$(BIN)/python tools/generate_lexicons.py

clean:          ## remove the virtual environment and caches, never data
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build *.egg-info

# Files of our own say what is done: bin/python is a link to the system's, whose time is not ours to set.
$(VENV)/.made: tools/bootstrap_venv
	tools/bootstrap_venv $(VENV) $(PYTHON)
	@touch $@

$(VENV)/.installed: $(VENV)/.made pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	$(BIN)/python -m compileall -q pds_lite  # as pip does for what it copies: a start compiles nothing
	@touch $@

$(VENV)/.dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@
