# Everything a developer runs. `make demo` and `make test` need nothing but make and Python on the machine.
.DEFAULT_GOAL := help
SHELL := /bin/bash
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=
SEEDS ?= 500
FIRST ?= 0
# Pods need root; a user who is not root is asked by sudo.
SUDO := $(if $(filter 0,$(shell id -u)),,sudo -E)

.PHONY: help setup setup-run demo test check fmt types stubs imports docs facts e2e unit pythons simulate release bench soak golden clean

help: ## Show this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: ## Install what is missing: system packages (as root on Debian or Ubuntu) and the virtual environment
	@scripts/setup dev

setup-run:
	@scripts/setup run

demo: setup-run ## Start the platform, run the demo application on it, show what happened (ARGS=--once to end by itself)
	@$(SUDO) $(BIN)/ondol demo $(ARGS)

check: setup ## Check without running: format, lint, spelling, types, import contracts, generated pages
	@scripts/check

test: check ## Check, then run every test, end-to-end included: what CI runs
	@scripts/test

fmt: ## Format the code
	$(BIN)/ruff format src tests examples benchmarks scripts
	$(BIN)/ruff check --fix src tests examples benchmarks scripts

types: ## Check types, strictly
	$(BIN)/mypy

stubs: ## Write the stubs of the xDS messages anew, for mypy
	$(BIN)/python scripts/generate_xds_stubs.py

imports: ## Check that each room imports only what the design allows
	$(BIN)/lint-imports

unit: ## Fast tests only
	$(BIN)/pytest -m "not e2e and not root" -n 2

e2e: ## End-to-end tests only
	$(SUDO) $(BIN)/pytest -m e2e

pythons: ## Quick tests on every supported Python of this machine
	@scripts/test-pythons $(ARGS)

simulate: setup ## Play histories of the whole control plane among faults (SEEDS=n FIRST=n)
	ONDOL_SEEDS=$(SEEDS) ONDOL_FIRST_SEED=$(FIRST) $(BIN)/pytest -q -n 2 tests/simulation/test_platform_simulation.py

release: setup ## Build what is published: wheel, source archive, bill of materials, checksums (ARGS=--draft to try)
	@scripts/release $(ARGS)

bench: setup ## Measure; prints a table and writes benchmarks/results/*.json
	$(SUDO) $(BIN)/python benchmarks/run.py $(ARGS)

soak: setup ## Create and delete pods while parts are killed, look for what is left (ARGS="--cycles 100 --seed 1")
	$(SUDO) $(BIN)/python benchmarks/soak.py $(ARGS)

golden: ## Write the golden files anew
	ONDOL_GOLDEN=write $(BIN)/pytest -q -k golden

docs: ## Write the generated pages anew
	$(BIN)/python scripts/generate_docs.py

facts: setup ## Write the facts of the built-in kinds anew from Kubernetes' public sources (ARGS=<tag> for another release)
	@scripts/facts $(ARGS)

clean: ## Remove what was built
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis dist
