"""Every artefact of a pipeline that is called from Python has a record of what it was made from,
an audit of the report reaches every byte below it, and no stage reads what was changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ROOT, make_protocol, run_data, sources

from ccpo import files, lineage, merkle, schema, source
from ccpo.audit import contents as audits
from ccpo.config import (
    Experiment,
    Model,
    Protocol,
    RunConfig,
    canonical,
    read_protocol,
    read_run,
)
from ccpo.data import door, overlap
from ccpo.evaluate import evaluate
from ccpo.evaluate.analyse import analyse
from ccpo.learn import starts
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
        config=config,
        tasks=table,
        model=base,
        scratch=scratch,
        out=made,
        options=training.Options(held_out=held_out),
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
        and not path.name.endswith((".passport.json", ".manifest.json", ".patch"))
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
    shown = {"credit.parquet", "rollouts.parquet", "scores.parquet", "provenance.json"}
    made = {"stats.json", "experiment.json", "main.csv", f"{DRAWN}.svg"}
    assert inputs["report.html"] == shown | made
    assert inputs["tiny"] == {"tiny"}  # the folder it was copied from
    passport = lineage.read_passport(page.parent / "tasks/tasks.parquet")
    assert isinstance(passport.parameters, dict)
    assert passport.parameters["name"] == "arithmetic"


def walk(artefact: Path) -> list[str]:
    """The files that an audit of an artefact finds other than their records say."""
    audited = audits.begin("walk")
    assert audited.records.follow(artefact)
    audited.records.check()
    return [failure.path for failure in audited.findings.failures]


def test_an_audit_of_the_page_reaches_every_file_below_it(page: Path) -> None:
    """Each file is damaged in turn; what is only shown beside the page has an audit of its own."""
    beside = {f"{DRAWN}.csv", "main.json", "tasks.dropped.json"}
    assert walk(page) == []
    for artefact in artefacts(page.parent):
        path = next(artefact.rglob("*.safetensors")) if artefact.is_dir() else artefact
        whole = path.read_bytes()
        path.write_bytes(whole + b" ")
        start = artefact if artefact.name in beside else page
        try:
            assert walk(start) == [str(artefact)]
        finally:
            path.write_bytes(whole)
    assert walk(page) == []


def test_every_path_is_hashed_once(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[Path] = []
    plain = files.sha256
    monkeypatch.setattr(files, "sha256", lambda path: hashed.append(Path(path)) or plain(path))
    walk(page)
    assert len(hashed) == len(set(hashed)) > 20


def test_an_audit_of_a_training_reaches_its_inputs(page: Path) -> None:
    """Without what was played after it, whose records name the same files."""
    train = next(page.parent.glob("runs/*/train.parquet"))
    assert walk(train) == []
    tasks = page.parent / "tasks/tasks.parquet"
    whole = tasks.read_bytes()
    tasks.write_bytes(whole + b" ")
    try:
        assert walk(train) == [str(tasks)]
    finally:
        tasks.write_bytes(whole)


def test_an_audit_works_from_another_folder(
    page: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    audited = audits.begin("here")
    audited.records.follow(page)
    audited.records.check()
    monkeypatch.chdir(tmp_path)
    moved = audits.begin("there")
    moved.records.follow(Path(os.path.relpath(page)))
    moved.records.check()
    assert moved.findings.checks == audited.findings.checks
    assert not moved.findings.failures


@pytest.mark.parametrize("name", ["scores.parquet", "graders.parquet", "train.parquet"])
def test_a_stage_refuses_a_table_that_was_changed(page: Path, tmp_path: Path, name: str) -> None:
    """Statistics of changed tables would make a forgery consistent with itself."""
    [path] = page.parent.glob(f"runs/**/{name}")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    out = tmp_path / "stats.json"
    try:
        with pytest.raises(
            ValueError, match=rf"{name} has sha256 \w+, \S+ recorded \w+: it was chan"
        ):
            analyse(
                experiment=page.parent / "experiment.json", runs=page.parent / "runs", stats=out
            )
        assert not out.exists()
    finally:
        path.write_bytes(whole)
    analyse(experiment=page.parent / "experiment.json", runs=page.parent / "runs", stats=out)


def test_a_training_refuses_changed_inputs_before_anything_is_loaded(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def loaded(*_: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(training, "State", loaded)
    tasks = files["tasks"]
    tasks.write_bytes(tasks.read_bytes() + b" ")
    with pytest.raises(
        ValueError, match=r"tasks.parquet has sha256 .* Remedy: restore this file; or make"
    ):
        training.train(**files)


def test_what_is_changed_while_it_is_read_gets_no_passport(tmp_path: Path) -> None:
    read = tmp_path / "read.txt"
    made = tmp_path / "made.txt"
    for path in (read, made):
        path.write_text("before")
    begun = lineage.begin([read])
    os.utime(read)  # another time, the same content
    lineage.write_passport(made, begun)
    read.write_text("after!")
    with pytest.raises(ValueError, match=r"read.txt was changed while it was read"):
        lineage.write_passport(made, begun)


def test_a_training_does_not_go_on_with_other_inputs(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And with other code it says so."""
    scratch = files["scratch"]
    began = lineage.begin([files["tasks"]])
    scratch.mkdir()
    (scratch / "step-00000001").mkdir()
    other = began.source.model_copy(update={"code": "0" * 64})
    assert starts.started(scratch, replace(began, source=other), files["config"]) == []
    assert starts.started(scratch, began, files["config"]) == [other]
    assert starts.started(scratch, began, files["config"]) == [other]
    door.tasks(read_run(files["config"]).benchmark, files["tasks"])
    assert starts.started(scratch, lineage.begin([files["tasks"]]), files["config"]) == [other]
    changed = replace(began, hashes={files["tasks"]: "1" * 64})
    with pytest.raises(ValueError, match=r"began with tasks.parquet of sha256 \w+, which is 1111"):
        starts.started(scratch, changed, files["config"])


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    done = subprocess.run(["git", *who, *words], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_patch_leads_from_the_commit_to_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files that git does not track among it, whatever a person's git is set to; not what lies
    outside the package, nor what is compiled.
    """
    package = tmp_path / "repository" / "pack"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("one\n")
    top = package.parent
    git(top, "init", "-q")
    git(top, "add", "-A")
    git(top, "commit", "-qm", "first")
    commit = git(top, "rev-parse", "HEAD")
    clean = source.source(package)
    assert (clean.commit, clean.dirty, source.patch(package)) == (commit, None, b"")
    (top / "README.md").write_text("outside")
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "a.pyc").write_bytes(b"\0")
    assert source.source(package) == clean
    git(top, "config", "diff.noprefix", "true")
    (package / "__init__.py").write_text("two\n")
    (package / "credit").mkdir()
    (package / "credit" / "mine.py").write_text("a method of one's own\n")
    changed = source.source(package)
    patch = source.patch(package)
    assert changed.code != clean.code
    assert changed.dirty == hashlib.sha256(patch).hexdigest()
    other = tmp_path / "other"
    git(tmp_path, "clone", "-q", str(top), "other")
    (tmp_path / "a.patch").write_bytes(patch)
    git(other, "apply", str(tmp_path / "a.patch"))
    assert source.digest(other / "pack") == changed.code
    monkeypatch.chdir(ROOT)  # not of the folder one stands in
    assert source.source(package) == changed
    nested = top / "environment" / "pack"
    nested.mkdir(parents=True)
    (nested / "__init__.py").write_text("installed, not tracked")
    assert source.commit(nested) is None


def test_packages_that_are_not_as_locked_are_named(tmp_path: Path) -> None:
    (tmp_path / "a_b-1.5.dist-info").mkdir()
    (tmp_path / "c-2.dist-info").mkdir()
    lock = tmp_path / "main.lock"
    lock.write_text("A.b==1.4 \\\n    --hash=sha256:00\nc==2\nnot-here==3\n")
    installed = source._installed((str(tmp_path),))
    assert installed == {"a-b": "1.5", "c": "2"}
    assert source._unlocked(lock, installed) == ("A.b 1.5 (locked 1.4)",)


def test_the_root_changes_with_every_leaf_and_not_with_the_place(page: Path) -> None:
    """Against the definition, for three leaves by hand."""
    folder = Path("/x")
    three = {folder / "a": "1", folder / "b": "2", folder / "c": "3"}

    def h(data: bytes) -> bytes:
        return hashlib.sha256(data).digest()

    leaves = [h(b"\0" + text) for text in (b"a\x001", b"b\x002", b"c\x003")]
    wanted = h(b"\1" + h(b"\1" + leaves[0] + leaves[1]) + leaves[2])
    assert merkle.root(three, folder) == wanted.hex()
    moved = {Path("/y") / path.name: digest for path, digest in three.items()}
    assert merkle.root(moved, Path("/y")) == wanted.hex()
    for path in three:
        assert merkle.root({**three, path: "9"}, folder) != wanted.hex()
    reached = merkle.reached([page])
    assert {p.name for p in reached} >= {
        "tasks.parquet",
        "model",
        "config.json",
        "rollouts.parquet",
    }
    for path, digest in reached.items():
        assert schema.sha256(path) == digest


def test_records_of_another_version_are_refused(page: Path) -> None:
    folder = next(page.parent.glob("runs/*"))
    provenance = lineage.read_provenance(folder)
    assert provenance.trained.updates == 2
    with pytest.raises(ValueError, match="frozen"):
        provenance.trained.updates = 3  # type: ignore[misc]
    path = folder / lineage.PROVENANCE
    whole = path.read_text()
    path.write_text(whole.replace('"version": 2', '"version": 0'))
    try:
        with pytest.raises(ValueError, match=r"version 0, this code reads version 1 or 2. Remedy"):
            lineage.read_provenance(folder)
    finally:
        path.write_text(whole)
