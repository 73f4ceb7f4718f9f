# evokd-data. Needs Debian's python3 (3.11 or newer), make and gcc; everything else goes into .venv.
#
#   make setup                     install; a second call does nothing
#   make setup PYTHON=python3.12   with another interpreter
#   make setup PIP_TORCH="--extra-index-url URL"
#       further arguments for the one pip call that installs torch. PyPI's own torch works everywhere but brings
#       gigabytes of CUDA along; the URL of PyTorch's CPU builds spares a machine without a GPU from them.
#
# A machine with a GPU: pip install "evokd-data[vllm]" instead; see README.md.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help

PYTHON ?= python3
PIP_TORCH ?=
ARGS ?=
FULL ?=
# pip would compile all of 21,000 modules, on one core; the first import compiles the third that is used, and shows
# that it all works together.
INSTALL := .venv/bin/python -m pip --disable-pip-version-check -qq install --no-compile
FIRST_IMPORT := import logging; logging.disable(logging.WARNING); \
  import datasets, seqeval.metrics, transformers.models.bert.modeling_bert, \
  vllm.v1.engine.async_llm, vllm.v1.worker.cpu_worker, vllm.model_executor.models.llama
INSTALLED := .venv/installed
# Asks a service for known holes of the pinned versions. Without pip-audit or a network there is nothing to compare with, and
# the check says so; a hole that the service knows fails the check.
AUDIT := if ! .venv/bin/python -c 'import pip_audit' 2>/dev/null; \
  then echo 'check: pip-audit is not installed; dependencies were not audited' >&2; \
  elif ! report=$$(.venv/bin/python -m pip_audit --disable-pip --no-deps --timeout 8 -r requirements/cpu.txt 2>&1); then \
    if grep -qiE 'connection|timed out|resolv|proxy|unreachable' <<< "$$report"; \
    then echo 'check: no network; dependencies were not audited' >&2; else echo "$$report" >&2; exit 1; fi; fi

.PHONY: help setup quickstart test check docs site golden bench bench-gpu faults clients lock clean

help:  ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' Makefile | expand -t 20

setup: $(INSTALLED)  ## .venv with everything in it (2.7 GB)
	@:

$(INSTALLED): Makefile pyproject.toml $(wildcard requirements/*)
	@say() { echo "setup: $$*" >&2; }
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
	  { say "Python 3.11 or newer is needed, and '$(PYTHON)' is not; choose with: make setup PYTHON=python3.11"; exit 1; }
	$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null ||
	  { say '$(PYTHON) cannot make virtual environments; try: apt install python3-venv'; exit 1; }
	started=$$SECONDS
	[ -x .venv/bin/pip ] || $(PYTHON) -m venv --clear .venv
	say 'torch'
	# First, so that nothing else brings another build of it; the constraint keeps its few dependencies at our versions.
	$(INSTALL) -r requirements/torch.txt -c requirements/cpu.txt $(PIP_TORCH)
	say "$$(grep -c == requirements/cpu.txt) packages, vLLM among them"
	$(INSTALL) --no-deps --use-pep517 -r requirements/cpu.txt
	$(INSTALL) --no-deps --no-build-isolation -e .
	say 'first import'
	env -u PYTHONDONTWRITEBYTECODE VLLM_LOGGING_LEVEL=ERROR .venv/bin/python -W ignore -c '$(FIRST_IMPORT)'
	touch $@
	say "done in $$((SECONDS - started)) s, $$(du -sh .venv | cut -f1) in .venv"

quickstart: setup  ## the whole loop on this machine: teacher, student, five rounds, a local Hub
	@.venv/bin/python recipes/quickstart/quickstart.py $(ARGS)

TEST = .venv/bin/python -m pytest
test: setup  ## every test that needs no GPU; ARGS="-k name" for some, ARGS="-m vllm" for those of a marker
ifeq ($(ARGS),)
	@$(TEST) -m "not gpu and not live and not vllm and not ray" -n logical --maxprocesses 4 --dist loadfile --durations 20
	@$(TEST) -m "vllm and not ray and not gpu and not live" -n 2 --dist loadfile --durations 10
	@$(TEST) -m "ray and not gpu and not live" --durations 10  # its workers fill a machine by themselves
else
	@$(TEST) -m "not gpu and not live" $(ARGS)
endif

check: setup  ## format, lint, types, architecture, names, documentation; known holes of dependencies, where pip-audit is installed
	@.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/python -m pytest -q -m "not gpu" tests/test_architecture.py tests/test_imports.py tests/test_codebase.py tests/test_docs.py
	$(AUDIT)

docs: setup  ## writes the generated sections of the pages anew
	@.venv/bin/python -m tests.support.documentation

site: setup  ## the documentation as a site, in build/site; needs pip install -e .[docs]
	@NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs build --strict && echo 'build/site/index.html'

golden: setup  ## writes the files of tests/golden anew; read the difference before you commit it
	@UPDATE_GOLDEN=1 .venv/bin/python -m pytest -q -m "not gpu" -k golden tests/test_golden.py tests/reporting/test_dataset_card.py

bench: setup  ## what we cost beside the engine, and beside raw vLLM; FULL=--full for a million texts; build/bench.json
	@mkdir -p build
	.venv/bin/python bench/startup.py --json build/bench.json
	.venv/bin/python bench/overhead.py --profile --json build/bench.json $(FULL)
	.venv/bin/python bench/checksums.py --json build/bench.json
	.venv/bin/python bench/near_duplicates.py --json build/bench.json $(FULL)
	.venv/bin/python bench/feeding.py --json build/bench.json $(ARGS)
	.venv/bin/python bench/generate.py --json build/bench.json
	.venv/bin/python bench/server.py --json build/bench.json
	.venv/bin/python bench/server.py intents slots --apart --json build/bench.json
	.venv/bin/python bench/training.py --json build/bench.json
	.venv/bin/python bench/ray_scaling.py --json build/bench.json
	.venv/bin/python bench/ray_scaling.py --actors --streams 64 --processes 2 --seconds 30 --json build/bench.json
	.venv/bin/python bench/ray_scaling.py --actors --workers 512 --processes 16 --tokens 10 --seconds 120 --most 400000 --json build/bench.json
	.venv/bin/python bench/soft_labels.py --json build/bench.json
	.venv/bin/python bench/reload.py --json build/bench.json

bench-gpu:  ## the same and training on a GPU; needs pip install -e .[vllm,dev] in the PYTHON given
	@mkdir -p build
	$(PYTHON) bench/gpu.py --json build/bench.json $(ARGS)

faults: setup  ## kills, faults, altered files, hostile answers, strangers' repositories, kills of a real engine; build/faults.json
	@.venv/bin/python bench/faults.py --json build/faults.json $(ARGS)
	.venv/bin/python bench/engine_kills.py --json build/faults.json

clients: setup  ## which other clients read a published round; writes docs/clients.md
	@.venv/bin/python bench/clients.py $(ARGS)

lock: setup  ## requirements/cpu.txt, resolved anew
	@.venv/bin/python requirements/lock.py

clean:  ## removes .venv and caches; runs/ stays
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
	find evokd_data tests recipes bench -name __pycache__ -prune -exec rm -rf {} +
