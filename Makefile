# make demo   label the sample photographs with the bundled network
# make test   lint, types and tests (about ten minutes on two cores)
# Both make the environment in .venv first where it is missing.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-all lint bench clean

.venv/ready: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --editable . --group dev
	touch $@

demo: .venv/ready
	$(BIN)/dilated demo --out demo

lint: .venv/ready
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/mypy

test: lint
	$(BIN)/pytest -q

test-all: lint
	$(BIN)/pytest -q -m ''

bench: .venv/ready
	$(BIN)/python benchmarks/depthwise.py

clean:
	rm -rf .venv demo
