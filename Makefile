# Everything runs in .venv; a stamp makes each step happen once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
TESTED := $(VENV)/.test-installed

PLANS := week01 week02 week03 week12 four_weeks twelve_weeks finetune

.PHONY: install $(PLANS) test check lint pictures bench clean

install: $(INSTALLED)

$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv $(VENV) || { echo "python3-venv is missing: sudo apt-get install -y python3-venv"; exit 1; }
	$(BIN)/python -m pip install --progress-bar on --disable-pip-version-check -e .
	@$(BIN)/python -m compileall -q runner tasks
	@touch $@
	@echo "installed; now: $(BIN)/run --help"

$(TESTED): $(INSTALLED)
	$(BIN)/python -m pip install --disable-pip-version-check -q -e '.[test]'
	@touch $@

# 3: all that can run here has run; what is blocked is named with its remedy
$(PLANS): $(INSTALLED)
	$(BIN)/run setup plan=$@
	$(BIN)/run plan=$@ || [ $$? -eq 3 ]

test: $(TESTED)
	$(BIN)/run setup
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: $(TESTED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/run lint
	$(BIN)/python -m pytest -q -m "not slow"

lint: $(INSTALLED)
	$(BIN)/run lint

pictures: $(INSTALLED)
	$(BIN)/python docs/pictures.py

bench: $(TESTED)
	$(BIN)/python -m tests.benchmarks

clean:
	rm -rf $(VENV)
