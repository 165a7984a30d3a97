"""Parts of the audit by themselves: raw files, patches and commits, answers, exit codes."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ccpo import lineage, schema, source
from ccpo.audit import audit, code, contents, derive, findings
from ccpo.audit.findings import Failure, Findings
from ccpo.config import Choice, resolve
from ccpo.data import door

needs_raw_files = pytest.mark.skipif(
    "CCPO_DATA_MIRROR" not in os.environ,
    reason="needs the raw files: set CCPO_DATA_MIRROR to a folder that has them",
)


def tasks(name: str, folder: Path) -> Path:
    table = folder / "results" / "tasks" / "t.parquet"
    door.tasks(Choice.model_validate(resolve("benchmark", name)), table, folder / "raw")
    return table


def of_tasks(table: Path) -> Findings:
    audited = contents.begin("tasks")
    audited.records.follow(table)
    audited.records.follow(table.with_suffix(".dropped.json"))
    audited.records.check()
    derive.tasks(audited)
    return audited.findings


@needs_raw_files
def test_a_task_table_is_derived_from_its_raw_files(tmp_path: Path) -> None:
    """Raw bytes that were changed are found though every record agrees, by the pin in the code; a
    table by what the raw bytes give; without them nothing is fetched, and that is said.
    """
    table = tasks("aime24", tmp_path)
    assert of_tasks(table).code == findings.PASSED
    [raw] = [path for path in (tmp_path / "raw").rglob("*") if path.is_file()]
    whole = raw.read_bytes()
    raw.write_bytes(whole.replace(b"a", b"b", 1))
    for artefact in (table, table.with_suffix(".dropped.json")):
        lineage.write_passport(artefact, lineage.begin([raw]), resolve("benchmark", "aime24"))
    failed = of_tasks(table)
    assert failed.code == findings.FAILED
    assert failed.failures[0].path == str(raw)
    assert "fetches and verifies it" in failed.failures[0].remedy

    table = tasks("aime24", tmp_path / "again")
    rows = schema.read_table(table, "tasks").to_pylist()
    rows[0]["truth"] = "0"
    schema.write_table(table, schema.rows_to_table("tasks", rows))
    [raw] = [path for path in (tmp_path / "again" / "raw").rglob("*") if path.is_file()]
    lineage.write_passport(table, lineage.begin([raw]), resolve("benchmark", "aime24"))
    assert [f.path.split(",")[0] for f in of_tasks(table).failures] == [str(table)]
    shutil.rmtree(tmp_path / "again" / "raw")
    uncertain = of_tasks(table).uncertain
    assert ["ccpo data aime24" in item.why for item in uncertain] == [True]


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    done = subprocess.run(["git", *who, *words], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package in a repository, changed since its commit."""
    package = tmp_path / "repository" / "pack"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("one\n")
    (package.parent / "envs").mkdir()
    (package.parent / "envs" / "main.lock").write_text("numpy==0\n")
    git(package.parent, "init", "-q")
    git(package.parent, "add", "-A")
    git(package.parent, "commit", "-qm", "first")
    (package / "mine.py").write_text("a method\n")
    return package


def made_by(package: Path, artefact: Path) -> None:
    """Writes an artefact, with the record that this package would have written."""
    artefact.write_text("x")
    begun = lineage.begin([])
    own = source.source(package)
    by_it = lineage.Begun(begun.hashes, own, source.patch(package), begun.stamps)
    lineage.write_passport(artefact, by_it)
    record = lineage.read_passport(artefact)  # `ended` compares with the code of the tests
    record.model_copy(update={"ended": None}).write(lineage.passport_of(artefact))


def of_artefact(artefact: Path, package: Path) -> Findings:
    return audit.artefact(artefact, audit.Place(package=package))


def test_uncommitted_code_is_known_by_its_patch(tmp_path: Path, package: Path) -> None:
    """A file that git does not track among it. Without the patch nobody knows what it was."""
    artefact = tmp_path / "a.txt"
    made_by(package, artefact)
    same = of_artefact(artefact, package)
    assert not same.failures
    assert same.checks["code"] == 2
    [patch] = tmp_path.glob("code-*.patch")
    assert "mine.py" in patch.read_text()
    assert not any("code of" in item.what for item in same.uncertain)
    # packages other than the lock names
    assert any("packages of" in item.what for item in same.uncertain)
    patch.rename(tmp_path / "elsewhere")
    assert [failure.path for failure in of_artefact(artefact, package).failures] == [str(patch)]
    (tmp_path / "elsewhere").rename(patch)
    (package / "mine.py").write_text("another\n")
    other = of_artefact(artefact, package)
    assert not other.failures
    assert other.code == findings.UNCERTAIN
    assert any(item.what.startswith("code of") for item in other.uncertain)


def test_a_record_that_names_the_wrong_commit_is_found(tmp_path: Path, package: Path) -> None:
    git(package.parent, "add", "-A")
    git(package.parent, "commit", "-qm", "second")
    artefact = tmp_path / "a.txt"
    made_by(package, artefact)
    assert not of_artefact(artefact, package).failures
    record = lineage.read_passport(artefact)
    earlier = git(package.parent, "rev-parse", "HEAD~1")
    forged = record.source.model_copy(update={"commit": earlier})
    record.model_copy(update={"source": forged}).write(lineage.passport_of(artefact))
    [failure] = of_artefact(artefact, package).failures
    assert (failure.part, failure.path) == ("code", f"{artefact}, its code")
    unknown = record.source.model_copy(update={"commit": "0" * 40})
    record.model_copy(update={"source": unknown}).write(lineage.passport_of(artefact))
    uncertain = of_artefact(artefact, package).uncertain
    assert any("is not in this repository" in item.why for item in uncertain)
    assert code._checkout(earlier, tmp_path / "checked", package)


def test_exit_codes_and_what_is_told() -> None:
    passed = Findings("a")
    passed.passed("files", 3)
    passed.unasked_for("weights", "--replay RUN")
    uncertain = Findings("b")
    uncertain.doubt("code of x", "another")
    uncertain.doubt("code of x", "another")
    failed = Findings("c")
    for i in range(3):
        failed.failed(Failure("files", f"x{i}", "1", "2", "restore it"))
    many = Findings("d")
    for i in range(30):
        many.failed(Failure("files", f"x{i}", "1", "2", "restore it"))
    assert "  and 9 that --all names" in list(findings.lines(many))
    assert (passed.code, uncertain.code, failed.code) == (0, 3, 1)
    assert findings.worst([passed, uncertain]) == 3
    assert findings.worst([passed, failed, uncertain]) == 1
    assert findings.worst([]) == 0
    text = "\n".join(findings.lines(failed))
    assert "3 failed" in text
    assert "expected: 1\n  found:    2\n  remedy:   restore it" in text
    assert text.count("expected:") == 1
    assert "2 more:" in text
    assert "\n".join(findings.lines(failed, every=True)).count("expected:") == 3
    assert "not asked for:\n  weights: --replay RUN" in "\n".join(findings.lines(passed))
    assert len(uncertain.uncertain) == 1
    assert findings.as_json(failed)["exit"] == 1


def test_a_wrong_kind_of_path_gets_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "experiment.json").write_text("{}")
    with pytest.raises(ValueError, match=r"experiment.json holds no document of this project's"):
        audit.of_path(tmp_path / "experiment.json")
    (tmp_path / "experiment.json").unlink()
    with pytest.raises(ValueError, match=r"there is no experiment below"):
        list(audit.everything(tmp_path))
    with pytest.raises(ValueError, match=r"has no passport .* Remedy: name an experiment's folder"):
        audit.of_path(tmp_path)
    (tmp_path / "provenance.json").write_text("{}")
    with pytest.raises(ValueError, match=r"provenance.json holds no document"):
        audit.replayed(tmp_path)
