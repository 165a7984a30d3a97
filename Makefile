# make reproduce [EXPERIMENT=name]   from a bare clone to results/experiments/<name>/report.html
# make test                          from a bare clone to a tested one
# make test-vllm                     the engines' tests with vLLM, in .venv-vllm (3.3 GB); MODEL=<folder> tests that model too
# make test-gpu                      what needs a CUDA device, in both environments
# make slurm-check                   on a cluster's login node: does the profile fit the site?
# All build .venv with the locked packages the first time and reuse it afterwards.
# KERNELS=lowest (or avx2) with any of them: they compute as an older processor would.
EXPERIMENT ?= quickstart
PYTHON ?= python3
# nproc obeys OMP_NUM_THREADS, which is 1 for every process here and says nothing about the machine
CORES ?= $(shell env -u OMP_NUM_THREADS nproc 2>/dev/null || sysctl -n hw.ncpu)
UV_VERSION := 0.13.8
BIN := .venv/bin
# The environment comes first on PATH, so that what snakemake starts is what is locked.
export PATH := $(CURDIR)/$(BIN):$(PATH)
# A folder of wheels that pip knows of is shown to uv too; empty is harmless.
export UV_FIND_LINKS := $(PIP_FIND_LINKS)
export OMP_NUM_THREADS ?= 1

# A library picks its kernels by the processor, and each kernel rounds in its own way. These switches
# hold every library that computes to those of an older processor (SSE, or AVX2), so that one machine
# can see what others compute. tests/test_kernels.py checks that each takes effect.
KERNELS ?=
ifeq ($(shell uname -m)/$(KERNELS),x86_64/lowest)
export ATEN_CPU_CAPABILITY := default
export ONEDNN_MAX_CPU_ISA := SSE41
export MKL_CBWR := COMPATIBLE
export OPENBLAS_CORETYPE := Prescott
export ARROW_USER_SIMD_LEVEL := NONE
export NPY_DISABLE_CPU_FEATURES := X86_V3 X86_V4 AVX512_ICL AVX512_SPR
export GLIBC_TUNABLES := glibc.cpu.hwcaps=-AVX2,-FMA,-FMA4
else ifeq ($(shell uname -m)/$(KERNELS),x86_64/avx2)
export ATEN_CPU_CAPABILITY := avx2
export ONEDNN_MAX_CPU_ISA := AVX2
export MKL_CBWR := AVX2
export OPENBLAS_CORETYPE := Haswell
export ARROW_USER_SIMD_LEVEL := AVX2
export NPY_DISABLE_CPU_FEATURES := X86_V4 AVX512_ICL AVX512_SPR
else ifneq ($(KERNELS),)
$(error KERNELS=$(KERNELS) is none. Remedy: lowest or avx2, on an x86 processor)
endif

.PHONY: reproduce test test-vllm test-gpu slurm-check lint lock clean

reproduce: .venv/.ready
	snakemake --cores $(CORES) --config experiments=[$(EXPERIMENT)]
	@echo "report: results/experiments/$(EXPERIMENT)/report.html"

test: .venv/.ready
	pytest -n 2 -q

test-vllm: .venv-vllm/.ready
	CCPO_TEST_MODEL=$(MODEL) .venv-vllm/bin/python -m pytest -v tests/test_engines.py

test-gpu: .venv/.ready .venv-vllm/.ready
	pytest -m gpu
	.venv-vllm/bin/python -m pytest -v tests/test_engines.py

# What does not fit this cluster, in words; then a study of two minutes through its queue.
slurm-check: .venv/.ready
	python -m ccpo doctor
	snakemake --profile slurm --config experiments=[smoke]
	@echo "the cluster made results/experiments/smoke/report.html"

lint: .venv/.ready
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile workflow
	mypy
	snakemake --lint

# Compiled once here, since importing torch and transformers from source costs every job five seconds.
# Rebuilt when the lock or the project's dependencies change.
.venv/.ready: envs/main.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "ccpo needs Python 3.11 or newer (make PYTHON=...)")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q uv==$(UV_VERSION)
	$(BIN)/uv pip install -q --compile-bytecode --python .venv torch==2.13.0
	$(BIN)/uv pip install -q --compile-bytecode --python .venv --require-hashes --no-deps -r envs/main.lock
	$(BIN)/uv pip install -q --python .venv --no-deps -e .
	touch $@

# vLLM with a CPU, its pins being others; with CUDA it is made by hand (envs/README.md).
.venv-vllm/.ready: envs/vllm.lock .venv/.ready
	test -x .venv-vllm/bin/python || $(PYTHON) -m venv .venv-vllm
	$(BIN)/uv pip install -q --compile-bytecode --python .venv-vllm $(if $(UV_FIND_LINKS),,--torch-backend=cpu) torch==2.13.0
	$(BIN)/uv pip install -q --compile-bytecode --python .venv-vllm --require-hashes --no-deps -r envs/vllm.lock
	$(BIN)/uv pip install -q --python .venv-vllm --no-deps -e .
	touch $@

# Resolves pyproject.toml anew. torch stays out: its build (CPU, CUDA) is the machine's choice.
COMPILE = $(BIN)/uv pip compile -q $(if $(UV_FIND_LINKS),--find-links "$(UV_FIND_LINKS)") \
  --generate-hashes --no-emit-package torch --no-header --no-annotate
lock:
	$(COMPILE) pyproject.toml --group dev -o envs/main.lock
	$(COMPILE) envs/vllm.in --overrides envs/vllm-overrides.txt -o envs/vllm.lock
	printf 'torch==2.13.0\ntrl==1.16.0\n' | $(COMPILE) - -o envs/trl.lock

# What benchmarks/update.py compares with: TRL, in an environment of its own.
.venv-trl/.ready: envs/trl.lock .venv/.ready
	test -x .venv-trl/bin/python || $(PYTHON) -m venv .venv-trl
	$(BIN)/uv pip install -q --compile-bytecode --python .venv-trl torch==2.13.0
	$(BIN)/uv pip install -q --compile-bytecode --python .venv-trl --require-hashes --no-deps -r envs/trl.lock
	touch $@

clean:
	rm -rf .venv .venv-vllm .venv-trl results scratch logs .snakemake
