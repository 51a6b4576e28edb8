# `make demo` transcribes a clip; `make test` runs every check. Both make .venv first.
PYTHON ?= python3
VENV := .venv
PIP := $(VENV)/bin/python -m pip install --quiet -c constraints.txt

.PHONY: demo test clean

demo: $(VENV)/installed
	$(VENV)/bin/auris transcribe examples/kitchen_fan.flac

test: $(VENV)/installed-dev
	scripts/check

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml setup.py constraints.txt $(wildcard native/*) | $(VENV)/bin/python
	$(PIP) torch
	$(PIP) -e .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(PIP) -e '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) build dist src/*.egg-info src/auris/_native* .coverage* .pytest_cache .mypy_cache .ruff_cache
