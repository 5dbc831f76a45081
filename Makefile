PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# setuptools warns each new user of the mode below, at length.
PIP := PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --disable-pip-version-check
# Without this mode a clone named layerdex hides the package from its parent folder.
EDITABLE := --config-settings editable_mode=compat -e

.PHONY: demo test check bench figures soak clean

demo: $(VENV)/.user  ## install, and run the whole tour on the docstrings of Python's standard library
	$(BIN)/layerdex demo

test: check  ## lint, types and the whole test-suite, a process a core
	$(BIN)/pytest -n auto --dist loadfile

check: $(VENV)/.dev  ## lint, format and strict types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.bench  ## measure; results go to benchmarks/results
	$(BIN)/python -m benchmarks.encode
	$(BIN)/python -m benchmarks.search
	$(BIN)/python -m benchmarks.memory
	$(BIN)/python -m benchmarks.durability
	$(BIN)/python -m benchmarks.small_adds --n 1000

# Where given sets lie, such as `make figures BANKING77=folder`; without, theirs stay as they are.
GIVEN := $(and $(BANKING77),--banking77 $(BANKING77)) $(and $(SMS_SPAM),--sms-spam $(SMS_SPAM)) \
  $(and $(SCIFACT),--scifact $(SCIFACT))

figures: $(VENV)/.dev  ## draw the pictures of docs/layers.md
	$(BIN)/python -m benchmarks.figures $(GIVEN)

soak: $(VENV)/.dev  ## kill writers a thousand times, cut the power, try 5,000 sequences, fuzz: hours
	$(BIN)/pytest tests/storage/test_crash.py --kills 1000
	$(BIN)/pytest tests/storage/test_power_loss.py tests/storage/test_crowd.py \
	  tests/index/test_sequences.py --sequences 5000
	$(BIN)/pytest --soak tests/storage/test_hostile.py tests/search/test_hostile_filters.py
	$(BIN)/python -m tests.fuzz.run --seconds 600

clean:  ## remove the environment and caches
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade -c constraints.txt pip

$(VENV)/.user: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) -c constraints.txt $(EDITABLE) '.[cpu,minilm,openvino]'
	touch $@

$(VENV)/.dev: $(VENV)/.user
	$(PIP) -c constraints.txt $(EDITABLE) '.[cpu,minilm,openvino,tune,dev]'
	touch $@

$(VENV)/.bench: $(VENV)/.dev
	$(PIP) -c constraints.txt $(EDITABLE) '.[cpu,minilm,openvino,tune,dev,bench]'
	touch $@
