# make lab        install, fetch the base model and the texts, open chapter 00 (NO_BROWSER=1 on a server)
# make run        execute every chapter without a browser and print the time of each, then the page of instruments
# make test       lint, then every test, the fast ones also as on a processor without fast bfloat16
# make test-lowest   the fast tests with the lowest versions that pyproject.toml allows
# make notebooks  build the chapters from notebooks/source
#
# Each target makes its own .venv when there is none and installs again only when pyproject.toml or
# constraints.txt changed.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
LOWEST := .venv-lowest

# The first Python on the path that the package supports (make PYTHON=... chooses another).
CANDIDATES := python3 python3.13 python3.12 python3.11
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))
PYTHON ?= $(firstword $(foreach name,$(CANDIDATES),$(shell $(name) -c '$(SUPPORTED)' 2>/dev/null && echo $(name))))

AS_ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)
FIRST := 00_one_model_many_jobs.ipynb
JUPYTER_OPTIONS := --ip=127.0.0.1 $(if $(NO_BROWSER),--no-browser) $(AS_ROOT) --LabApp.default_url=/lab/tree/$(FIRST)

.DEFAULT_GOAL := help
.PHONY: help lab run test test-lowest notebooks model chromium clean

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "No Python 3.11, 3.12 or 3.13 found: install one, then type make again."; exit 1; }
	@$(PYTHON) -c "import ensurepip" 2>/dev/null \
	    || { echo "$(PYTHON) cannot make a venv: install its venv package (Debian: apt-get install python3-venv)."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(STAMP): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install -c constraints.txt -e ".[test,course]"
	@mkdir -p $(VENV)/share/jupyter/lab/settings && cp tools/overrides.json $(VENV)/share/jupyter/lab/settings/
	@touch $@

model: $(STAMP)
	$(BIN)/softprompt-lab fetch all

lab: model
	$(BIN)/jupyter lab $(JUPYTER_OPTIONS) notebooks/$(FIRST)

run: model
	$(BIN)/python tools/notebooks.py run
	$(BIN)/jupyter execute notebooks/every_instrument.ipynb

notebooks: model
	$(BIN)/python tools/notebooks.py build

# Tests share the cores, one thread each; those on smollm2 follow alone, with all of them. The second time matrices are
# multiplied with the instructions of an older processor: what passes on one machine must pass on another.
FAST := -m pytest -n 2 -m "not slow and not browser and not smollm2"
SLOW := -m pytest -n 2 --dist loadgroup -m "(slow or browser) and not smollm2"
test test-lowest: export PYTHONDONTWRITEBYTECODE =# they start many processes, which need not compile the same anew
test: model chromium
	$(BIN)/ruff check .
	OMP_NUM_THREADS=1 $(BIN)/python $(FAST)
	OMP_NUM_THREADS=1 ONEDNN_MAX_CPU_ISA=AVX2 $(BIN)/python $(FAST)
	OMP_NUM_THREADS=1 $(BIN)/python $(SLOW)
	$(BIN)/python -m pytest -m smollm2

# uv finds the lowest versions, and pip installs them, since it takes torch's build for the CPU where there is one: the
# versions are constraints, so that CUDA libraries which only other builds of torch need are left out.
$(LOWEST)/.installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "No Python 3.11, 3.12 or 3.13 found: install one, then type make again."; exit 1; }
	$(PYTHON) -m venv --clear $(LOWEST)
	$(LOWEST)/bin/python -m pip install "uv>=0.9,<1"
	grep "^torch==" constraints.txt > $(LOWEST)/torch.txt
	$(LOWEST)/bin/uv pip compile --quiet --resolution lowest-direct --extra test --extra course pyproject.toml \
	    --python $(LOWEST)/bin/python --constraints $(LOWEST)/torch.txt --output-file $(LOWEST)/versions.txt
	$(LOWEST)/bin/python -m pip install -c $(LOWEST)/versions.txt -e ".[test,course]"
	@touch $@

test-lowest: $(LOWEST)/.installed
	OMP_NUM_THREADS=1 $(LOWEST)/bin/python $(FAST)

# Debian's browser, for the tests marked `browser`.
chromium:
	@if command -v chromium >/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends chromium fonts-dejavu-core; \
	else echo "No chromium here: the tests that open a browser are skipped (Debian: apt-get install chromium)."; fi

clean:
	rm -rf $(VENV) $(LOWEST) *.egg-info .pytest_cache .ruff_cache .hypothesis
