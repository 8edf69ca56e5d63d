# `make help` lists the targets. Each one does its own set-up.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.ready
UV_VERSION := 0.13.9
MONITORING ?= 0
# One spinning thread per waiting core makes small training steps several times slower.
export OMP_WAIT_POLICY := passive
# Without compiled modules every process that loads torch takes three times as long to start.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help
help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: setup  ## The product's main job, on a real cluster of its own (without one where none is possible)
	@$(PY) -m hack.demo

.PHONY: test
test: check  ## Proof in minutes: checks, unit tests, tests on a real cluster
	@$(PY) -m hack.tests all

.PHONY: test-all
test-all: check  ## Proof at length: what takes long first, faults among it, then the same as `test`
	@$(PY) -m hack.tests slow
	@$(PY) -m hack.tests all

.PHONY: setup
setup: $(STAMP)  ## Python environment in .venv with everything in it

$(STAMP): requirements/dev.lock pyproject.toml hack/stub_cuda.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "setup: Python 3.11 or newer is needed; name it with PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "setup: Python's venv module is missing; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@echo "setup: Python packages into $(VENV)"
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@$(VENV)/bin/uv pip sync --quiet --python $(PY) --require-hashes requirements/dev.lock
	@$(VENV)/bin/uv pip install --quiet --python $(PY) --no-deps --editable .
	@$(PY) hack/stub_cuda.py $$($(PY) -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
	@touch $@

.PHONY: check
check: setup  ## Lint, format, types, import rules, generated files
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-logo
	$(VENV)/bin/rumdl check --quiet --no-cache
	$(PY) -m finetuning.codegen --check

.PHONY: test-unit
test-unit: setup  ## Tests that need no cluster
	@$(PY) -m hack.tests unit

.PHONY: mutants
mutants: setup  ## Damaged runs against the validator: prints which check sees which fault
	MUTANTS=write OMP_NUM_THREADS=1 $(PY) -m pytest tests/mutants -q

# Forty packages that only this needs: on top of the environment, not in it.
EVAL := $(VENV)/eval
$(EVAL)/.ready: $(STAMP) requirements/eval.lock
	@echo "setup: lm-evaluation-harness into $(EVAL)"
	@test -x $(EVAL)/bin/python || $(PYTHON) -m venv --without-pip $(EVAL)
	@$(PY) -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
	  > "$$($(EVAL)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/below.pth"
	@$(VENV)/bin/pip --quiet --disable-pip-version-check --python $(EVAL)/bin/python install --no-deps --require-hashes --requirement requirements/eval.lock
	@touch $@

.PHONY: test-eval
test-eval: $(EVAL)/.ready  ## Benchmarks of the validation, by the real lm-evaluation-harness
	OMP_NUM_THREADS=1 $(EVAL)/bin/python -m pytest tests/benchmarks

# The site's generator, away from what it documents.
DOCS := $(VENV)/docs
$(DOCS)/.ready: $(STAMP) requirements/docs.lock
	@echo "setup: mkdocs into $(DOCS)"
	@test -x $(DOCS)/bin/python || $(PYTHON) -m venv --without-pip $(DOCS)
	@$(VENV)/bin/uv pip sync --quiet --python $(DOCS)/bin/python --require-hashes requirements/docs.lock
	@touch $@

# With --quiet there are no warnings, and nothing for --strict to stop at.
.PHONY: docs
docs: $(DOCS)/.ready  ## The documentation as a site, into site/; any warning is an error
	@NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/python -m mkdocs build --strict --clean

.PHONY: docs-serve
docs-serve: $(DOCS)/.ready  ## The same on http://127.0.0.1:8080, renewed when a page changes
	@NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/python -m mkdocs serve --strict --dev-addr 127.0.0.1:8080

.PHONY: test-site
test-site: docs  ## The site in a browser: links, width, light and dark, nothing from other hosts
	SITE=site $(PY) -m pytest tests/docs

.PHONY: test-docs
test-docs: test-site  ## The site, then the documented commands and examples that take too long for `make test`
	@$(PY) -m hack.tests documented

.PHONY: bench-validate
bench-validate: setup  ## Speed and memory of the validator on a model of 1 GB, and its parts on the demo's
	$(PY) -m bench.validate.integrity
	OMP_NUM_THREADS=1 $(PY) -m bench.validate.whole

.PHONY: bench-saving
bench-saving: setup  ## What a checkpoint costs the training, written beside it and in its way
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(PY) -m bench.train.saving

# torchtune above what .venv has: it wants an older torchao, which nothing else needs.
PEERS := $(VENV)/peers
$(PEERS)/.ready: $(STAMP) requirements/peers.lock
	@echo "setup: torchtune into $(PEERS)"
	@test -x $(PEERS)/bin/python || $(PYTHON) -m venv --without-pip $(PEERS)
	@$(PY) -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
	  > "$$($(PEERS)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/below.pth"
	@$(VENV)/bin/uv pip install --quiet --python $(PEERS)/bin/python --no-deps --require-hashes --requirement requirements/peers.lock
	@touch $@

.PHONY: bench-peers
bench-peers: $(PEERS)/.ready  ## torchtune in an environment of its own, for make bench-train

.PHONY: bench-train
bench-train: setup  ## Speed, start and memory of the trainer beside TRL, torchtune and a bare loop (a quarter of an hour); renews table and picture of the docs
	@$(MAKE) --no-print-directory bench-peers || { rm -rf $(PEERS); echo "bench-train: torchtune cannot be installed here, so it is left out"; }
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(PY) -m bench.train.speed

.PHONY: bench-data
bench-data: setup  ## Memory and time of a data set that stays on the disk, beside the same in memory
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(PY) -m bench.train.streaming

.PHONY: bench-sidecar
bench-sidecar: setup  ## What the metrics sidecar costs: start, scrapes, memory
	$(PY) -m bench.sidecar.cost

.PHONY: bench-operator
bench-operator: setup  ## The operator's speed and cost beside plain Jobs, on control planes of its own
	$(PY) -m bench.operator

.PHONY: bench-operator-gate
bench-operator-gate: setup  ## Its small form: fails where requests or processor time grew by a fifth (GATE=counted: requests)
	@$(PY) -m bench.operator --small --gate $(GATE)

.PHONY: test-cluster
test-cluster: setup  ## Tests on a real cluster; says so in one line where none is possible (RECORD=1: into docs/reliability.json)
	@$(if $(filter 1,$(RECORD)),PYTEST_ADDOPTS=--record-faults) $(PY) -m hack.tests cluster

.PHONY: test-long
test-long: setup  ## Tests without a cluster that take minutes: damaged runs, compiled layers, memory of 100M parameters, torchrun
	@$(PY) -m hack.tests long

.PHONY: test-faults
test-faults: setup  ## Faults against a control plane of their own: a crash after each write (minutes of CPU)
	@$(PY) -m hack.tests faults

CASES ?= 5000
.PHONY: fuzz
fuzz: setup  ## Other jobs drawn from the schema than the tests have (CASES=n), on a control plane of their own
	FUZZ=$(CASES) $(PY) -m pytest --timeout 0 -m "faults or not faults" tests/unit/api/test_any_job.py tests/faults/test_any_job_on_an_api_server.py

.PHONY: test-matrix
test-matrix: setup  ## The resource definition on three versions of Kubernetes (builds two API servers, once)
	@$(PY) -m tests.faults.matrix $(if $(filter 1,$(RECORD)),--record)

MINUTES ?= 60
.PHONY: soak
soak: setup  ## An hour (MINUTES=n) of random faults against a stream of jobs: what was lost or doubled, and the memory
	@$(PY) -m tests.faults.soak --minutes $(MINUTES) $(if $(filter 1,$(RECORD)),--record)

.PHONY: audit
audit: setup  ## Known vulnerabilities of the pinned packages, risky code, a list of what the images contain
	@bash hack/audit.sh

.PHONY: cluster-up
cluster-up: setup  ## Real Kubernetes: kind with Docker, processes on Linux as root (MONITORING=1 adds Prometheus)
	@$(PY) -m hack.cluster up $(if $(filter 1,$(MONITORING)),--monitoring)

.PHONY: cluster-down
cluster-down: setup  ## Remove the cluster and everything it left on the machine
	@$(PY) -m hack.cluster down

.PHONY: images
images: setup  ## Build both container images and load them into the cluster
	@$(PY) -m hack.cluster images

.PHONY: deploy
deploy: setup  ## Install or upgrade the operator in the cluster with Helm
	@$(PY) -m hack.deploy

.PHONY: generate
generate: setup  ## Rewrite every generated file
	$(PY) -m finetuning.codegen

.PHONY: format
format: setup  ## Format the code
	$(VENV)/bin/ruff format
	$(VENV)/bin/ruff check --fix

.PHONY: lock
lock: setup  ## Resolve the dependencies again
	bash hack/lock.sh

.PHONY: clean
clean:  ## Remove the Python environment and caches of this checkout (not the cluster)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist site
