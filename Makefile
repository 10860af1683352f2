# From a bare clone: each target first makes .venv, if it is missing, unfinished or older than the pins.
NEW_ENOUGH = import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))
PYTHON ?= $(or $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$name -c '$(NEW_ENOUGH)' 2>/dev/null && echo $$name && break; done),python3)
BIN := .venv/bin
PIP := $(BIN)/python -m pip
TORCH = $$(grep -o 'torch==[0-9.]*' pyproject.toml)
CPU_BUILD := https://download.pytorch.org/whl/cpu

.PHONY: help install quickstart test test-slow lint results bench
.DEFAULT_GOAL := help

help:  ## list these targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

install: .venv/.installed  ## install the pinned packages into .venv; TORCH_INDEX=URL takes torch from there
	@$(BIN)/python -c 'import importlib.metadata as m, platform as p; \
	print("nutshell: .venv is ready: Python", p.python_version() + ", torch", m.version("torch"))'

TOO_OLD = needs Python 3.11 to 3.14, but $(PYTHON) is: $$($(PYTHON) --version 2>&1 | head -n 1); \
	name another one: make install PYTHON=python3.13
NO_VENV = $(PYTHON) has no module venv or ensurepip; on Debian and Ubuntu: sudo apt install python3-venv
ifeq ($(shell uname -s)$(TORCH_INDEX),Linux)
SIZE = 3 GB to download and 6 GB of disk, most of it CUDA for NVIDIA GPUs; \
	the CPU build needs 0.5 GB and 2 GB: make install TORCH_INDEX=$(CPU_BUILD)
else
SIZE = 0.5 GB to download and 2 GB of disk
endif
# A first install that failed or was killed leaves .unfinished: pip would take half a package for a whole one.
WHOLE = [ ! -e .venv/.unfinished ] && $(PIP) --version >/dev/null 2>&1

.venv/.installed: requirements.txt pyproject.toml
	@$(WHOLE) || $(PYTHON) -c '$(NEW_ENOUGH)' 2>/dev/null || { echo "nutshell: $(TOO_OLD)" >&2; exit 1; }
	@$(WHOLE) || $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "nutshell: $(NO_VENV)" >&2; exit 1; }
	@[ -e $@ ] && echo "nutshell: updates .venv" || echo "nutshell: installs into .venv: about $(SIZE)"
	@$(WHOLE) || { rm -rf .venv && mkdir .venv && touch .venv/.unfinished && $(PYTHON) -m venv .venv; }
	@{ $(if $(TORCH_INDEX),$(PIP) install --no-deps --index-url $(TORCH_INDEX) $(TORCH) &&) \
	$(PIP) install -r requirements.txt; } >.venv/install.log 2>&1 || { tail -n 30 .venv/install.log >&2; \
	echo "nutshell: the install failed; all of pip's output is in .venv/install.log" >&2; exit 1; }
	@rm -f .venv/.unfinished
	@touch $@

QUICKSTART := $(addprefix experiments/quickstart/,pairs.yaml reviews.yaml language_model.yaml prompts.yaml)

quickstart: .venv/.installed  ## fine-tune a small BERT, train a small GPT-2 and prompt it; first fetches a small language model, 93 MB
	$(BIN)/nutshell fetch smollm2
	$(BIN)/nutshell run $(QUICKSTART)

test: .venv/.installed  ## run the fast tests: off line, on the CPU
	$(BIN)/pytest -m "not slow" -n 2

test-slow: .venv/.installed  ## run the slow tests: real weights, real data (NUTSHELL_DATA), killed runs, several processes
	$(BIN)/pytest -m slow -v

lint: .venv/.installed  ## check style, format and which way imports point; changes nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

results: .venv/.installed  ## write the tables of every README from the stored results
	$(BIN)/python -m nutshell.report.tables experiments/results
	$(BIN)/python experiments/benchmarks/tables.py

bench: .venv/.installed  ## measure speed next to the stock recipe's, into experiments/benchmarks/results/: 70 minutes on two idle cores
	$(BIN)/python experiments/benchmarks/throughput.py
