# What a newcomer needs: Python >= 3.11 with venv and headers, gcc, make. Everything else comes from PyPI into .venv.
#
#   make run      build, then run every case under every regime and print the table
#   make test     every check: lint, types, tests
#   make lint     ruff and mypy only
#   make format   rewrite Python and C in the house's layout
#   make bench    measure the figures that the README quotes
#   make agent    build ./stress-agent, the core as a program of its own; for another ISA with its CC
#   make clean    remove what was built, .venv too
#
# PYTHON chooses the interpreter of a new .venv: make run PYTHON=python3.13

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
PYTEST_FLAGS ?= -n auto --dist loadgroup

# Named here because scikit-build-core otherwise asks for the compiler that Python was built with.
ifeq ($(origin CC),default)
CC := $(shell command -v cc || command -v gcc || command -v clang || echo cc)
endif
export CC

# The install is editable. Python and case files are then read from the checkout, so only the C sources and
# the metadata make a new install necessary; and `python -m stress` or `python -m pytest` in this folder finds the
# compiled module, where a plain install would be shadowed by ./stress, which has none. pip builds in isolation, so
# that CMake and Ninja come from PyPI where the system has none or too old ones; that build environment is gone
# afterwards, hence no rebuild on import: `make` is the rebuild.
# The stamps' names hold the checkout's path: a tree that was moved or copied with its .venv installs itself anew.
HERE := $(subst /,-,$(CURDIR))
FOR_RUN := $(VENV)/run$(HERE)
FOR_TEST := $(VENV)/test$(HERE)
SOURCES := pyproject.toml stress/__init__.py $(shell find native)

.PHONY: run test lint format bench agent clean
.DELETE_ON_ERROR:
.NOTPARALLEL:

run: $(FOR_RUN)
	@$(PY) -m stress run --cases all

test: lint
	$(PY) -m pytest $(PYTEST_FLAGS)

lint: $(FOR_TEST)
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy

format: $(FOR_TEST)
	$(PY) -m ruff check --fix
	$(PY) -m ruff format
	$(VENV)/bin/clang-format -i $(wildcard native/*.[ch] native/agent/*.[ch] native/arch/*.h native/arch/*/*.[ch])

bench: $(FOR_RUN)
	@$(PY) -m benchmarks.run

agent: $(FOR_RUN)
	@$(PY) -m stress agent -o stress-agent

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# pip's talk is kept in a file and shown only where it fails.
$(FOR_TEST): EXTRAS := [test,dev]
$(FOR_RUN) $(FOR_TEST): $(SOURCES) | $(PY)
	@echo "building stress and installing it into $(VENV)" >&2
	@$(PY) -m pip install -e '.$(EXTRAS)' >$(VENV)/install.log 2>&1 || \
		{ cat $(VENV)/install.log; echo "stress could not be built or installed: see above" >&2; exit 1; }
	@touch $(FOR_RUN) $@

# Tell what is missing in one line, before pip tells it in a hundred.
define PREFLIGHT
import os, shutil, sys
if sys.version_info < (3, 11):
    sys.exit("stress needs Python 3.11 or newer, this is %d.%d; try: make PYTHON=python3.12" % sys.version_info[:2])
try:
    import ensurepip, venv
except ImportError:
    sys.exit("this Python has no venv module; on Debian: apt install python3-venv")
import sysconfig
if not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")):
    sys.exit("this Python has no header files; on Debian: apt install python3-dev")
if not shutil.which(os.environ["CC"].split()[0]):
    sys.exit("no C compiler %s; on Debian: apt install gcc libc6-dev" % os.environ["CC"])
endef
export PREFLIGHT

$(PY):
	@command -v $(PYTHON) >/dev/null || { echo "no $(PYTHON) here; stress needs Python 3.11 or newer" >&2; exit 1; }
	@$(PYTHON) -c "$$PREFLIGHT"
	@$(PYTHON) -m venv --clear $(VENV)
