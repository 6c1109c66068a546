# Tesseract. `make` alone lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NODE := node_modules/.package-lock.json
INSTALLED := $(VENV)/.installed
DEVELOP := $(VENV)/.develop
BENCH := $(VENV)/.bench
LOG := .install.log
COMPILE := -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate
.DEFAULT_GOAL := help
.PHONY: help demo test test-localstack fuzz simulate lint package bench lock clean
.NOTPARALLEL:

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | awk -F '\t' '{ printf "  make %-15s %s\n", $$1, $$2 }'

demo: $(INSTALLED) $(NODE) ## a year of weather through a stage deployed to this laptop, every number checked (KEEP=1: leave it up)
	@$(BIN)/python examples/demo.py

test: $(DEVELOP) $(NODE) lint ## lint, then every test, the end-to-end one on a fresh laptop cloud among them
	@$(BIN)/python -m tests.support.dynamodb_local
	@echo "tests:"
	@$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

test-localstack: $(DEVELOP) ## the contract and integration suites against LocalStack (AWS_ENDPOINT_URL=… pytest: against any other)
	@$(BIN)/python -m tests.support.localstack $(VENV)/localstack $(ARGS)

fuzz: $(DEVELOP) ## requests of every kind through ingestion, in pieces that are not run twice (BODIES=100000)
	@$(BIN)/python -m tests.support.fuzz $(or $(BODIES),100000)

simulate: $(DEVELOP) ## the real code under crashes, stalls and races, against an oracle, in pieces (SEEDS=100000, SEEDS=7..8 replays one)
	@PYTHONHASHSEED=0 $(BIN)/python -m tests.simulation $(or $(SEEDS),1000) $(if $(THEME),--theme=$(THEME)) $(if $(MUTATION),--mutation=$(MUTATION))

lint: $(DEVELOP) ## ruff, mypy --strict, the import contracts
	@echo "lint: ruff, mypy, import-linter"
	@$(BIN)/ruff check -q . && $(BIN)/ruff format -q --check . && $(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports >$(LOG) || { cat $(LOG); exit 1; }

package: $(DEVELOP) $(NODE) ## what would be deployed to AWS: packaged without credentials, measured, and linted by cfn-lint
	@$(BIN)/python -m tests.support.package

bench: $(BENCH) ## the benchmarks, or a part of them: make bench ONLY=ingest
	@$(BIN)/python -m benchmarks $(ONLY)

lock: $(DEVELOP) ## make the lock files anew from pyproject.toml, with the newest versions that it allows
	@$(BIN)/uv pip compile pyproject.toml --extra local --group dev $(COMPILE) -o requirements-dev.lock --upgrade
	@grep -oE '^[A-Za-z0-9._-]+==[^ ;]+' requirements-dev.lock >$(VENV)/versions.txt
	@$(BIN)/uv pip compile pyproject.toml --extra local $(COMPILE) -o requirements.lock --upgrade -c $(VENV)/versions.txt
	@$(BIN)/uv pip compile pyproject.toml --extra local --group dev --group bench $(COMPILE) -o requirements-bench.lock -c requirements-dev.lock
	@$(BIN)/uv pip compile --group localstack $(COMPILE) -o requirements-localstack.lock --upgrade

clean: ## remove what make has made
	rm -rf $(VENV) node_modules .serverless .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .fuzz .simulate $(LOG)

$(INSTALLED): requirements.lock pyproject.toml
	@echo "install: Python packages into $(VENV), each checked against its hash"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements.lock >$(LOG) 2>&1 \
		&& $(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e . >>$(LOG) 2>&1 \
		|| { tail -20 $(LOG); exit 1; }
	@touch $@

$(DEVELOP): requirements-dev.lock $(INSTALLED)
	@echo "install: what tests, lint and packaging need besides"
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements-dev.lock >$(LOG) 2>&1 \
		|| { tail -20 $(LOG); exit 1; }
	@touch $@

$(BENCH): requirements-bench.lock $(DEVELOP)
	@echo "install: the peers of the benchmarks"
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements-bench.lock >$(LOG) 2>&1 \
		|| { tail -20 $(LOG); exit 1; }
	@touch $@

$(NODE): package-lock.json
	@echo "install: npm packages into node_modules"
	@npm ci --silent >$(LOG) 2>&1 || { cat $(LOG); exit 1; }
	@touch $@
