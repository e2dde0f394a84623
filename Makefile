# make quickstart   create the environment, generate data, pretrain, evaluate, draw: about five minutes of one core
# make test         create the environment with the test tools and run every test
# make env          create the environment only; TORCH_INDEX=https://download.pytorch.org/whl/cpu takes torch from there
# make test-matrix  run every test with other versions and other Pythons: hours, not in CI (ROWS="oldest newest")
# make docs         build the pages of docs/ and the API reference into .cache/site (needs the extra [docs])
# make lint         check style, types and the direction of imports
# PYTHON=python3.11 chooses the interpreter of a new environment (3.10 to 3.13).

ENV ?= .venv
LOCKED = requirements/constraints.txt setup.py mmmaskclip/startup/dependencies.py

.PHONY: docs env quickstart test test-matrix lint lock

env: $(ENV)/.installed

quickstart: $(ENV)/.installed
	$(ENV)/bin/python demo/quickstart.py $(ARGS)

# Without an index, so that nothing a test calls can install anything; with compiled files, or each of the tests' many
# processes would compile all libraries anew: 14 s, not 6. Two processes, each file in one of them: half the time, 3 GB
# each (ARGS="-n 0" runs all in one, where a debugger works). One thread each, in what they start too: four on two cores
# wait for each other.
test: $(ENV)/.installed-tests
	PIP_NO_INDEX=1 PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(ENV)/bin/python -m pytest -n 2 --dist loadfile $(ARGS)

test-matrix:
	tools/test_matrix.sh $(ROWS)

lint: $(ENV)/.installed-tests
	$(ENV)/bin/ruff check .
	$(ENV)/bin/ruff format --check .
	$(ENV)/bin/mypy
	$(ENV)/bin/lint-imports

# The pages of docs/ with an API reference, in .cache/site; a dead link or a warning is an error.
docs: $(ENV)/.installed
	NO_MKDOCS_2_WARNING=1 $(ENV)/bin/mkdocs build --strict

# Writes the versions anew: only for whoever updates them.
lock:
	uv pip compile -q --universal --python-version 3.10 --extra tests --no-emit-index-url \
		setup.py requirements/constraints.in -o requirements/constraints.txt

$(ENV)/.installed: $(LOCKED)
	PYTHON="$(PYTHON)" tools/create_env.sh $(ENV)
	touch $@

$(ENV)/.installed-tests: $(LOCKED)
	PYTHON="$(PYTHON)" tools/create_env.sh $(ENV) tests
	touch $(ENV)/.installed $@
