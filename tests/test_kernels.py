"""KERNELS of the Makefile switches every library that computes; a run's provenance says which it
had.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT

from ccpo import lineage

# What libraries say of themselves. MKL and oneDNN say it while they work, where they are asked to.
ASK = """
import json
import numpy, pyarrow, scipy.linalg, threadpoolctl, torch
from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__
some = torch.ones(64, 64)
some @ some
some.to_mkldnn().relu()
print(json.dumps({
    "torch": torch.backends.cpu.get_cpu_capability(),
    "openblas": sorted({pool["architecture"] for pool in threadpoolctl.threadpool_info()
                        if pool["internal_api"] == "openblas"}),
    "arrow": pyarrow.runtime_info().simd_level,
    "numpy": [name for name in __cpu_dispatch__ if __cpu_features__[name]],
}))
"""
USED = {
    "lowest": {"torch": "DEFAULT", "openblas": ["Katmai"], "arrow": "none", "numpy": []},
    "avx2": {"torch": "AVX2", "openblas": ["Haswell"], "arrow": "avx2", "numpy": ["X86_V3"]},
}
SAID = {"lowest": ("CNR:COMPATIBLE", "isa:Intel SSE4.1"), "avx2": ("CNR:AVX2", "isa:Intel AVX2")}
INFO = Path("/proc/cpuinfo")
AVX2 = INFO.is_file() and " avx2 " in INFO.read_text()
x86 = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="KERNELS are those of x86 processors"
)


def made(kernels: str) -> subprocess.CompletedProcess[str]:
    """What the Makefile exports to its commands, a line for each variable."""
    bare = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith((*lineage.SWITCHES, "MAKE"))
    }
    command = ["make", "-s", "-f", "-", "show", f"KERNELS={kernels}"]
    text = "include Makefile\nshow:\n\t@env\n"
    return subprocess.run(command, input=text, cwd=ROOT, env=bare, capture_output=True, text=True)


def switches(kernels: str) -> dict[str, str]:
    done = made(kernels)
    assert done.returncode == 0, done.stderr
    pairs = [
        line.split("=", 1) for line in done.stdout.splitlines() if line.startswith(lineage.SWITCHES)
    ]
    return {name: value for name, value in pairs if name != "OMP_NUM_THREADS"}


@x86
@pytest.mark.skipif(
    not AVX2, reason="the processor has the lowest kernels only, or does not say which"
)
@pytest.mark.parametrize("kernels", sorted(USED))
def test_every_library_uses_the_kernels_that_are_asked_for(kernels: str) -> None:
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(lineage.SWITCHES)
    }
    environment = {**kept, **switches(kernels), "MKL_VERBOSE": "1", "ONEDNN_VERBOSE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", ASK], env=environment, capture_output=True, text=True, check=True
    )
    *said, last = done.stdout.splitlines()
    assert json.loads(last) == USED[kernels]
    for words in SAID[kernels]:
        assert any(words in line for line in said), words


@x86
@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="another C library than GLIBC_TUNABLES is for"
)
@pytest.mark.skipif(
    not AVX2, reason="the processor has the lowest kernels only, or does not say which"
)
def test_the_c_library_has_another_sine() -> None:
    """Last digits differ somewhere, and nothing more: 1e-14."""
    told = []
    for kernels in ("", "lowest"):
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(lineage.SWITCHES)
        }
        code = "import math; print([math.sin(x / 700) for x in range(20_000)])"
        command = [sys.executable, "-c", code]
        done = subprocess.run(
            command, env={**kept, **switches(kernels)}, capture_output=True, text=True, check=True
        )
        told.append(json.loads(done.stdout))
    assert told[0] != told[1]
    assert told[0] == pytest.approx(told[1], abs=1e-14)


@x86
def test_kernels_are_switched_by_name_only() -> None:
    assert switches("") == {}
    assert switches("lowest").keys() >= switches("avx2").keys()
    assert "KERNELS=sse is none. Remedy: lowest or avx2" in made("sse").stderr


def test_provenance_names_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch's, and whatever the environment switches, by the Makefile or by hand; nothing else of
    it.
    """
    for name, value in {
        "OPENBLAS_CORETYPE": "Haswell",
        "DNNL_MAX_CPU_ISA": "AVX2",
        "AWS_SECRET": "x",
    }.items():
        monkeypatch.setenv(name, value)
    found = lineage.hardware().kernels
    assert found.torch == torch.backends.cpu.get_cpu_capability()
    assert found.switches["OPENBLAS_CORETYPE"] == "Haswell"
    assert found.switches["DNNL_MAX_CPU_ISA"] == "AVX2"
    assert found.switches["OMP_NUM_THREADS"] == os.environ["OMP_NUM_THREADS"]
    assert "AWS_SECRET" not in found.switches
    assert "PATH" not in found.switches
