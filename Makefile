# One command for each job: `make tests`, `make lint`, `make types`, `make docs`, `make benchmarks`.
# They use the environment of PYTHON (default: .venv, which `make install` sets up).
PYTHON ?= .venv/bin/python

.PHONY: install tests quick coverage lint format types docs figures benchmarks all

install: ## an environment with all that the other jobs need
	python3 -m venv .venv
	$(PYTHON) -m pip install -e ".[test,docs]"

tests: ## all tests, on all cores, as CI runs them
	$(PYTHON) -m pytest -n auto

quick: ## tests but for the slow ones
	$(PYTHON) -m pytest -n auto -m "not slow"

coverage: ## lines that no test runs
	$(PYTHON) -m coverage run -m pytest -n auto
	$(PYTHON) -m coverage combine --quiet
	$(PYTHON) -m coverage report --show-missing --skip-covered

lint: ## style and format
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

format: ## rewrite the files in the format that `make lint` checks
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

types: ## static types
	$(PYTHON) -m mypy

docs: ## the pages, in docs/_build
	$(PYTHON) -m sphinx -q -W --keep-going -b html docs docs/_build

figures: ## every figure, from the numbers in figures/data
	$(PYTHON) figures/make.py

benchmarks: ## every benchmark in its smallest form
	for name in attribution sparsity symbolic workflow tables scaling; do \
		$(PYTHON) -m benchmarks $$name --smoke --quiet --output kanlens-bench-smoke || exit 1; done

all: lint types docs tests
