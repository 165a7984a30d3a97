"""Provenance of runs, passports of artefacts, and the check of what a stage reads: a stage begins
by comparing each input with what the record of its producer says (`begin`), and ends by writing the
record of what it made. So no number that was changed by hand becomes another number.
"""

from __future__ import annotations

import os
import platform
import shlex
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import JsonValue

from ccpo import document, files
from ccpo import source as code
from ccpo.document import Document, Record
from ccpo.source import Source

PROVENANCE = "provenance.json"  # in a run's folder


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

    The code is what it was when the process began that ended the training. `earlier`: that of
    processes before it that were interrupted, where it was another; `ended`: that of the end, where
    it is another. Version 1 said neither.
    """

    kind: Literal["provenance"] = "provenance"
    version: Literal[1, 2] = 2
    inputs: dict[str, str]
    outputs: dict[str, str]
    machine: Machine
    trained: Trained
    earlier: tuple[Source, ...] = ()
    ended: Source | None = None

    @property
    def sources(self) -> tuple[Source, ...]:
        """All code that trained it."""
        return (*self.earlier, self.machine.source, *([self.ended] if self.ended else []))


class Passport(Document):
    """The passport of one artefact: its hash, its inputs' hashes (paths from its folder), what it
    was made from beside files, the arguments of the process that wrote it, and the code when it
    began. `ended`: the code when it ended, where it was another. Version 1 did not say that.
    """

    kind: Literal["passport"] = "passport"
    version: Literal[1, 2] = 2
    artefact: str
    sha256: str
    inputs: dict[str, str]
    parameters: JsonValue
    command: str
    source: Source
    ended: Source | None = None

    @property
    def sources(self) -> tuple[Source, ...]:
        """All code that made it."""
        return (self.source, *([self.ended] if self.ended else []))


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


@dataclass(frozen=True)
class Begun:
    """A stage under way: sha256 of each of its inputs as it began, which are what their producers
    recorded; and the code it began with.
    """

    hashes: Mapping[Path, str]
    source: Source
    patch: bytes
    stamps: Mapping[Path, tuple[int, ...]]

    def recorded(self, folder: Path) -> dict[str, str]:
        """The inputs' hashes by their paths from a folder.

        Raises:
            ValueError: an input was changed since the stage began.
        """
        for path, digest in self.hashes.items():
            if _stamp(path) != self.stamps[path] and files.sha256(path) != digest:
                raise ValueError(
                    f"{path} was changed while it was read, so that nobody knows what was made "
                    "from it. Remedy: leave the inputs of a stage alone, and run it again."
                )
        return {os.path.relpath(path, folder): digest for path, digest in self.hashes.items()}

    def ended(self) -> Source | None:
        """The code now, where it is another than the stage began with."""
        return None if code.digest() == self.source.code else code.source()

    def keep_patch(self, folder: Path) -> None:
        """Writes what leads from the commit to the code, if anything, as code-{8 hex}.patch."""
        if self.patch:
            files.write_bytes(folder / patch_name(str(self.source.dirty)), self.patch)


def patch_name(digest: str) -> str:
    """How the file of a patch is named."""
    return f"code-{digest[:8]}.patch"


def begin(inputs: Iterable[Path]) -> Begun:
    """Begins a stage: hashes its inputs, each once, and compares them with their records.

    Raises:
        ValueError: an input is not what its producer recorded; names both hashes and the remedy.
    """
    begun = hashed(inputs)
    for path, digest in begun.hashes.items():
        refuse_changed(path, digest)
    return begun


def hashed(inputs: Iterable[Path]) -> Begun:
    """Begins a stage without comparing anything."""
    paths = dict.fromkeys(inputs)
    stamps = {path: _stamp(path) for path in paths}
    hashes = {path: files.sha256(path) for path in paths}
    return Begun(hashes, code.source(), code.patch(), stamps)


def refuse_changed(path: Path, digest: str) -> None:
    """That an artefact is what its record says.

    Raises:
        ValueError: it is another; names both hashes and the remedy.
    """
    for record, recorded in records_of(path):
        if recorded != digest:
            raise ValueError(
                f"{path} has sha256 {digest}, {record} recorded {recorded}: it was changed after "
                f"it was made. {remedy(path, record)}"
            )


def remedy(path: Path, record: Path) -> str:
    """What to do about an artefact that is not what its record says. It is not enough to delete it:
    Snakemake makes nothing anew whose last results are there.
    """
    target = record if record.name == PROVENANCE else path
    return (
        "Remedy: restore this file; or make it anew with all that was made from it: snakemake "
        f"--forcerun {shlex.quote(str(target))}"
    )


def records_of(path: Path) -> list[tuple[Path, str]]:
    """The records that say what an artefact is, each with the hash it says: its own passport, or
    the provenance of the run in whose folder it lies. Empty where there is none.
    """
    if passport_of(path).is_file():
        return [(passport_of(path), read_passport(path).sha256)]
    provenance = path.parent / PROVENANCE
    if path != provenance and provenance.is_file():
        run = read_provenance(path.parent)
        recorded = {**run.inputs, **run.outputs}.get(path.name)
        return [(provenance, recorded)] if recorded else []
    return []


def _stamp(path: Path) -> tuple[int, ...]:
    """What the file system says of a file, or of all files of a folder, without reading them."""
    paths = sorted(path.rglob("*")) if path.is_dir() else [path]
    kept = [p for p in paths if p.is_file() and p.name != ".snakemake_timestamp"]
    states = [p.stat() for p in kept]
    return tuple(n for s in states for n in (s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns))


def write_provenance(
    folder: Path,
    begun: Begun,
    outputs: Iterable[Path],
    trained: Trained,
    earlier: Iterable[Source] = (),
) -> None:
    """Writes the provenance.json of a run that is trained, in the run's folder, and the patch of
    its code beside it. `earlier`: code of processes before this one.

    Raises:
        ValueError: an input was changed since the training began.
    """
    machine = Machine(
        source=begun.source, hardware=hardware(), slurm_job=os.environ.get("SLURM_JOB_ID")
    )
    begun.keep_patch(folder)
    Provenance(
        inputs=begun.recorded(folder),
        outputs={os.path.relpath(path, folder): files.sha256(path) for path in outputs},
        machine=machine,
        trained=trained,
        earlier=tuple(earlier),
        ended=begun.ended(),
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


def write_passport(artefact: Path, begun: Begun, parameters: JsonValue = None) -> None:
    """Writes the passport of an artefact beside it, and the patch of its code. `parameters`: what
    it was made from beside files, as a benchmark's choice.

    Raises:
        ValueError: an input was changed since the stage began.
    """
    begun.keep_patch(artefact.parent)
    Passport(
        artefact=artefact.name,
        sha256=files.sha256(artefact),
        inputs=begun.recorded(artefact.parent),
        parameters=parameters,
        command=shlex.join(sys.argv[1:]),
        source=begun.source,
        ended=begun.ended(),
    ).write(passport_of(artefact))


def read_passport(artefact: Path) -> Passport:
    """The passport of an artefact.

    Raises:
        ValueError: there is none, or it is no passport of this version.
    """
    return document.read(passport_of(artefact), Passport)
