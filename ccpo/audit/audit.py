"""Audits of an experiment, of a run, of any other artefact, and of all experiments of a folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ccpo import lineage
from ccpo.audit import anchor, code, contents, derive, names, prompts, replay, training
from ccpo.audit.contents import Audited, ExperimentFolder
from ccpo.audit.findings import Failure, Findings
from ccpo.audit.records import plain
from ccpo.manifest import TrainingManifest
from ccpo.source import PACKAGE

NEEDS_MODELS = (
    "rollouts, weights, and the tables of updates whose messages are not kept",
    "models would have to compute again: --deep plays evaluations, --replay RUN trains a run",
)
TRAINED = (
    "weights, and the tables of updates whose messages are not kept",
    "runs would have to be trained again: --replay RUN",
)
NEEDS_ANCHOR = (
    "whether somebody made all of it anew from changed rollouts or weights, records included",
    "only what was published elsewhere can tell: --anchor",
)


def experiment_of(path: Path) -> Path | None:
    """The folder of the experiment that an artefact belongs to, if it is one of an experiment."""
    path = plain(path)
    for folder in (path, *path.parents):
        if (folder / "experiment.json").is_file():
            return folder
    return None


@dataclass(frozen=True)
class Place:
    """Where an audit looks beside the results: the experiments' YAML files, what was published,
    and the code by which all is derived again.
    """

    config: Path = Path("config")
    published: Path = Path("published")
    package: Path = PACKAGE


HERE = Place()


@dataclass(frozen=True)
class Asked:
    """What an audit of an experiment does beside what needs no model and nothing published."""

    anchor: bool = False
    deep: bool = False


def experiment(folder: Path, place: Place = HERE, asked: Asked = Asked()) -> Findings:
    """Audits an experiment: closed, recorded, named by content, and derived again without a model.

    Raises:
        ValueError: it has no experiment.json, or none that can be read.
    """
    start = time.monotonic()
    of = contents.of_folder(folder)
    audited = contents.begin(of.planned.experiment)
    for _ in checks(of, audited, place):
        pass
    if asked.deep:
        replay.deep(of, audited)
        audited.findings.unasked_for(*TRAINED)
    else:
        audited.findings.unasked_for(*NEEDS_MODELS)
    if asked.anchor:
        anchor.check(of, audited, place.published)
    else:
        audited.findings.unasked_for(*NEEDS_ANCHOR)
    _sum_up(audited, start)
    return audited.findings


def checks(of: ExperimentFolder, audited: Audited, place: Place) -> Iterator[str]:
    """The checks of an experiment, one after the other, each by its name when it is done."""
    steps: dict[str, Callable[[], None]] = {
        "closed": lambda: _close(of, audited),
        "names": lambda: names.check(of, audited, place.config),
        "code": lambda: code.check(audited, place.package),
        "tasks": lambda: derive.tasks(audited),
        "statistics": lambda: derive.statistics(of, audited),
        "figures": lambda: derive.figures(of, audited),
        "page": lambda: derive.page(of, audited),
    }
    if isinstance(of.planned, TrainingManifest):
        steps["credit"] = lambda: training.check(of, audited)
        steps["verdicts"] = lambda: derive.verdicts(of, audited)
        steps["prompts"] = lambda: prompts.check(of, audited)
        steps["cross-play"] = lambda: derive.crossed(of, audited)
        steps["probes"] = lambda: derive.probed(of, audited)
        steps["published"] = lambda: derive.published(of, audited)
        steps["mlflow"] = lambda: derive.imported(of, audited)
    for name, step in steps.items():
        _taken(name, step, of, audited)
        yield name


def _close(of: ExperimentFolder, audited: Audited) -> None:
    contents.close(of, audited)
    derive.reads(of, audited)


def _taken(name: str, step: Callable[[], None], of: ExperimentFolder, audited: Audited) -> None:
    """Takes a step. What is damaged may make it fail in any way, which is then one more failure;
    where nothing is, it is a fault of the program.
    """
    try:
        step()
    except Exception as error:
        if not audited.findings.failures:
            raise
        why = f"{type(error).__name__}: {error}"
        remedy = "see the failures named before, of which this one follows"
        audited.findings.failed(Failure(name, str(of.folder), "it can be checked", why, remedy))


def artefact(path: Path, place: Place = HERE) -> Findings:
    """Walks an artefact that is of no experiment back through all records.

    Raises:
        ValueError: it has no record.
    """
    start = time.monotonic()
    audited = contents.begin(str(path))
    _walk(path, audited)
    code.check(audited, place.package)
    audited.findings.unasked_for(
        "whether it can be derived again", "name the experiment that it is shown in, or its folder"
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
            "no run and no experiment. Remedy: name an experiment's folder or page, a run's "
            "folder, or an artefact below results/."
        )
    audited.records.check()


def everything(folder: Path, place: Place = HERE, asked: Asked = Asked()) -> Iterator[Findings]:
    """Audits every experiment below a folder.

    Raises:
        ValueError: there is none.
    """
    folders = sorted(path.parent for path in folder.rglob("experiment.json"))
    if not folders:
        raise ValueError(f"audit: there is no experiment below {folder} (no experiment.json).")
    for each in folders:
        yield experiment(each, place, asked)


def of_path(path: Path, place: Place = HERE, asked: Asked = Asked()) -> Findings:
    """Audits what a path belongs to: an experiment, else the artefact itself.

    Raises:
        ValueError: as `experiment` and `artefact`; or an anchor is asked for of something else.
    """
    folder = experiment_of(path)
    if folder is not None:
        return experiment(folder, place, asked)
    if asked.anchor or asked.deep:
        raise ValueError(
            f"audit: {path} is of no experiment, and only experiments are published and played "
            "again. Remedy: name an experiment's folder; or leave the option out."
        )
    return artefact(path, place)


def _sum_up(audited: Audited, start: float) -> None:
    audited.findings.files = audited.digests.files
    audited.findings.read = audited.digests.read
    audited.findings.seconds = time.monotonic() - start


def replayed(path: Path) -> Findings:
    """Trains a run again, and compares.

    Raises:
        ValueError: it is no run's folder, or cannot be trained here.
    """
    start = time.monotonic()
    folder = plain(path if path.is_dir() else path.parent)
    audited = contents.begin(folder.name)
    replay.train(folder, audited)
    _sum_up(audited, start)
    return audited.findings
