# Everything a person types here. `make` alone lists it.

# Seconds since 1970 at which make began: `make up` tells how long it took to the first line of a job.
SWITCHYARD_UP_SINCE := $(shell date +%s.%N)
export SWITCHYARD_UP_SINCE

# Any working Python 3.11: a name on PATH (also a pyenv shim) or a path.
PYTHON ?= python3.11
BIN := .venv/bin
# The type checker imports Django's settings, which want addresses; nothing is connected to.
FOR_TYPES := DATABASE_URL=postgresql:///none REDIS_URL=redis://127.0.0.1 \
             SWITCHYARD_SECRET_KEY=only-for-the-type-checker-0000000000000
# More arguments: make up ARGS="--port 9000", make test ARGS="-k cancel", make bench ARGS="--quick latency"
ARGS ?=

LOCK := $(BIN)/uv pip compile --universal --generate-hashes --python-version 3.11 --upgrade \
        --no-emit-index-url --no-emit-find-links --quiet

.DEFAULT_GOAL := help
.PHONY: help install up test e2e-rabbitmq soak lint types ci lock isolation-table bench clean
.SILENT:

help: ## list what can be made
	awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: ## make .venv and install the locked packages; instant when nothing changed
	python=$$(for name in $(PYTHON) python3.11 python3 /usr/local/bin/python3.11 /usr/bin/python3.11; do \
	    "$$name" -I -c 'import sys; sys.version_info[:2] == (3, 11) or sys.exit(1)' 2>/dev/null \
	        && { echo "$$name"; break; }; done); \
	[ -n "$$python" ] || { echo "switchyard: Python 3.11 is needed; name one with make PYTHON=/path/to/python3.11" >&2; exit 1; }; \
	exec "$$python" -I platform/ops/install.py

up: install ## install, start the whole platform, run the welcome job, serve until Ctrl-C
	exec $(BIN)/python manage.py up $(ARGS)

test: install ## install, then run the whole test suite, the fast tests first
	exec $(BIN)/python -m tests.stages $(ARGS)

e2e-rabbitmq: install ## run the end-to-end tests with RabbitMQ as the broker
	exec $(BIN)/python -m tests.e2e.rabbitmq $(ARGS)

soak: install ## random work under random faults for SOAK_MINUTES (3), then the judge; SOAK_SEED repeats
	exec $(BIN)/python -m tests.chaos.soak

lint: install ## style, and who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: install ## check all types
	$(FOR_TYPES) $(BIN)/mypy

ci: lint types test ## what continuous integration runs

lock: install ## resolve pyproject.toml anew into requirements.txt, and what the benchmarks compare with
	$(LOCK) --extra server --extra dev pyproject.toml -o requirements.txt
	$(LOCK) bench/requirements.in -o bench/requirements.txt

isolation-table: install ## measure docs/isolation.md anew; needs root and Linux 6.12
	exec $(BIN)/python -m tests.security.table

bench: install ## run the benchmarks beside other systems, and write bench/RESULTS.md
	exec $(BIN)/python -m bench $(ARGS)

clean: ## remove the environment and all caches; the state folder stays
	rm -rf .venv .venv-bench .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build test-results
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
