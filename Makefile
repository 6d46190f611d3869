# make demo   set up .venv, train a small German-English transformer with adamw_torch and with momo_muon, each at one good
#             learning rate and at two that are far too large, and compare them (five minutes; results in runs/demo_rates)
# make test   set up .venv, run the tests
# make check  set up .venv, run the linter, the formatter and the type checker
# make test-oldest
#             set up .venv-oldest with the lowest version of everything that pyproject.toml names, on Python 3.10 if there
#             is one, and run the tests that these versions decide
# make gpu    set up .venv, run the tests that need a GPU, time the steps of all methods on it and train one model, in
#             eight minutes (runs/gpu/report.md); `make gpu DATA=FOLDER` trains on Multi30k. Without a GPU it says so
# make clean  remove what these targets have made

# The version of PyTorch for machines without a GPU; `make TORCH=2.9.1 test` takes another one.
TORCH ?= 2.13.0
VENV := .venv
PYTHON := $(VENV)/bin/python
READY := $(VENV)/.ready
# Tests run in so many processes; the launches among them start two more each.
WORKERS ?= 2

# What the versions of torch, transformers, accelerate and optuna decide.
OLDEST_TESTS ?= tests/optimizers tests/measure_kernels tests/integration tests/trainer tests/hub tests/tap tests/sweep \
	tests/invariants tests/test_sharding.py tests/test_step_size.py tests/test_versions.py

.PHONY: demo gpu test test-oldest check clean setup
.DEFAULT_GOAL := test

setup: $(READY)

$(READY): pyproject.toml Makefile .ci/setup.sh
	@sh .ci/setup.sh "$(VENV)" dev "$(TORCH)"
	@touch $@

.venv-oldest/.ready: pyproject.toml Makefile .ci/setup.sh
	@sh .ci/setup.sh .venv-oldest test-core lowest
	@touch $@

demo: $(READY)
	$(PYTHON) -m hf_momo sweep --config recipes/studies/demo.yaml
	$(PYTHON) recipes/compare_runs.py runs/demo_rates/*/lr_3e-02/seed_42/output

test: $(READY)
	$(PYTHON) -m pytest --numprocesses $(WORKERS) --dist loadfile

test-oldest: .venv-oldest/.ready
	.venv-oldest/bin/python -m pytest --numprocesses $(WORKERS) --dist loadfile $(OLDEST_TESTS)

gpu: $(READY)
	$(PYTHON) recipes/benchmarks/gpu_report.py --output runs/gpu $(if $(DATA),--data "$(DATA)")

check: $(READY)
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy

clean:
	rm -rf $(VENV) .venv-oldest runs build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
