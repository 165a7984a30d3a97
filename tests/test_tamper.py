"""What an audit says of everything that tests/tamper.py does to a finished experiment; and that the
workflow does not make a forgery consistent.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tamper

from ccpo.audit import audit
from ccpo.audit.findings import FAILED, PASSED, UNCERTAIN, lines


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    tamper.build(folder)
    return folder


@pytest.mark.timeout(600)
def test_nothing_is_found_where_nothing_was_done(built: Path) -> None:
    """Each file is read once, and the answer says what was not checked."""
    project = tamper.Project(built, built)
    findings = tamper.audited(project, with_anchor=True)
    assert findings.code == PASSED, "\n".join(lines(findings, every=True))
    parts = set(findings.checks)
    assert parts >= {"closed", "files", "names", "code", "tasks", "ledger", "credit", "verdicts"}
    assert parts >= {"statistics", "figures", "page", "mlflow", "anchor"}
    assert findings.files > 100
    assert any("--deep" in item.why for item in findings.unasked)


@pytest.mark.parametrize("case", tamper.CASES, ids=lambda case: case.name)
def test_what_was_done_is_found_and_named(built: Path, tmp_path: Path, case: tamper.Case) -> None:
    project = tamper.copy(built, tmp_path / "copy")
    if case.own_code:
        project = tamper.with_code(project)
    case.act(project)
    findings = tamper.audited(project)
    if case.part in ("", "anchor"):
        # what is made anew as a whole is what it says it is
        assert findings.code == PASSED, "\n".join(lines(findings, every=True))
    if case.part == "anchor":
        findings = tamper.audited(project, with_anchor=True)
    if case.part:
        expected = UNCERTAIN if case.part == "uncertain" else FAILED
        assert findings.code == expected
        assert tamper.found(project, findings, case), "\n".join(lines(findings, every=True))
    assert all(failure.remedy for failure in findings.failures)
    shutil.rmtree(project.root)


def snakemake(folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment["PYTHONPATH"] = str(folder)
    words = ["snakemake", "--cores", "2", "--config", f"experiments=[{tamper.NAME}]"]
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.timeout(600)
def test_the_workflow_does_not_launder_a_forgery(built: Path, tmp_path: Path) -> None:
    """Every score is set to 1.0: the statistics are refused. The remedy that is said, deleting the
    scores, brings back what was there.
    """
    folder = tmp_path / "project"
    shutil.copytree(built, folder, symlinks=True)
    project = tamper.Project(folder, folder)
    scores = project.played("scores")
    was = scores.read_bytes()
    page = (project.experiment / "report.html").read_bytes()
    tamper.column(scores, "accuracy", tamper.all_right)
    done = snakemake(folder)
    assert done.returncode != 0
    words = (folder / "logs" / "analyse" / f"{tamper.NAME}.log").read_text()
    assert "scores.parquet has sha256" in words
    assert "Remedy: restore this file; or delete it and scores.parquet.passport.json" in words
    assert not (project.experiment / "stats.json").exists()
    scores.unlink()
    assert snakemake(folder).returncode == 0
    assert scores.read_bytes() == was
    assert (project.experiment / "report.html").read_bytes() == page
    assert audit.experiment(project.experiment, project.place).code == PASSED
