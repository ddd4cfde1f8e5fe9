# Everything a developer or CI types. Needs Python >= 3.11 with pip and venv, and make; nothing else.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
UV = $(PY) -m uv pip compile
# Twice the cores of a small machine. Tests wait on real processes: with three workers a fifth of two cores was idle.
TEST_WORKERS ?= 4
PYTEST = $(PY) -m pytest -n $(TEST_WORKERS) --dist loadgroup
# How many times `make test-steady` runs the tests.
RUNS ?= 10
# How long a soak takes, in seconds.
DURATION ?= 600

.PHONY: help run try demo manage test test-all test-clients test-steady bench bench-publish bench-propagation bench-usage bench-dashboard bench-bystander bench-neighbours bench-limits soak screenshots check check-web format lock openapi release-check clean

help: ## List these targets; ARGS="…" goes on to what they run
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -e 's/:[^#]*## /\t/' | expand -t 20

# A virtual environment whose Python does not run (any more) is made again.
ifneq ($(shell $(PY) -c 'print("runs")' 2> /dev/null),runs)
.PHONY: $(VENV)/.local $(VENV)/.dev
endif

# One marker per list, so that `make run` does not wait for the test tools. The check is a line that every Python reads.
$(VENV)/.local $(VENV)/.dev: $(VENV)/.%: requirements/%.txt requirements/installer.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null || { \
	  echo "This needs Python 3.11 or newer, and $(PYTHON) is: $$($(PYTHON) --version 2>&1 | head -n 1)" >&2; \
	  for found in python3.14 python3.13 python3.12 python3.11; do \
	    if $$found -c '' 2> /dev/null; then echo "This machine has another one: make $(MAKECMDGOALS) PYTHON=$$found" >&2; exit 1; fi; \
	  done; \
	  echo "Install one, and name it: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) requirements/install.py $* $(VENV)
	@touch $@ $(VENV)/.local

# Clients of other people, for the tests. Their packages want other versions beside them than the project's.
$(VENV)/.clients: requirements/clients.txt $(VENV)/.dev
	@$(PYTHON) requirements/install.py clients $(VENV)/clients
	@touch $@

run: $(VENV)/.local ## Start everything: control plane, data plane, relay, Celery, and servers where none are given
	@exec $(PY) -m local.run $(ARGS)

try: $(VENV)/.local ## The same, and a stand-in upstream that answers in place of OpenAI: no key is needed
	@exec $(PY) -m local.run --stand-in $(ARGS)

demo: $(VENV)/.local ## Walk from a provider key to a routed request against a stand-in upstream
	@exec $(PY) -m local.demo

manage: $(VENV)/.local ## A management command on what `make run` runs: make manage ARGS="grant_credits ac_… 5000"
	@$(PY) -m local.manage $(ARGS)

test: $(VENV)/.dev $(VENV)/.clients ## Every promise with small numbers, on real PostgreSQL and Redis of their own
	$(PYTEST) $(ARGS)

test-all: $(VENV)/.dev $(VENV)/.clients ## The same tests with full numbers, and every test that only makes sense with them
	$(PYTEST) --full $(ARGS)

test-clients: $(VENV)/.dev ## Packages and command lines for Node as clients of a worker; needs npm, and 900 MB of disk
	@cd tests/clients/node && { test node_modules/.package-lock.json -nt package-lock.json || \
	  npm ci --no-audit --no-fund --silent --ignore-scripts; }
	$(PY) -m pytest tests/clients/node $(ARGS)

test-steady: $(VENV)/.dev $(VENV)/.clients ## RUNS=10 runs of `make test`, every second one beside a load of 8
	$(PY) -m tests.repeated --runs $(RUNS) -- $(PYTEST) -q $(ARGS)

bench: $(VENV)/.dev ## Measure the worker beside a bare pass-through; needs wrk
	$(PY) -m benchmarks.data_plane $(ARGS)

bench-publish: $(VENV)/.dev ## Time a rotate in a small and a large account, and a rebuild of a million access keys
	$(PY) -m benchmarks.publication $(ARGS)

bench-propagation: $(VENV)/.dev ## Delete 1,000 access keys under traffic, print how soon each worker knows
	$(PY) -m benchmarks.propagation $(ARGS)

bench-usage: $(VENV)/.dev ## Load 10 million usage events, print how fast usage is written and read
	$(PY) -m benchmarks.usage $(ARGS)

bench-bystander: $(VENV)/.dev ## Search for the costliest bodies for ten minutes, print what another access key waits beside them
	$(PY) -m benchmarks.bystander $(ARGS)

bench-neighbours: $(VENV)/.dev ## Print what an access key waits beside dead name servers, endless answers and callers who hang up
	$(PY) -m benchmarks.neighbours $(ARGS)

bench-limits: $(VENV)/.dev ## Measure what limits cost a worker, and how often it asks Redis; needs wrk
	$(PY) -m benchmarks.limits $(ARGS)

soak: $(VENV)/.dev ## Writes, callers and faults at once, for DURATION seconds; fails on a broken promise
	LIMIT_HISTORIES=10000 $(PY) -m pytest -q tests/gateway_core/test_limit_simulation.py
	$(PY) -m benchmarks.soak --seconds $(DURATION) $(ARGS)

bench-dashboard: $(VENV)/.dev ## Time every page of the dashboard in an account of 100,000 access keys
	$(PY) -m benchmarks.dashboard $(ARGS)

screenshots: $(VENV)/.dev ## Take the pictures in docs/screenshots anew (needs chromium)
	SCREENSHOTS=$(CURDIR)/docs/screenshots $(PY) -m pytest --full tests/browser/test_screenshots.py $(ARGS)

check: $(VENV)/.dev ## Format, lint, types, layers, migrations, OpenAPI
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy .
	$(PY) -c 'from importlinter.cli import lint_imports_command; lint_imports_command()'
	$(PY) manage.py makemigrations --check --dry-run
	$(PY) manage.py spectacular --file $(VENV)/openapi.yaml --validate --fail-on-warn
	diff -u openapi.yaml $(VENV)/openapi.yaml || { echo 'openapi.yaml is not what the code says: make openapi'; exit 1; }
	$(PY) -m djlint --lint --quiet dashboard/templates
	@$(MAKE) --no-print-directory check-web

# The tools of node are no part of what runs, and not every machine has node.
check-web: ## Format and lint of JavaScript and CSS, where there is a node; ARGS=--write mends
	@command -v npm > /dev/null || { echo "There is no npm: JavaScript and CSS are not checked."; exit 0; }; \
	  { test node_modules/.package-lock.json -nt package-lock.json || npm ci --no-audit --no-fund --silent; } && \
	  node_modules/.bin/biome check --error-on-warnings $(ARGS)

format: $(VENV)/.dev ## Format and apply the safe lint fixes
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

# dev.in holds all of the others but clients.in, so that one version of a package is chosen for all lists.
lock: $(VENV)/.dev ## Resolve requirements/*.in again into requirements/*.txt
	for list in dev clients local control-plane data-plane installer; do $(UV) --quiet --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --custom-compile-command "make lock" \
	  $$(test $$list = dev -o $$list = clients || echo --constraint requirements/dev.txt) requirements/$$list.in -o requirements/$$list.txt || exit 1; done
	for platform in x86_64-manylinux_2_28 aarch64-manylinux_2_28 aarch64-apple-darwin; do \
	  for version in 3.11 3.12 3.13 3.14; do echo "Wheels for $$platform, Python $$version"; \
	    $(UV) --quiet --no-deps --only-binary :all: --python-platform $$platform --python-version $$version \
	      requirements/local.txt > /dev/null || exit 1; done; done

openapi: $(VENV)/.dev ## Write the committed OpenAPI document anew
	$(PY) manage.py spectacular --file openapi.yaml --validate --fail-on-warn

release-check: $(VENV)/.dev ## Compare the version, the changelog and the tags
	$(PY) -m tools.release_check

clean: ## Remove the virtual environment and caches (never var/, which holds your data)
	rm -rf $(VENV) node_modules tests/clients/node/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis
