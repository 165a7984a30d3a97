"""What an experiment is made of: enumerated from its experiment.json, so that what was taken away,
added or left without a record is named, and not only what somebody still names.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ccpo import files, lineage, manifest
from ccpo.audit.findings import Failure, Findings
from ccpo.audit.records import Digests, Records, plain
from ccpo.manifest import OracleManifest, PlannedCondition, TrainingManifest
from ccpo.publish import figure

TABLES = ("train", "credit", "ledger", "seconds", "canary")
EVALUATED = ("rollouts", "scores", "graders")
PROBED = (".messages.parquet", ".parquet", ".diagnostics.json")
PLAIN = ("config.json", "experiment.json", lineage.PROVENANCE)  # a record's inputs or a record
NOT_OURS = "take it away; what belongs to an experiment was written by a stage, with a record"


def make_again(path: Path) -> str:
    """What to do about a file that is missing."""
    return f"restore it, or make it again: snakemake {shlex.quote(str(path))}"


@dataclass(frozen=True)
class ExperimentFolder:
    """An experiment on disk: its folder, its experiment.json, and the folder of all results."""

    folder: Path
    planned: TrainingManifest | OracleManifest
    results: Path

    @property
    def runs(self) -> Path:
        """The folder of runs."""
        return self.results / "runs"

    @property
    def conditions(self) -> tuple[PlannedCondition, ...]:
        """Its conditions; none of an oracle experiment."""
        return self.planned.conditions if isinstance(self.planned, TrainingManifest) else ()

    def run_folders(self) -> Iterator[tuple[PlannedCondition, int, Path]]:
        """Every declared run: its condition, its seed, its folder."""
        for condition in self.conditions:
            for seed, run in condition.runs.items():
                yield condition, seed, plain(self.runs / run)

    def figures(self) -> list[str]:
        """The figures that it has something to draw in."""
        if isinstance(self.planned, OracleManifest):
            return figure.of_contents(figure.Contents("oracle"))
        return figure.of_contents(figure.contents_of(self.planned))


@dataclass(frozen=True)
class Audited:
    """What is under audit: what was found so far, the records, and files by hash."""

    findings: Findings
    digests: Digests
    records: Records


def begin(name: str) -> Audited:
    """An audit that has found nothing yet."""
    findings = Findings(name)
    digests = Digests()
    return Audited(findings, digests, Records(findings, digests))


def of_folder(folder: Path) -> ExperimentFolder:
    """The experiment in a folder.

    Raises:
        ValueError: it has no experiment.json, or none that can be read.
    """
    folder = plain(folder)
    planned = manifest.read(folder / "experiment.json")
    return ExperimentFolder(folder, planned, plain(folder / ".." / ".."))


def expected(experiment: ExperimentFolder) -> Iterator[Path]:
    """Every artefact with a record of its own that an experiment has, but for what experiments
    share (tasks and models, which the records of runs name).
    """
    yield experiment.folder / "stats.json"
    for name in experiment.figures():
        yield experiment.folder / "figures" / f"{name}.svg"
        yield experiment.folder / "figures" / f"{name}.csv"
    yield experiment.folder / "tables" / "main.csv"
    yield experiment.folder / "tables" / "main.json"
    yield experiment.folder / "report.html"
    if isinstance(experiment.planned, OracleManifest):
        for family in experiment.planned.families:
            for shape in experiment.planned.shapes:
                for kind in ("parquet", "skipped.json"):
                    yield experiment.folder / "diagnostics" / f"{family}.{shape}.{kind}"
        return
    yield experiment.folder / "mlflow.json"
    if experiment.planned.paper:
        for name in ("published", "deviations"):
            for kind in ("csv", "md", "tex"):
                yield experiment.folder / "tables" / f"{name}.{kind}"
    for plan in experiment.planned.cross:
        for seed in plan.seeds:
            yield plan.messages(experiment.folder, seed)
            yield plan.table(experiment.folder, seed)
    for condition, _, run in experiment.run_folders():
        yield run / "model"
        yield from (run / f"{table}.parquet" for table in TABLES)
        for protocol in experiment.planned.protocols:
            folder = protocol.folder(run)
            yield from (folder / f"{table}.parquet" for table in EVALUATED)
        for probed in probes(experiment.planned, condition, run):
            yield from (probed.messages, probed.table, probed.diagnostics)


@dataclass(frozen=True)
class Probed:
    """The files of a run's probe at one share of its training."""

    messages: Path
    table: Path
    diagnostics: Path


def probes(planned: TrainingManifest, condition: PlannedCondition, run: Path) -> Iterator[Probed]:
    """A run's probes, at every share that is asked for: of a run that trains nothing at its start
    alone.
    """
    if planned.probe is None:
        return
    train: Any = condition.config["train"]
    for at in planned.probe.at if train["steps"] else (0.0,):
        stem = run / "probe" / planned.probe.stem(at)
        yield Probed(*(stem.with_name(stem.name + end) for end in PROBED))


def close(experiment: ExperimentFolder, audited: Audited) -> None:
    """Follows the records of everything an experiment is made of; names what is missing, without
    record, or unknown.
    """
    for path in dict.fromkeys(expected(experiment)):
        _there(path, audited)
    for _, _, run in experiment.run_folders():
        _there(run / "config.json", audited, recorded=False)
        _there(run / lineage.PROVENANCE, audited, recorded=False)
        _manifest(run / "model", audited)
    _shared(audited)
    folders = [experiment.folder, *(run for _, _, run in experiment.run_folders())]
    for folder in folders:
        _beside(folder, audited)
    audited.records.check()
    for folder in folders:
        _unknown(folder, audited)


def _there(path: Path, audited: Audited, recorded: bool = True) -> None:
    """That an artefact is there, and has a record."""
    findings = audited.findings
    if not path.exists():
        findings.failed(
            Failure("closed", str(path), "it is there", "no such file", make_again(path))
        )
        return
    findings.passed("closed")
    if recorded and not audited.records.follow(path) and not _broken(path):
        findings.failed(
            Failure(
                "closed",
                str(path),
                f"a record of what it is ({lineage.passport_of(path).name})",
                "none",
                audited.records.remedy(path, lineage.passport_of(path)),
            )
        )


def _broken(path: Path) -> bool:
    """Whether there is a record that cannot be read, which was named by itself."""
    passport = lineage.passport_of(path)
    provenance = path.parent / lineage.PROVENANCE
    if passport.is_file():
        return True
    try:
        return provenance.is_file() and not lineage.read_provenance(path.parent)
    except ValueError:
        return True


def _manifest(folder: Path, audited: Audited) -> None:
    """That the manifest that stands for a model's folder says what is in it."""
    path = files.manifest_of(folder)
    if not folder.is_dir():
        return
    try:
        recorded = files.read_json(path)
    except ValueError as error:
        audited.findings.failed(
            Failure("closed", str(path), "a manifest", str(error), make_again(folder))
        )
        return
    actual = {
        item.relative_to(folder).as_posix(): audited.digests.of(item)
        for item in files.members(folder)
    }
    remedy = audited.records.remedy(folder, lineage.passport_of(folder))
    audited.findings.compare("files", path, recorded, actual, remedy)


def _shared(audited: Audited) -> None:
    """That task tables, what was dropped of them, what was held out and base models are there with
    their records: those that the runs name.
    """
    tables: set[Path] = set()
    models: set[Path] = set()
    for folder, run in list(audited.records.runs.items()):
        for name in run.inputs:
            path = plain(folder / name)
            if path.suffix == ".parquet":
                tables.add(path)
            elif path.name.endswith(".held_out.json"):
                _there(path, audited)
            elif path.name != "config.json":
                models.add(path)
    for table in sorted(tables):
        _there(table, audited)
        _there(table.with_suffix(".dropped.json"), audited)
    for model in sorted(models):
        _there(model, audited)
        _manifest(model, audited)


def _beside(folder: Path, audited: Audited) -> None:
    """Follows what else has a passport in such a folder; names passports of nothing."""
    for path in sorted(folder.rglob("*.passport.json")):
        artefact = path.with_name(path.name.removesuffix(".passport.json"))
        if artefact.exists():
            audited.records.follow(artefact)
        else:
            audited.findings.failed(
                Failure("closed", str(path), f"{artefact.name} beside it", "none", NOT_OURS)
            )


def _unknown(folder: Path, audited: Audited) -> None:
    """Names what lies in a folder of the experiment and belongs to nothing."""
    known = {claim.path for claim in audited.records.claims}
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.name.startswith("."):
            continue
        if path.name.endswith((".passport.json", ".manifest.json")) or path.name in PLAIN:
            continue
        if _is_patch(path, audited):
            continue
        if not known.intersection([path, *path.parents]):
            audited.findings.failed(
                Failure("closed", str(path), "a record that names it", "none", NOT_OURS)
            )


def _is_patch(path: Path, audited: Audited) -> bool:
    """Whether a file is a patch, which is named by what it holds."""
    if path.suffix != ".patch":
        return False
    return path.name == lineage.patch_name(audited.digests.of(path))
