# One command does everything: `make` lists the targets.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
STAMP := .venv/.setup-done
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help setup demo test check bench soak format clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

setup: $(STAMP) ## make .venv with tidemill and the tools; quick the second time
	@echo "the command is $(BIN)/tidemill; to have it as tidemill: . $(BIN)/activate"

$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python || "$(PYTHON)" -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: setup ## a month of real flights, compared with the truth
	$(BIN)/tidemill demo
	@echo "next: . $(BIN)/activate && tidemill init first"

test: setup ## all tests
	$(BIN)/python -m pytest -n $(WORKERS)

check: setup ## format, lint, types, floors (the tests are `make test`)
	@echo "check: format"
	@$(BIN)/ruff format --check .
	@echo "check: lint"
	@$(BIN)/ruff check .
	@echo "check: types"
	@$(BIN)/mypy
	@echo "check: floors"
	@$(BIN)/lint-imports --no-cache

bench: setup ## measure speed (results stay on this machine)
	$(BIN)/python -m bench

soak: setup ## run long and watch memory, files and logs stay bounded
	$(BIN)/python -m bench soak
	TIDEMILL_KILLS=30 $(BIN)/python -m pytest -q tests/e2e/test_front_door.py
	TIDEMILL_CRASHES=all $(BIN)/python -m pytest -q tests/e2e/test_shadow_crashes.py

format: setup ## put the code in shape
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## remove what can be made again, .venv too
	rm -rf .venv build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
