PYTHON ?= python3
export HF_HUB_OFFLINE ?= 1
export HF_HUB_DISABLE_PROGRESS_BARS ?= 1

TINY_TASKS = tiny_reading,tiny_counting,tiny_colours,tiny_digits,tiny_matching,tiny_retrieval

.PHONY: demo test test-slow test-floor test-newest gpu eval bench-check lint format clean

demo: .venv/ready
	.venv/bin/python examples/read_images.py

# Two tests at a time, one thread each.
test: lint
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n 2 --dist loadfile

test-slow: .venv/ready
	.venv/bin/python -m pytest -m slow

# The oldest supported transformers, without torchvision, timm or any extra.
test-floor: .venv-floor/ready
	OMP_NUM_THREADS=1 .venv-floor/bin/python -m pytest -n 2 --dist loadfile

# What `pip install` gives today: the wheel, with the newest transformers and torch. Its tests are those of the core.
test-newest: .venv-newest/ready
	OMP_NUM_THREADS=1 .venv-newest/bin/python -m pytest -n 2 --dist loadfile modeling_tests/robustness modeling_tests/test_*.py

# On a CUDA GPU, where there is one: the tests of the device, then what it takes there, beside peers.
gpu: .venv/ready
	.venv/bin/python -m pytest modeling_tests/devices
	.venv/bin/python benchmarks/gpu.py --output runs/gpu.json $(GPU_OPTIONS)

# Answers that are kept would be those of the code before a change.
eval: .venv/ready
	rm -rf runs/evaluation
	mkdir -p runs/evaluation
	.venv/bin/fastvlm evaluate --model checkpoints/tiny-reader --tasks $(TINY_TASKS) --batch-size 8 \
		--output runs/evaluation/results.json
	.venv/bin/fastvlm report runs/evaluation/results.json --baseline checkpoints/tiny-reader/evaluation/results.json \
		--tolerance 2

# What is promised of speed on two cores, measured beside its peers: some minutes, with nothing else running.
bench-check: .venv/ready
	.venv/bin/python benchmarks/promised_ratios.py --threads 2

lint: .venv/ready
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

format: .venv/ready
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --upgrade pip
	.venv/bin/python -m pip install --quiet -e ".[dev]"
	touch $@

.venv-floor/ready: pyproject.toml
	$(PYTHON) -m venv .venv-floor
	.venv-floor/bin/python -m pip install --quiet --upgrade pip
	.venv-floor/bin/python -m pip install --quiet "torch==2.13.0" "transformers==5.16.1" hypothesis pytest pytest-xdist -e .
	touch $@

# Everything in the package is in the wheel: made anew when any of it changes.
.venv-newest/ready: pyproject.toml $(shell find src -name '*.py' -o -name '*.jinja')
	$(PYTHON) -m venv --clear .venv-newest
	.venv-newest/bin/python -m pip install --quiet --upgrade pip
	rm -rf dist
	.venv-newest/bin/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	.venv-newest/bin/python -m pip install --quiet dist/*.whl pytest pytest-xdist hypothesis
	touch $@

clean:
	rm -rf .venv .venv-floor .venv-newest dist .mypy_cache .pytest_cache .ruff_cache
