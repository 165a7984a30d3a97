"""Audits of a study, of a run, of any other artefact, and of all studies of a folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ccpo import lineage
from ccpo.audit import code, derive, names, training
from ccpo.audit import study as studies
from ccpo.audit.findings import Findings
from ccpo.audit.records import plain
from ccpo.audit.study import Audited, Study
from ccpo.manifest import TrainingManifest

CONFIG = Path("config")
NEEDS_MODELS = (
    "rollouts, weights, and the tables of updates whose messages are not kept",
    "models would have to compute again: --deep plays evaluations, --replay RUN trains a run",
)
NEEDS_ANCHOR = (
    "whether somebody made all of it anew from changed rollouts or weights, records included",
    "only what was published elsewhere can tell: --anchor",
)
Say = Callable[[str], None]


def study_of(path: Path) -> Path | None:
    """The folder of the study that an artefact belongs to, if it is one of a study."""
    path = plain(path.absolute())
    for folder in (path, *path.parents):
        if (folder / "experiment.json").is_file():
            return folder
    return None


def study(folder: Path, config: Path = CONFIG) -> Findings:
    """Audits a study: closed, recorded, named by content, and derived again without any model.

    Raises:
        ValueError: it has no experiment.json, or none that can be read.
    """
    start = time.monotonic()
    of = studies.of_folder(folder)
    audited = studies.begin(of.planned.experiment)
    for _ in checks(of, audited, config):
        pass
    findings = audited.findings
    findings.unasked_for(*NEEDS_MODELS)
    findings.unasked_for(*NEEDS_ANCHOR)
    _sum_up(audited, start)
    return findings


def checks(of: Study, audited: Audited, config: Path) -> Iterator[str]:
    """The checks of a study, one after the other, each by its name when it is done."""
    studies.close(of, audited)
    yield "closed"
    names.check(of, audited, config)
    yield "names"
    code.check(audited)
    yield "code"
    derive.tasks(audited)
    yield "tasks"
    if isinstance(of.planned, TrainingManifest):
        training.check(of, audited)
        yield "training"
        derive.verdicts(of, audited)
        yield "verdicts"
    derive.statistics(of, audited)
    yield "statistics"
    derive.figures(of, audited)
    yield "figures"
    derive.page(of, audited)
    yield "page"


def artefact(path: Path) -> Findings:
    """Walks an artefact that is of no study back through all records.

    Raises:
        ValueError: it has no record.
    """
    start = time.monotonic()
    audited = studies.begin(str(path))
    _walk(path, audited)
    code.check(audited)
    audited.findings.unasked_for(
        "whether it can be derived again", "name the study that it is shown in, or its folder"
    )
    _sum_up(audited, start)
    return audited.findings


def _walk(path: Path, audited: Audited) -> None:
    """Follows the record of an artefact, or of a run all that lies in its folder."""
    folder = plain(path)
    named = [folder]
    if (folder / lineage.PROVENANCE).is_file():
        passports = sorted(folder.rglob("*.passport.json"))
        named = [p.with_name(p.name.removesuffix(".passport.json")) for p in passports]
        named.append(folder / "train.parquet")
    elif folder.name == lineage.PROVENANCE or folder.name == "config.json":
        named = [folder.parent / "train.parquet"]
    recorded = [audited.records.follow(each) for each in named]
    if not any(recorded) and not audited.findings.failures:
        raise ValueError(
            f"audit: {path} has no passport ({lineage.passport_of(folder).name}), and belongs to "
            "no run and no study. Remedy: name a study's folder or page, a run's folder, or an "
            "artefact below results/."
        )
    audited.records.check()


def everything(folder: Path, config: Path = CONFIG) -> Iterator[Findings]:
    """Audits every study below a folder.

    Raises:
        ValueError: there is none.
    """
    folders = sorted(path.parent for path in folder.rglob("experiment.json"))
    if not folders:
        raise ValueError(f"audit: there is no study below {folder} (no experiment.json).")
    for each in folders:
        yield study(each, config)


def of_path(path: Path, config: Path = CONFIG) -> Findings:
    """Audits what a path belongs to: a study, else the artefact itself."""
    folder = study_of(path)
    if folder is not None:
        return study(folder, config)
    return artefact(path)


def _sum_up(audited: Audited, start: float) -> None:
    audited.findings.files = audited.digests.files
    audited.findings.read = audited.digests.read
    audited.findings.seconds = time.monotonic() - start
