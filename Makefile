# Every target prepares what it needs, and is quick when run again.
SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
# Python compiles a module when it is first imported: of the installed ones few ever are.
INSTALL := $(BIN)/python -m pip --disable-pip-version-check install -q --no-deps --no-compile
# The CPU build of PyTorch has an index of its own; elsewhere the same version comes with several GB of CUDA.
TORCH_CPU_INDEX := https://download.pytorch.org/whl/cpu

export HF_HUB_OFFLINE ?= 1
export VLLM_NO_USAGE_STATS ?= 1

.PHONY: demo install test test-logic test-model test-browser test-fast test-long faults ui lint site gpu gpu-check clean
.NOTPARALLEL:  # the parts of a test run would take the cores from each other
.DEFAULT_GOAL := demo

install: $(VENV)/.ready

demo: $(VENV)/.ready  ## every asset, prompts to RL policy, on a real model
	$(BIN)/cai demo

# Tests of logic share the cores; those that load the model need them for themselves. A browser keeps an event loop
# running in its process, in which Inspect's tests cannot start theirs.
test: test-logic test-model test-browser  ## logic, the real model, a real browser: about 30 minutes on 2 cores

test-logic: $(VENV)/.ready  ## the 30 slowest are named, so that what is slow without reason is seen
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not model and not browser and not long" -n 2 --dist loadfile --durations=30

test-model: $(VENV)/.ready
	$(BIN)/python -m pytest -m "model and not browser and not long" --durations=10

test-browser: $(VENV)/.ready chromium
	$(BIN)/python -m pytest -m "browser and not long"

test-fast: test-logic  ## logic only: no model, no browser

test-long: $(VENV)/.ready  ## what takes minutes each: more of the recipe on the real model, automation in a live cai ui
	$(BIN)/python -m pytest -m "long and not fault"

faults: $(VENV)/.ready chromium  ## kills, flips, full disks, races, servers, hostile pages: a table of what held
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "fault and not browser" -n 2
	$(BIN)/python -m pytest -m "fault and browser"

ui: $(VENV)/.ready  ## Studio and Dagster on http://127.0.0.1:3000
	$(BIN)/cai ui

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/cai lint
	$(BIN)/check-jsonschema -q --builtin-schema vendor.github-workflows .github/workflows/*.yaml
	$(BIN)/check-jsonschema -q --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/[bi]*.yml
	$(BIN)/check-jsonschema -q --builtin-schema vendor.compose-spec compose.yaml deploy/compose.objects.yaml
	$(BIN)/check-jsonschema -q --builtin-schema vendor.citation-file-format CITATION.cff

site: $(VENV)/.ready  ## docs/ as a site in site/; fails on a link or heading that is not there
	$(BIN)/zensical build --clean --strict

gpu:  ## the CUDA build of vLLM, in .venv-gpu
	@command -v nvidia-smi >/dev/null && nvidia-smi -L | grep -q GPU || \
	  { echo "No NVIDIA GPU found: 'nvidia-smi -L' lists none. Install the driver, or use 'make demo' for the CPU."; exit 1; }
	test -d .venv-gpu || $(PYTHON) -m venv .venv-gpu
	.venv-gpu/bin/python -m pip install -e ".[gpu,dev]"
	@echo "Ready. Use: source .venv-gpu/bin/activate && cai demo --scale small"

gpu-check:  ## what this GPU does, in under 8 minutes, into docs/experiments.md
	@python=$$(test -x .venv-gpu/bin/python && echo .venv-gpu/bin/python || command -v python3); \
	  PYTHONPATH=. $$python benchmarks/gpu_check.py --write docs/experiments.md

.PHONY: chromium
chromium:  ## the browser test needs one; without it that test is skipped, and says so
	@command -v chromium chromium-browser google-chrome >/dev/null 2>&1 || \
	  { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	    (apt-get update -qq && apt-get install -y -qq chromium >/dev/null) ; } || \
	  echo "No Chromium found: the browser test will be skipped. Install it with your system's package manager."

$(VENV)/.ready: requirements/cpu.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -c 'import torch' 2>/dev/null || \
	  $(INSTALL) --retries 0 --timeout 15 --index-url $(TORCH_CPU_INDEX) torch==2.13.0 2>/dev/null || \
	  $(INSTALL) torch==2.13.0
	$(INSTALL) -r requirements/cpu.txt
	$(INSTALL) --no-build-isolation -e .
	touch $@

clean:  ## remove the environment, not the data
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
