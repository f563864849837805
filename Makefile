# make demo       label the sample photographs with the bundled network
# make test       lint, types, import layers and tests on the CPU (about ten minutes on two cores)
# make test-again the tests that failed last, alone: one that passes now depends on the machine's load
# make test-all   the slow tests as well
# make test-gpu   the tests that need a CUDA device
# make test-floor the core tests with the lowest versions that pyproject.toml allows, in .venv-floor
# make figures CAMVID=DATA NUCLEI=DATA  the figures of the documents again; fails where one drifts outside its interval
# make release    the wheel and the sdist into dist/, each installed into fresh environments where `dilated demo` runs
# make site       the documentation as pages in site/, which load nothing from a network; fails on any warning
# make reference  the pages of docs/reference from the docstrings
# Each makes the environment in .venv first where it is missing.

PYTHON ?= python3
PYTHONS ?= $(PYTHON)
BIN := .venv/bin
WORKERS ?= 2
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -q

.PHONY: demo figures test test-again test-all test-gpu test-floor lint release site reference bench clean

.venv/ready: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --editable . --group dev
	touch $@

demo: .venv/ready
	$(BIN)/dilated demo --out demo

lint: .venv/ready
	$(BIN)/ruff format --check src tests benchmarks tools
	$(BIN)/ruff check src tests benchmarks tools
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

test: lint
	$(PYTEST) -n $(WORKERS)

test-again: .venv/ready
	$(PYTEST) --last-failed --last-failed-no-failures none

test-all: lint
	$(PYTEST) -n $(WORKERS) -m 'not gpu' --hypothesis-profile random

test-gpu: .venv/ready
	$(PYTEST) -m gpu

test-floor:
	$(PYTHON) tools/floor.py --out .venv-floor

release: .venv/ready
	$(BIN)/python tools/release.py --out dist $(foreach python,$(PYTHONS),--python $(python))

site: .venv/ready
	$(BIN)/python -m pip install --quiet --group docs
	$(BIN)/python tools/make_site.py --out site

reference: .venv/ready
	$(BIN)/python tools/make_reference.py

figures: .venv/ready
	CAMVID='$(CAMVID)' NUCLEI='$(NUCLEI)' $(BIN)/python tools/figures.py $(FIGURES)

bench: .venv/ready
	$(BIN)/python benchmarks/depthwise.py

clean:
	rm -rf .venv .venv-floor demo dist site
