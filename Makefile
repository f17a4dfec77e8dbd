SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
DEV_READY := $(VENV)/dev-ready
LOCK := $(BIN)/uv pip compile --quiet --universal --fork-strategy fewest --python-version 3.10 --generate-hashes --no-strip-extras --no-annotate --no-header

##@ Use
.PHONY: demo
demo: $(READY) ## learn from real flights with Kafka, Elasticsearch and Spark on this machine (ARGS="--help")
	@$(BIN)/python -m demo $(ARGS)

##@ Kubernetes
KIND ?= kind
KUBECTL ?= kubectl

.PHONY: images kind-up kind-down deploy produce dashboard test-cluster
images: ## build the container images with Docker (BASE="another Python image")
	@bash charts/cluster.sh images

kind-up: ## create a cluster on this machine with kind (CLUSTER=streaming-ml)
	@bash charts/cluster.sh kind-up

kind-down: ## delete the kind cluster and everything in it
	@bash charts/cluster.sh kind-down

deploy: images ## install the release and missing operators into kubectl's current cluster (NAMESPACE=ml ARGS="--set retentionDays=7")
	@bash charts/cluster.sh deploy

produce: ## send the real flights with producer/job.yaml and show its log
	@bash charts/cluster.sh produce

dashboard: ## open a connection to Kibana and print address and login (PORT=5601)
	@bash charts/cluster.sh dashboard

test-cluster: $(DEV_READY) images ## run the tests on a Kubernetes that kind creates (ARGS="--kind-bin FILE --kind-kubectl-bin FILE -k name")
	@$(BIN)/python -m pytest -c pyproject.toml -o testpaths=tests/cluster --kind-bin="$$(command -v $(KIND) || true)" \
	  --kind-kubectl-bin="$$(command -v $(KUBECTL) || true)" $(ARGS)

##@ Develop
JOBS ?= 3
SHELL_FILES := .ci/run $(wildcard .github/*.sh */*.sh)
.PHONY: test test-slow lint format generate lock clean bench
test: servers lint ## run all checks and the tests that matter for every change, JOBS files in parallel (JOBS=3 ARGS="-k name")
	@$(call pytest,not slow)

test-slow: servers ## run the other tests: 20 random kills, long outages, growth, every wrong setting
	@$(call pytest,slow)

.PHONY: servers
servers: $(DEV_READY)
	@$(BIN)/python -m embedded fetch >/dev/null
	@$(BIN)/python -m embedded fetch --elasticsearch 8.19.21 >/dev/null
	@if command -v helm >/dev/null && command -v go >/dev/null; then $(BIN)/python -m tests.charts.crds; fi
	@$(BIN)/python -c 'from embedded import jars; jars.fetch(jars.REGISTRY)'

# A worker runs a whole file, as its tests share servers. Files of integration tests, which take longest, begin first.
define pytest
select="$(1)"; not_run() { select="$$select and not $$1"; echo "NOT RUN: $$2"; }; \
  command -v chromium >/dev/null || not_run browser "the live page's tests in a browser, because Chromium is missing (apt install chromium)"; \
  command -v helm >/dev/null || [ -n "$${CI:-}" ] || \
    not_run helm "the charts' tests, because Helm is missing (go install helm.sh/helm/v4/cmd/helm@v4.3.1)"; \
  $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder --durations=10 -m "$$select" $(if $(ARGS),,--cov) $(ARGS)
endef

lint: $(DEV_READY) ## check style, types, import rules, shell scripts, Dockerfiles and the page's JavaScript
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/mypy charts/generate.py charts/streaming-ml/files/*.py
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/shellcheck $(SHELL_FILES)
	@$(BIN)/hadolint --ignore DL3008 */Dockerfile # Debian keeps only the newest version of a package, so none is pinned
	@$(BIN)/oxlint --deny-warnings --config kibana/.oxlintrc.json kibana/dashboards/static

format: $(DEV_READY) ## rewrite the Python files in the project's style
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

generate: $(DEV_READY) ## regenerate the files that are made from code (a test fails when a file is stale)
	@$(BIN)/python docs/configuration.py
	@$(BIN)/python docs/licences.py
	@$(BIN)/python -m dashboards build
	@$(BIN)/python charts/generate.py

bench: $(VENV)/bench-ready ## compare the speed with alternatives: 30 minutes (QUICK=1: 5 minutes; ONLY=learner: one benchmark)
	@size=$(if $(QUICK),quick,full) failed=; \
	  for question in $(or $(ONLY),learner pipeline latency growth); do \
	    $(BIN)/python bench/$$question.py --size $$size || failed="$$failed $$question"; done; \
	  $(BIN)/python bench/report.py --size $$size || failed="$$failed report"; \
	  [ -z "$$failed" ] || { echo "FAILED:$$failed" >&2; exit 1; }

lock: $(DEV_READY) ## regenerate the requirements.txt files with hashes from pyproject.toml
	@$(LOCK) --group pyproject.toml:dev -o tests/requirements.txt
	@for part in demo spark-apps producer kibana; do \
	  $(LOCK) --group pyproject.toml:$$part -c tests/requirements.txt -o $$part/requirements.txt; done
	@$(LOCK:3.10=3.11) --group pyproject.toml:bench -c tests/requirements.txt -o bench/requirements.txt

clean: ## remove the files that the targets created here (downloads stay in the cache folder)
	rm -rf $(VENV) .local .pytest-kind .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage

.PHONY: help
help:
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ Set-up (the targets above run it when needed)
.PHONY: setup
setup: $(READY) ## create the Python environment in .venv, with an archive of Spark's classes for a quick start

$(READY): demo/requirements.txt demo/setup.sh demo/install.py spark-apps/archive.py
	@PYTHON=$(PYTHON) bash demo/setup.sh $(VENV)

$(DEV_READY): tests/requirements.txt $(READY)
	@echo "adding the packages of the tests and linters to $(VENV) (150 MB to download; once)"
	@$(BIN)/python demo/install.py $<
	@touch $@

$(VENV)/bench-ready: bench/requirements.txt $(DEV_READY)
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "make bench needs Python 3.11 or newer: rm -r $(VENV), then make bench PYTHON=/path/to/python3.11" >&2; exit 2; }
	@echo "installing the programs to compare with into $(VENV): scikit-learn, River, Vowpal Wabbit (100 MB; once)"
	@$(BIN)/python demo/install.py $<
	@touch $@
