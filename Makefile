# `make demo` and `make test` do all set-up themselves. PYTHON chooses the interpreter (3.9 to 3.12).
PYTHON ?= $(shell for p in python3.11 python3.12 python3.10 python3.9 python3 python; do \
	$$p -c 'import sys, venv, ensurepip; raise SystemExit(not (3, 9) <= sys.version_info < (3, 13))' 2>/dev/null \
	&& echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test lint check check-quick coverage mutants ascend-check matrix docs dist install clean

install: $(STAMP)

# The stamp is newer than what decides about the installation, so a changed dependency installs again.
$(STAMP): pyproject.toml requirements.txt setup.py
	@test -n "$(PYTHON)" || { echo "No Python 3.9 to 3.12 with venv found; set PYTHON=/path/to/python." >&2; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/python -m examples.privacy.diff_privacy.demo

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

# one thread a worker: MindSpore's threads wait actively and would take each other's cores
PYTEST := OMP_NUM_THREADS=1 PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/python -m pytest --dist loadfile --no-loadscope-reorder --durations=20

test: lint check

# everything in one run: the long trainings and jobs of several processes fill the gaps of the short tests
check: $(STAMP)
	$(PYTEST) -n 2

# wheel and source archive of one commit, the same bytes each time; the wheel is then tried in an environment of its own
dist: $(STAMP)
	$(BIN)/python -m tools.dist

# the documentation as a site in outputs/docs: API from the docstrings, search; a warning or a broken link is an error
docs: $(STAMP)
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs outputs/docs
	@echo "open outputs/docs/index.html"

# without trainings, kills and jobs of several processes
check-quick: $(STAMP)
	$(PYTEST) -n 2 -m "not slow"

# which lines of the packages that carry the guarantees no test reaches
coverage: $(STAMP)
	$(PYTEST) -n 2 --cov=mindarmour --cov-report=term-missing:skip-covered --cov-report=json:.coverage.json

# plants the bugs of tools/mutants/planted.json one by one and runs the tests that should notice; goes on where it ended
mutants: $(STAMP)
	$(BIN)/python -m tools.mutants

# compiles everything for Ascend chips that are not there, and makes docs/ascend.md; needs g++ and binutils
ascend-check: $(STAMP)
	$(BIN)/python -m tools.ascend_dry_run --json outputs/ascend_verdicts.json
	$(BIN)/python -m tools.ascend_report --verdicts outputs/ascend_verdicts.json

# quick tests and the demo with MindSpore 2.7.2 to 2.10, each in its own environment: about ten minutes a version
matrix: $(STAMP)
	$(BIN)/python -m tools.matrix

clean:
	rm -rf $(VENV)
