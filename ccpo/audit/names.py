"""That what is named by its content has that content: runs by their config, protocols and task
tables by theirs, base models by their source; and that the experiment is what its
YAML file says.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ccpo import files, lineage
from ccpo.audit.contents import Audited, ExperimentFolder
from ccpo.audit.findings import Failure
from ccpo.audit.records import plain
from ccpo.config import (
    Choice,
    Model,
    RunConfig,
    WarmStart,
    canonical,
    fingerprint,
    read_experiment,
    tasks_slug,
)
from ccpo.manifest import PlannedCondition, TrainingManifest

DECLARED = "restore the file, or state in the experiment's YAML what was done, and run snakemake"
NAMED = "restore this file; a run of another config is another run, in a folder of its own"


def check(experiment: ExperimentFolder, audited: Audited, config: Path) -> None:
    """Checks all names of an experiment. `config`: the folder of the experiments' YAML files."""
    _declared(experiment, audited, config)
    if not isinstance(experiment.planned, TrainingManifest):
        return
    for protocol in experiment.planned.protocols:
        path = experiment.results / "protocols" / f"{protocol.id}.json"
        wanted = {**protocol.config, "name": protocol.name}
        if _same(path, wanted, audited):
            named = f"{protocol.name}-{fingerprint(protocol.config)}"
            audited.findings.compare("names", path, named, protocol.id, NAMED)
    for condition, seed, folder in experiment.run_folders():
        run = _config(folder, audited)
        if run is not None:
            _of_condition(folder, run, condition, seed, audited)
            _inputs(folder, run, audited)
    for artefact, passport in audited.records.passports.items():
        if artefact.parent.name == "tasks" and artefact.suffix == ".parquet":
            slug = tasks_slug(Choice.model_validate(passport.parameters))
            record = lineage.passport_of(artefact)
            audited.findings.compare("names", record, slug, artefact.stem, NAMED)


def _declared(experiment: ExperimentFolder, audited: Audited, config: Path) -> None:
    """That experiment.json is what the experiment's YAML file says."""
    name = experiment.planned.experiment
    path = experiment.folder / "experiment.json"
    audited.findings.compare("names", path, experiment.folder.name, name, DECLARED)
    if not (config / "experiments" / f"{name}.yaml").is_file():
        audited.findings.doubt(
            f"{path} against its YAML file", f"{config} has no experiment {name}"
        )
        return
    try:
        declared = read_experiment(name, config).manifest().model_dump(mode="json")
    except ValueError as error:
        audited.findings.doubt(f"{path} against its YAML file", str(error))
        return
    actual = experiment.planned.model_dump(mode="json")
    for key in declared:
        audited.findings.compare(
            "names", f"{path}, {key}", declared[key], actual.get(key), DECLARED
        )


def _same(path: Path, wanted: object, audited: Audited) -> bool:
    """Whether a JSON file holds what experiment.json says of it."""
    try:
        actual = files.read_json(path)
    except ValueError as error:
        audited.findings.failed(Failure("names", str(path), "JSON", str(error), DECLARED))
        return False
    return audited.findings.compare("names", path, wanted, actual, DECLARED)


def _config(folder: Path, audited: Audited) -> RunConfig | None:
    """The config of a run, of which its folder's name is made; None where it cannot be read."""
    path = folder / "config.json"
    try:
        raw: Any = files.read_json(path)
        models = raw["model"] if isinstance(raw["model"], list) else [raw["model"]]
        names = [raw[kind]["name"] for kind in ("benchmark", "team", "credit")]
        spoken = "+".join(model["name"] for model in models)
        named = f"{'.'.join(names)}.{spoken}.s{raw['seed']}-{fingerprint(raw)}"
    except (ValueError, KeyError, TypeError) as error:
        if path.exists():
            audited.findings.failed(
                Failure("names", str(path), "the config of a run", repr(error), NAMED)
            )
        return None
    audited.findings.compare("names", path, folder.name, named, NAMED)
    try:
        return RunConfig.model_validate(raw)
    except ValueError as error:
        audited.findings.doubt(f"what {path} means", f"this code refuses it: {error}")
        return None


def _of_condition(
    folder: Path, run: RunConfig, condition: PlannedCondition, seed: int, audited: Audited
) -> None:
    """That a run is of the condition and the seed under which it is counted."""
    path = folder / "config.json"
    audited.findings.compare("names", path, seed, run.seed, DECLARED)
    audited.findings.compare("names", path, condition.bases.get(seed), run.base, DECLARED)
    models = ("model", "seed")  # a seed may have a base model of its own
    its = {k: v for k, v in run.model_dump(mode="json").items() if k not in models}
    planned = {k: v for k, v in condition.config.items() if k not in models}
    where = f"{path}, of condition {condition.label}"
    audited.findings.compare("names", where, canonical(planned), canonical(its), DECLARED)


def _inputs(folder: Path, run: RunConfig, audited: Audited) -> None:
    """That a run was trained from the task table and the base models that its config names."""
    record = audited.records.runs.get(folder)
    if record is None:
        return
    path = folder / lineage.PROVENANCE
    wanted = {"config.json", f"{tasks_slug(run.benchmark)}.parquet"}
    wanted |= {model.slug for model in run.models}
    actual = {Path(name).name for name in record.inputs if not name.endswith(".held_out.json")}
    audited.findings.compare("names", path, sorted(wanted), sorted(actual), NAMED)
    audited.findings.compare("names", path, run.id, record.trained.run, NAMED)
    for name in record.inputs:
        for model in run.models:
            if Path(name).name == model.slug:
                _pinned(folder / name, model, audited)


def _pinned(folder: Path, model: Model, audited: Audited) -> None:
    """That a base model is the one that the run's config pins by its hash."""
    if isinstance(model.spec, WarmStart) and model.spec.sha256:
        remedy = f"restore the folder: git checkout -- config/base_models/{model.base}; snakemake"
        actual = audited.digests.of(plain(folder))
        audited.findings.compare("names", folder, model.spec.sha256, actual, remedy)
