# Needs only make and Python 3.11+. What each target installs goes into .venv; see .ci/setup for its settings.
.POSIX:
.NOTPARALLEL:
.PHONY: help demo live docs test test-slow lint format bench bench-gap build release-check clean distclean

BIN = .venv/bin
ARGS =
# Two pytest workers share two cores: each computes in one thread.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' Makefile | expand -t 12
	@echo "Settings: ARGS, PYTHON, TORCH_INDEX (CPU-only torch), MIN_FREE_GB, DRY_RUN (see .ci/setup)"

demo: .venv/.stamp-demo ## the embedded example, end to end, offline: runs/demo
	$(BIN)/explain demo --out runs/demo --overwrite $(ARGS)

live: .venv/.stamp-demo ## the pages under docs/live/ again: some minutes
	$(BIN)/python docs/make_live.py $(ARGS)

docs: .venv/.stamp-docs ## the documentation, into docs/_build/html; a warning is an error
	$(BIN)/python -m sphinx -W --keep-going -b html $(ARGS) docs docs/_build/html

test: .venv/.stamp-dev ## the tests, without the slow ones (ARGS="tests/unit -k cells")
	$(PYTEST) -m "not slow" $(ARGS)

test-slow: .venv/.stamp-dev ## the tests marked slow
	$(PYTEST) -m slow $(ARGS) || [ $$? -eq 5 ] # 5: no test is marked slow

lint: .venv/.stamp-dev ## style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/.stamp-dev ## rewrite the code in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# pytorch-grad-cam asks for another build of OpenCV, which would overwrite ours: it is installed without what it asks
# for, and apart, so that the requirements of .venv do not contradict each other.
PEERS = grad-cam ttach tqdm
bench: .venv/.stamp-dev ## all benchmarks, small: a quarter of an hour (ARGS=--full, --only saliency, --keep)
	[ -d build/peers/pytorch_grad_cam ] || \
	{ if command -v uv >/dev/null; then uv pip install --quiet --python $(BIN)/python --no-deps --target build/peers $(PEERS); \
	else $(BIN)/python -m pip install --quiet --no-deps --target build/peers $(PEERS); fi; }
	PYTHONPATH="$$PWD/build/peers" $(BIN)/python -m benchmarks $(ARGS)

bench-gap: .venv/.stamp-dev ## the CAM paper's tables: fully connected, -GAP and -GMP networks on the drawn scenes
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/gap_gmp.py $(ARGS)

build: .venv/.stamp-demo ## the wheel, into dist/
	rm -rf dist
	if command -v uv >/dev/null; then uv build --quiet --wheel --out-dir dist; \
	else $(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .; fi
	$(BIN)/python .ci/check_wheel.py dist/*.whl

release-check: .venv/.stamp-dev build ## what has to hold before a release (ARGS="--skip lowest newest", --list)
	$(BIN)/python .ci/release.py $(ARGS)

clean: ## remove caches and built files
	rm -rf dist build docs/_build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name .venv -prune -o -name .git -prune -o -name __pycache__ -type d -exec rm -rf {} +

distclean: clean ## remove .venv as well
	rm -rf .venv

.venv/.stamp-demo: pyproject.toml
	@.ci/setup demo

.venv/.stamp-dev: pyproject.toml
	@.ci/setup dev

.venv/.stamp-docs: pyproject.toml
	@.ci/setup docs
