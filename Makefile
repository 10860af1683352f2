# Everything from a bare clone: each target makes .venv first if it is not there.
PYTHON ?= python3.11
BIN := .venv/bin

.PHONY: help install quickstart test test-slow lint results bench
.DEFAULT_GOAL := help

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

install: .venv/.installed  ## .venv with the pinned packages

.venv/.installed: requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --disable-pip-version-check -r requirements.txt
	@touch $@

QUICKSTART := $(addprefix experiments/quickstart/,pairs.yaml reviews.yaml language_model.yaml prompts.yaml)

quickstart: install  ## fine-tune a small BERT, train a small GPT-2 and prompt it, on embedded text, no network
	$(BIN)/nutshell run $(QUICKSTART)

test: install  ## fast tests: off line, on the CPU
	$(BIN)/pytest -m "not slow" -n 2

test-slow: install  ## real weights, real data (NUTSHELL_DATA), killed runs, several processes
	$(BIN)/pytest -m slow -v

lint: install  ## ruff check and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

results: install  ## write README.md's results table from experiments/results/
	$(BIN)/python -m nutshell.report.tables README.md experiments/results

bench: install  ## speed beside the stock recipe, into experiments/benchmarks/results/: 40 minutes on two idle cores
	$(BIN)/python experiments/benchmarks/throughput.py
