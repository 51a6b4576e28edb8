# `make demo` transcribes a clip; `make test` runs every check; `make coverage` does, too, and measures which
# lines the tests run, which takes a third longer. All make .venv first.
# `make docs` builds the documentation as a site in build/site.
# `make agents` installs Pipecat and LiveKit Agents in an environment of their own and runs the tests with them.
# `make chromium` installs the browser in which the page is tested; without one those tests are skipped.
PYTHON ?= python3
VENV := .venv
AGENTS := .venv-agents
PIP := $(VENV)/bin/python -m pip install --quiet -c constraints.txt

.PHONY: demo test coverage docs agents chromium clean

demo: $(VENV)/installed
	$(VENV)/bin/auris transcribe examples/kitchen_fan.flac

test: $(VENV)/installed-dev
	scripts/check

coverage: $(VENV)/installed-dev
	scripts/check --cov --cov-report=term:skip-covered --cov-fail-under=95

docs: $(VENV)/installed-dev
	$(VENV)/bin/python scripts/build_docs

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml setup.py constraints.txt $(wildcard native/*) | $(VENV)/bin/python
	$(PIP) torch
	$(PIP) -e .
	@touch $@

# Most modules of these packages are never imported; Python compiles those that are.
$(VENV)/installed-dev: $(VENV)/installed
	$(PIP) --no-compile -e '.[dev]'
	@touch $@

agents: $(VENV)/installed-dev $(AGENTS)/installed
	AURIS_AGENTS_PYTHON=$(AGENTS)/bin/python $(VENV)/bin/python -m pytest tests/agents

$(AGENTS)/installed: examples/agents/requirements.txt
	$(PYTHON) -m venv $(AGENTS)
	$(AGENTS)/bin/python -m pip install --quiet -r $<
	@touch $@

# A browser that is at hand already is used, too: by name on PATH, or by AURIS_CHROMIUM.
chromium:
	$(if $(filter 0,$(shell id -u)),,sudo) apt-get update -qq
	$(if $(filter 0,$(shell id -u)),,sudo) apt-get install -y -qq --no-install-recommends chromium

clean:
	rm -rf $(VENV) $(AGENTS) build dist src/*.egg-info src/auris/_native* .coverage* .pytest_cache .mypy_cache .ruff_cache
