# make install      virtual environment with the package and what its tests need
# make demo         sample a video with the bundled checkpoint into outputs/demo.mp4
# make test         the test suite
# make bench        speed and memory beside the peers on this machine: 15 minutes, tables in benchmarks/results
# make lint         ruff, clang-format, mypy
# make sanitize     the CPU kernels under address and undefined-behaviour sanitizers, ROUNDS random problems each
# make fuzz         CASES damaged files through every command that reads them; failing ones are kept in build/fuzz
# make kill         sample, train, encode and convert, each killed at TIMES moments and run again
# make test-oldest  tests of the files that packages read and write, with the oldest versions of them that are allowed
# make cuda-check   compile every CUDA kernel, without a GPU
# make clean        remove everything that these made, but not outputs/
#
# Variables: PYTHON (makes the environment), VENV, TORCH (what to install where no torch >= 2.10 is),
# HUNYUAN_CUDA = AUTO | ON | OFF (build CUDA kernels), WORKERS (of the tests), ROUNDS, CASES, TIMES, PROMPT (of the
# demo), BENCH (arguments, e.g. --quick, which only checks that everything runs, or --only dit).

PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
HUNYUAN_CUDA ?= AUTO
WORKERS ?= 2
ROUNDS ?= 200
CASES ?= 2000
TIMES ?= 20
PROMPT ?= a large yellow star moves up on a gray background, the camera is static

export HUNYUAN_CUDA
export PIP_DISABLE_PIP_VERSION_CHECK = 1

RUN := $(VENV)/bin/python
# No package may replace the torch that is there.
PIP_INSTALL = $(RUN) -m pip install --constraint $(VENV)/constraints.txt
PACKAGE := $(VENV)/package-$(HUNYUAN_CUDA).stamp
SOURCES := pyproject.toml setup.py CMakeLists.txt $(shell find csrc -type f)

.PHONY: install demo test bench lint sanitize fuzz kill test-oldest cuda-check clean

install: $(VENV)/test.stamp

demo: $(PACKAGE)
	mkdir -p outputs
	$(VENV)/bin/hunyuan-video sample "$(PROMPT)" --seed 3 -o outputs/demo.mp4
	@echo "The video is in outputs/demo.mp4; its prompt: $(PROMPT)"

# One thread a worker: results do not depend on the machine, and two workers do not fight for two cores.
test: $(VENV)/test.stamp
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n $(WORKERS) --dist worksteal -q tests

bench: $(VENV)/test.stamp
	$(RUN) -m benchmarks $(BENCH)

lint: $(VENV)/lint.stamp
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	find csrc -name '*.[ch]*' ! -path 'csrc/cmake/*' | xargs $(VENV)/bin/clang-format --dry-run -Werror
	$(RUN) -m mypy

sanitize: $(VENV)/build.stamp
	PATH="$(abspath $(VENV))/bin:$$PATH" cmake -G Ninja -S . -B build/sanitize -DHUNYUAN_BUILD=SANITIZE -DHUNYUAN_CUDA=OFF
	PATH="$(abspath $(VENV))/bin:$$PATH" cmake --build build/sanitize
	build/sanitize/kernel_check $(ROUNDS)

fuzz: $(VENV)/test.stamp
	OMP_NUM_THREADS=1 PYTHONPATH=tests $(RUN) -m robustness.fuzz --cases $(CASES) --processes $(WORKERS)

kill: $(VENV)/test.stamp
	OMP_NUM_THREADS=1 PYTHONPATH=tests $(RUN) -m robustness.kill --times $(TIMES)

# In the place of the newer packages of VENV; torch, and peers such as transformers, are those of VENV.
test-oldest: $(VENV)/test.stamp
	rm -rf build/oldest
	$(RUN) -m pip install --quiet --target build/oldest $$($(RUN) tests/helpers/oldest.py hub serve eval)
	OMP_NUM_THREADS=1 PYTHONPATH=build/oldest $(RUN) -m pytest -q -k "not transformers" tests/media tests/checkpoints/test_hub.py \
	    tests/checkpoints/test_safetensors_file.py tests/checkpoints/test_shards.py tests/checkpoints/test_text_loading.py \
	    tests/serving/test_parameters.py tests/evaluation/test_paired.py

cuda-check:
	$(PYTHON) tests/cuda/nvcc.py

clean:
	rm -rf $(VENV) build hunyuan_ext.egg-info hunyuan_ext/_C*.so .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/torch.stamp:
	$(PYTHON) -m venv $(VENV)
	$(RUN) -c "import importlib.metadata as m; v = m.version('torch').split('.'); \
	    raise SystemExit((int(v[0]), int(v[1])) < (2, 10))" 2>/dev/null || $(RUN) -m pip install "$(TORCH)"
	$(RUN) -c "import importlib.metadata as m; print('torch==' + m.version('torch'))" > $(VENV)/constraints.txt
	touch $@

$(PACKAGE): $(VENV)/torch.stamp $(SOURCES)
	rm -f $(VENV)/package-*.stamp
	$(PIP_INSTALL) --editable .
	touch $@

# An extra's packages alone: asking pip for "hunyuan-ext[extra]" would compile the kernels again.
$(VENV)/%.stamp: $(PACKAGE)
	$(RUN) -c "import importlib.metadata as m; \
	    print(*(r.split(';')[0] for r in m.requires('hunyuan-ext') if 'extra == \"$*\"' in r), sep='\n')" > $(VENV)/$*.txt
	$(PIP_INSTALL) --requirement $(VENV)/$*.txt
	touch $@
