"""Every artefact of a pipeline that is called from Python has a record of what it was made from,
and an audit of the report reaches every byte below it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path

import pytest
from conftest import make_protocol, run_data, sources

from ccpo import lineage, schema
from ccpo.config import Experiment, Model, Protocol, RunConfig, canonical, read_protocol
from ccpo.data import door, overlap
from ccpo.evaluate import evaluate
from ccpo.evaluate.analyse import analyse
from ccpo.learn import train as training
from ccpo.models import prepare
from ccpo.publish import draw, report, tables

DRAWN = "accuracy"


def pipeline(folder: Path, source: Path) -> Path:
    """One run of two updates, from its benchmark and model to the page; returns the page."""
    spec = {"source": "folder", "path": str(source), "sha256": schema.sha256(source)}
    model = {"name": "tiny", "spec": spec}
    run = RunConfig.model_validate(run_data(model=model, train={"steps": 2}))
    made = folder / "runs" / run.id
    config = made / "config.json"
    table = folder / "tasks" / "tasks.parquet"
    schema.write_text(config, canonical(run.model_dump(mode="json")))
    door.tasks(run.benchmark, table)
    base = folder / "models" / "tiny"
    prepare.prepare(Model.model_validate(model), base)
    scratch = folder / "scratch"
    held_out = table.with_suffix(".held_out.json")
    overlap.hold_out(table, [table], held_out)
    training.train(
        config=config, tasks=table, model=base, scratch=scratch, out=made, held_out=held_out
    )
    files = {"config": config, "tasks": table, "out": made, "model": base}
    path = make_protocol(folder, tasks=4, interventions=["solo"])
    protocol = read_protocol(path)
    evaluation = made / "eval" / protocol.id
    rollouts = evaluation / "rollouts.parquet"
    evaluate.rollout(sources(files, path), scratch=scratch, out=rollouts)
    evaluate.score(
        evaluate.Played(config, path, (table,), rollouts),
        scratch=[scratch],
        out=evaluation / "scores.parquet",
        graders=evaluation / "graders.parquet",
    )
    return pages(folder, run, protocol)


def pages(folder: Path, run: RunConfig, protocol: Protocol) -> Path:
    """Statistics, a figure, the main table and the page of an experiment of one run."""
    experiment = Experiment(
        name="e",
        question="Is it there?",
        primary_metric="accuracy",
        runs={"c": {0: run}},
        protocols=(protocol,),
    )
    manifest = folder / "experiment.json"
    stats = folder / "stats.json"
    svg = folder / "figures" / f"{DRAWN}.svg"
    main = folder / "main.csv"
    page = folder / "report.html"
    experiment.manifest().write(manifest)
    analyse(experiment=manifest, runs=folder / "runs", stats=stats)
    draw.draw(DRAWN, stats, svg, svg.with_suffix(".csv"))
    tables.write(stats, main)
    report.write(report.Files(stats, manifest, [svg], main, folder / "runs"), page)
    return page


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Path:
    return pipeline(tmp_path_factory.mktemp("pipeline"), tiny)


def test_a_training_leaves_a_line_that_sums_it_up(
    files: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "ccpo"):
        training.train(**files)
    last = caplog.messages[-1]
    assert re.search(r"\.s0-\w{8} is trained: update 4  reward 0\.\d{3}  [\d,]+ tokens$", last)


def artefacts(folder: Path) -> list[Path]:
    """What the stages wrote; a model is one artefact. Configurations are where the walk begins."""
    single = [
        path
        for path in folder.rglob("*")
        if path.is_file()
        and "model" not in path.parent.parts
        and not {"models", "protocols"} & {*path.parts}
        and not path.name.endswith((".passport.json", ".manifest.json"))
        and path.name not in ("config.json", "experiment.json", lineage.PROVENANCE)
    ]
    single = [path for path in single if "/model/" not in path.as_posix()]
    return [*single, folder / "models/tiny", *folder.glob("runs/*/model")]


def digest(path: Path) -> str:
    """Independent of the code under test, for files."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def record(artefact: Path) -> tuple[str, dict[str, str], Path]:
    """An artefact's recorded hash, its inputs' hashes, and the record's folder, as plain JSON."""
    passport = artefact.with_name(artefact.name + ".passport.json")
    if passport.is_file():
        content = json.loads(passport.read_text())
        return content["sha256"], content["inputs"], passport.parent
    content = json.loads((artefact.parent / "provenance.json").read_text())
    return content["outputs"][artefact.name], content["inputs"], artefact.parent


def test_every_artefact_has_a_record_with_the_hashes_of_its_inputs(page: Path) -> None:
    found = artefacts(page.parent)
    names = {path.name for path in found}
    assert {"tasks.parquet", "tasks.dropped.json", "tiny", "model", "train.parquet"} <= names
    assert {"rollouts.parquet", "scores.parquet", "graders.parquet", "stats.json"} <= names
    assert {f"{DRAWN}.svg", f"{DRAWN}.csv", "main.csv", "main.json", "report.html"} <= names
    for artefact in found:
        recorded, inputs, folder = record(artefact)
        if artefact.is_file():
            assert recorded == digest(artefact), artefact
        for name, of_input in inputs.items():
            path = folder / name
            assert path.exists(), (artefact, name)
            if path.is_file():
                assert of_input == digest(path), (artefact, name)


def test_inputs_are_those_that_a_stage_reads(page: Path) -> None:
    inputs = {
        artefact.name: {Path(os.path.normpath(name)).name for name in record(artefact)[1]}
        for artefact in artefacts(page.parent)
    }
    held_out = "tasks.held_out.json"
    [protocol] = (path.name for path in (page.parent / "protocols").glob("*.json"))
    common = {"config.json", "tasks.parquet"}
    assert inputs["train.parquet"] == {*common, held_out, "tiny"}
    assert inputs["rollouts.parquet"] == {*common, "provenance.json", protocol, "model", "tiny"}
    assert inputs["scores.parquet"] == {*common, protocol, "rollouts.parquet"}
    assert inputs[held_out] == {"tasks.parquet"}
    assert inputs["stats.json"] >= {"experiment.json", "scores.parquet", "ledger.parquet"}
    assert inputs["report.html"] == {"stats.json", "experiment.json", "main.csv", f"{DRAWN}.svg"}
    assert inputs["tiny"] == {"tiny"}  # the folder it was copied from
    passport = lineage.read_passport(page.parent / "tasks/tasks.parquet")
    assert isinstance(passport.parameters, dict)
    assert passport.parameters["name"] == "arithmetic"


def test_an_audit_of_the_page_reaches_every_file_below_it(page: Path) -> None:
    """Each file is damaged in turn; what is only shown beside the page has an audit of its own."""
    beside = {f"{DRAWN}.csv", "main.json", "tasks.dropped.json"}
    lines = lineage.audit(page)
    assert len(lines) == len(set(lines))
    for artefact in artefacts(page.parent):
        path = next(artefact.rglob("*.safetensors")) if artefact.is_dir() else artefact
        whole = path.read_bytes()
        path.write_bytes(whole + b" ")
        start = artefact if artefact.name in beside else page
        try:
            with pytest.raises(ValueError, match=rf"audit: \S*{artefact.name} has sha256"):
                lineage.audit(start)
        finally:
            path.write_bytes(whole)
    assert lineage.audit(page) == lines


def test_an_audit_of_a_training_reaches_its_inputs(page: Path) -> None:
    """Without what was played after it, whose records name the same files."""
    train = next(page.parent.glob("runs/*/train.parquet"))
    lineage.audit(train)
    tasks = page.parent / "tasks/tasks.parquet"
    whole = tasks.read_bytes()
    tasks.write_bytes(whole + b" ")
    try:
        with pytest.raises(
            ValueError, match=r"tasks.parquet has sha256 .*provenance.json recorded"
        ):
            lineage.audit(train)
    finally:
        tasks.write_bytes(whole)


def test_an_audit_works_from_another_folder(
    page: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    n = len(lineage.audit(page))
    monkeypatch.chdir(tmp_path)
    assert len(lineage.audit(Path(os.path.relpath(page)))) == n


def test_records_of_another_version_are_refused(page: Path) -> None:
    folder = next(page.parent.glob("runs/*"))
    provenance = lineage.read_provenance(folder)
    assert provenance.trained.updates == 2
    with pytest.raises(ValueError, match="frozen"):
        provenance.trained.updates = 3  # type: ignore[misc]
    path = folder / lineage.PROVENANCE
    whole = path.read_text()
    path.write_text(whole.replace('"version": 1', '"version": 0'))
    try:
        with pytest.raises(ValueError, match=r"version 0, this code reads version 1. Remedy"):
            lineage.read_provenance(folder)
    finally:
        path.write_text(whole)
