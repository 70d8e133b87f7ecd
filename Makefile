# The two commands of the README, from a fresh clone with Python and pip alone: make demo, make test. And make bench.
# PYTHON chooses the interpreter that makes .venv (3.11 or newer); ARGS goes to the command that is run.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=

PY := $(VENV)/bin/python
PINS := pyproject.toml constraints.txt
DEMO := -c constraints.txt -e ".[all]"
DATA := --no-deps -r examples/requirements.txt
TEST := -c constraints.txt -e ".[all,test]"
DEV := -c constraints.txt -e ".[all,test,dev]"

export UV_HTTP_TIMEOUT ?= 300
# The interpreter's environment variable that forbids .pyc files makes every later start two to three times slower.
unexport PYTHONDONTWRITEBYTECODE
# An active environment is not ours.
unexport VIRTUAL_ENV

.PHONY: help demo test bench lint clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    set up $(VENV) and run the main job: text, image and audio, from weights to a torch-free bundle"
	@echo "make test    set up $(VENV) and run the tests"
	@echo "make bench   set up $(VENV) and measure the speed beside what one would use instead, on the CPU"
	@echo "make lint    ruff, mypy --strict and import-linter"
	@echo "make clean   remove $(VENV), caches and what the demo wrote"
	@echo
	@echo "PYTHON=python3.12 chooses the interpreter; ARGS=\"--quick\" goes to the main job, ARGS=\"-k text\" to pytest."

demo: $(VENV)/.installed-demo
	$(PY) examples/main_job.py $(ARGS)

test: $(VENV)/.installed-test
	$(PY) -m pytest -n 2 --dist worksteal $(ARGS)

bench: $(VENV)/.installed-demo
	$(PY) -m benchmarks cpu $(ARGS)

lint: $(VENV)/.installed-dev
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(VENV)/bin/lint-imports

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis demo-output

# $(call install,ARGUMENTS): with uv, which is several times quicker, or with pip where uv can't be had or fails.
define install
	@if $(PY) -m uv --version >/dev/null 2>&1 || $(PY) -m pip install --quiet uv; then \
		echo '+ uv pip install $(1)'; \
		$(PY) -m uv pip install --python $(PY) --compile-bytecode $(1); \
	else false; fi || { \
		echo "uv could not install it; trying pip."; \
		echo '+ pip install $(1)'; \
		$(PY) -m pip install $(1); \
	}
endef

$(PY):
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || \
		{ echo "polyzoo needs Python 3.11 or newer; $(PYTHON) is not. Say which: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@echo "+ $(PYTHON) -m venv $(VENV)"
	@$(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo "$(PYTHON) can't make environments; on Debian: apt install python3-venv"; exit 1; }

$(VENV)/.installed-demo: $(PINS) examples/requirements.txt | $(PY)
	$(call install,$(DEMO))
	$(call install,$(DATA))
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed-demo
	$(call install,$(TEST))
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed-test
	$(call install,$(DEV))
	@touch $@
