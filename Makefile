# make demo   set up .venv, train a small German-English transformer with momo_adam and with adamw_torch, compare them
# make test   set up .venv, run the tests
# make check  set up .venv, run the linter, the formatter and the type checker
# make clean  remove what these targets have made

# The version of PyTorch for machines without a GPU; `make TORCH=2.9.1 test` takes another one.
TORCH ?= 2.13.0
VENV := .venv
PYTHON := $(VENV)/bin/python
READY := $(VENV)/.ready
OUT ?= runs/demo

.PHONY: demo test check clean setup
.DEFAULT_GOAL := test

setup: $(READY)

$(READY): pyproject.toml Makefile .ci/setup.sh
	@sh .ci/setup.sh "$(VENV)" "$(TORCH)"
	@touch $@

demo: $(READY)
	$(PYTHON) recipes/translation.py --config recipes/configs/demo.yaml --output_dir $(OUT)/momo_adam
	$(PYTHON) recipes/translation.py --config recipes/configs/demo.yaml --output_dir $(OUT)/adamw_torch --optim adamw_torch
	$(PYTHON) recipes/compare_runs.py $(OUT)/momo_adam $(OUT)/adamw_torch

test: $(READY)
	$(PYTHON) -m pytest

check: $(READY)
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy

clean:
	rm -rf $(VENV) runs build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
