# make reproduce [EXPERIMENT=name]   from a bare clone to results/experiments/<name>/report.html
# make test                          from a bare clone to a tested one
# Both build .venv with the locked packages the first time and reuse it afterwards.
EXPERIMENT ?= quickstart
PYTHON ?= python3.11
UV_VERSION := 0.13.8
CORES ?= $(shell nproc 2>/dev/null || sysctl -n hw.ncpu)
BIN := .venv/bin
# A folder of wheels that pip knows (PIP_FIND_LINKS) is shown to uv too; empty is harmless.
export UV_FIND_LINKS := $(PIP_FIND_LINKS)
