# The two commands of the README: `make demo` and `make test`. Everything else is for developers.
SHELL := /bin/bash
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# `make COHORTIUM_TORCH_INDEX=<index of CPU builds> demo` keeps CUDA wheels away on Linux.
TORCH_INDEX := $(if $(COHORTIUM_TORCH_INDEX),--index-url $(COHORTIUM_TORCH_INDEX),)

.PHONY: demo test check lock setup clean
setup: $(VENV)/.ready

# Order matters: CPU torch first (a later resolver would fetch a CUDA build), then the hash-locked set
# without torch, then the project itself, then proof that the set fits together.
$(VENV)/.ready: requirements.lock scripts/check_versions.py
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is needed: install python3.11 and python3.11-venv, or set PYTHON=…"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check $(TORCH_INDEX) torch==2.13.0
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(BIN)/pip check
	$(BIN)/python scripts/check_versions.py
	@touch $@

demo: setup
	$(BIN)/python -m scripts.demo

test: setup
	bash scripts/test.sh

check: setup
	bash scripts/check.sh

# Regenerate the lock after editing pyproject.toml; torch stays out (its hash differs per platform).
lock: setup
	UV_FIND_LINKS="$${PIP_FIND_LINKS:-}" $(BIN)/uv pip compile pyproject.toml --python $(BIN)/python \
	  --prerelease disallow --extra site --extra coordinator --extra dev --generate-hashes \
	  --no-emit-package torch --no-header --no-emit-index-url --no-emit-find-links --no-annotate \
	  --quiet -o requirements.lock

clean:
	rm -rf build $(VENV)
