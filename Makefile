SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
LOCK := $(BIN)/uv pip compile --quiet --universal --fork-strategy fewest --python-version 3.10 --generate-hashes --no-annotate --no-header

##@ Use
.PHONY: demo
demo: $(READY) ## learn from the real flights on embedded Kafka and Elasticsearch, live in this terminal (ARGS="--help")
	@$(BIN)/python -m embedded.demo $(ARGS)

##@ Develop
.PHONY: test lint format generate lock clean bench
test: lint ## all checks and tests that need no Kubernetes (ARGS="-k name" picks some)
	@some=(); if ! command -v chromium >/dev/null; then some=(-m "not browser"); \
	  echo "NOT RUN: the live page's tests in a browser, for want of Chromium (apt install chromium)"; fi; \
	  $(BIN)/python -m pytest "$${some[@]}" $(ARGS)

lint: $(READY) ## style, types and import rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

format: $(READY) ## rewrite the Python files in the project's style
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

generate: $(READY) ## write anew the files that are made from code (a test says when one is stale)
	@$(BIN)/python docs/configuration.py
	@$(BIN)/python -m dashboards build

bench: $(VENV)/bench-ready ## measure this against its alternatives: 30 minutes (QUICK=1: 5; ONLY=learner: one question)
	@for question in $(or $(ONLY),learner pipeline latency growth); do \
	  $(BIN)/python bench/$$question.py --size $(if $(QUICK),quick,full); done
	@$(BIN)/python bench/report.py --size $(if $(QUICK),quick,full)

lock: $(READY) ## write the hashed requirements.txt files anew from pyproject.toml
	@$(LOCK) --group pyproject.toml:dev -o requirements.txt
	@for part in spark-apps producer kibana; do $(LOCK) --group pyproject.toml:$$part -c requirements.txt -o $$part/requirements.txt; done
	@$(LOCK:3.10=3.11) --group pyproject.toml:bench -c requirements.txt -o bench/requirements.txt

clean: ## remove what the targets made here (downloads stay in the cache folder)
	rm -rf $(VENV) .local .mypy_cache .ruff_cache .pytest_cache .hypothesis

.PHONY: help
help:
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ Set-up (the targets above do it when needed)
.PHONY: setup
setup: $(READY) ## the Python environment in .venv, with the jars that Spark needs for Kafka

$(READY): requirements.txt embedded/setup.sh spark-apps/connector.py
	@PYTHON=$(PYTHON) bash embedded/setup.sh $(VENV)

$(VENV)/bench-ready: bench/requirements.txt $(READY)
	@echo "adding what is compared with to $(VENV): scikit-learn, River, Vowpal Wabbit (100 MB; once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r $<
	@touch $@
