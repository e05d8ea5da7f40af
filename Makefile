# Everything a developer or user types. `make` alone prints this list.
PY ?= python3
BIN := .venv/bin
DEMO ?= serve
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadgroup

.PHONY: help demo serve test test-all check format bench bench-long lock docs clean

help:
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | awk -F'\t' '{printf "  make %-11s %s\n", $$1, $$2}'

.venv/.ok: requirements.lock tools/environment.py pyproject.toml
	@$(PY) tools/environment.py requirements.lock $@

.venv/.ok-dev: requirements-dev.lock tools/environment.py pyproject.toml
	@$(PY) tools/environment.py requirements-dev.lock $@
	@touch .venv/.ok

demo: .venv/.ok  ## the main job, end to end: picture, OCR, callback (DEMO=once ends by itself)
	@$(BIN)/python examples/demo.py --mode $(DEMO)

serve: .venv/.ok  ## a local server with a sample bucket
	@$(BIN)/cloudfinite serve

test: .venv/.ok-dev  ## the test suite
	@$(PYTEST) -m "not full"

test-all: .venv/.ok-dev  ## the test suite with all counts
	@$(PYTEST)

check: .venv/.ok-dev  ## format, lint, types, layers, lock files
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@! grep -nE 'https?://|file://' requirements.lock requirements-dev.lock || (echo "a lock file holds an address" && false)
	@$(BIN)/python tools/write_docs.py --check

format: .venv/.ok-dev  ## put all code into form
	@$(BIN)/ruff format --quiet .
	@$(BIN)/ruff check --fix --quiet .

docs: .venv/.ok-dev  ## the generated pages anew: coverage, settings
	@$(BIN)/python tools/write_docs.py

bench: .venv/.ok-dev  ## the short benchmarks, with a report
	@$(BIN)/python bench/run.py short

bench-long: .venv/.ok-dev  ## the other benchmarks
	@$(BIN)/python bench/run.py long

LOCK := uv pip compile --universal --generate-hashes --no-emit-index-url --no-header --no-annotate --python-version 3.11
lock:  ## the lock files anew (needs uv)
	$(LOCK) pyproject.toml --extra demo --group build --output-file requirements.lock
	$(LOCK) pyproject.toml --extra demo --group build --group dev --constraint requirements.lock \
		--output-file requirements-dev.lock

clean:  ## remove the environment and what runs left behind
	rm -rf .venv demo-out cloudfinite-data .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
