"""What an audit says of everything that tests/tamper.py does to a finished experiment; and that the
workflow does not make a forgery consistent.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tamper

from ccpo.audit import anchor, audit, contents, difference, replay
from ccpo.audit.findings import FAILED, PASSED, UNCERTAIN, Findings, lines

pytestmark = pytest.mark.timeout(900)  # the first that runs builds the experiment


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


def snakemake(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment["PYTHONPATH"] = str(folder)
    words = ["snakemake", "--cores", "2", "--config", f"experiments=[{tamper.NAME}]", *more]
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.timeout(600)
def test_the_workflow_does_not_launder_a_forgery(built: Path, tmp_path: Path) -> None:
    """Every score is set to 1.0: the statistics are refused. The remedy that is said brings back
    what was there.
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
    assert not (project.experiment / "stats.json").exists()
    [remedy] = re.findall(r"Remedy: restore this file; .*: snakemake (--forcerun \S+)", words)
    assert snakemake(folder, *remedy.split()).returncode == 0
    assert scores.read_bytes() == was
    assert (project.experiment / "report.html").read_bytes() == page
    assert audit.experiment(project.experiment, project.place).code == PASSED


def run(folder: Path, *words: str) -> str:
    """What a command in a folder prints; it succeeds."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment |= {"PYTHONPATH": str(folder), "DVC_NO_ANALYTICS": "1"}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(600)
def test_another_clone_audits_what_was_published_without_training(
    built: Path, tmp_path: Path
) -> None:
    """And compares numbers between commits, which DVC draws with a colour for each condition."""
    first = tmp_path / "first"
    shutil.copytree(built, first, symlinks=True)
    bundle = Path("published", tamper.NAME, "bundle")
    run(first, "dvc", "remote", "add", "-q", "-d", "store", str(tmp_path / "store"))
    run(first, "dvc", "add", "-q", str(bundle))
    run(first, "git", "add", "published", ".dvc")
    run(first, "git", *tamper.WHO, "commit", "-qm", "published")
    run(first, "dvc", "push", "-q")

    run(tmp_path, "git", "clone", "-q", "first", "second")
    second = tmp_path / "second"
    assert not (second / bundle).exists()
    run(second, "dvc", "pull", "-q")
    assert not (second / "results").exists()
    experiment = bundle / "results" / "experiments" / tamper.NAME
    out = run(second, sys.executable, "-m", "ccpo", "audit", str(experiment), "--anchor", "--json")
    [findings] = json.loads(out)
    assert findings["exit"] == PASSED
    assert findings["checks"]["anchor"] > 5

    metrics = second / "published" / tamper.NAME / "metrics.json"
    tamper.edit(metrics, lambda v: v["ccpo"].update(accuracy=v["ccpo"]["accuracy"] + 0.25))
    run(second, "git", *tamper.WHO, "commit", "-qam", "another number")
    out = run(second, "dvc", "metrics", "diff", "HEAD~1", "HEAD", "--json")
    [numbers] = json.loads(out).values()
    assert numbers["ccpo.accuracy"]["diff"] == pytest.approx(0.25)
    assert f"published/{tamper.NAME}/metrics.json" in run(second, "dvc", "metrics", "show")
    run(second, "dvc", "plots", "show", "-o", "plots")
    page = (second / "plots" / "index.html").read_text()
    assert '"field": "condition"' in page
    assert '"condition": "ccpo"' in page


def test_a_signature_is_checked_against_who_may_sign(built: Path, tmp_path: Path) -> None:
    if not shutil.which("ssh-keygen"):
        pytest.skip("needs ssh-keygen")
    project = tamper.copy(built, tmp_path / "copy")
    for name in ("own", "other"):
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)]
        subprocess.run(words, check=True)
    path = anchor.path_of(project.place.published, tamper.NAME)
    signers = path.with_name(anchor.SIGNERS)
    public = (tmp_path / "own.pub").read_text()
    anchor.sign(path, tmp_path / "own")

    def checked() -> Findings:
        audited = contents.begin(tamper.NAME)
        anchor.verify(path, audited)
        return audited.findings

    assert checked().code == UNCERTAIN
    signers.write_text(f"me@example.org {public}")
    assert (checked().code, checked().checks["anchor"]) == (PASSED, 1)
    anchor.sign(path, tmp_path / "other")
    assert checked().code == FAILED
    anchor.sign(path, tmp_path / "own")
    path.write_text(path.read_text() + " ")
    assert checked().code == FAILED


@pytest.mark.timeout(600)
def test_a_run_comes_out_again_and_what_differs_between_two_is_named(
    built: Path, tmp_path: Path
) -> None:
    """Trained again byte for byte; a run whose weights were made up and whose records agree does
    not come out, and neither do its evaluations.
    """
    project = tamper.copy(built, tmp_path / "copy")
    run = project.run()
    same = audit.replayed(run)
    assert same.code == PASSED, "\n".join(lines(same, every=True))
    assert same.checks["replay"] == 5
    seeds = list(difference.lines(run, project.run(seed=1)))
    assert any(line.startswith("seed ") and line.endswith("seed: 0 | 1") for line in seeds)
    assert any(line.startswith("base model ") for line in seeds)
    assert not any(line.startswith(("code", "environment")) for line in seeds)
    other = project.run(seed=1)
    record = other / "provenance.json"

    def elsewhere(value: Any) -> None:
        made = value["machine"]["source"]
        made.update(commit="1" * 40, code="2" * 64)
        made["versions"]["numpy"] = "1.0"

    tamper.edit(record, elsewhere)
    differing = list(difference.lines(run, other))
    assert any(line.startswith("code ") and "111111111111" in line for line in differing)
    assert any(line.startswith("environment numpy: ") for line in differing)
    assert list(difference.lines(run, run))[2:] == ["they do not differ"]
    with pytest.raises(ValueError, match=r"is a run, .* is an experiment\. Remedy"):
        list(difference.lines(run, project.experiment))
    tamper.forged_weights(project)
    trained = audit.replayed(run)
    assert [f.path for f in trained.failures] == [str(run / "model")]


@pytest.mark.timeout(600)
def test_evaluations_come_out_again_and_made_up_ones_do_not(built: Path, tmp_path: Path) -> None:
    project = tamper.copy(built, tmp_path / "copy")
    of = contents.of_folder(project.experiment)
    for forge, failures in ((lambda: None, 0), (lambda: tamper.forged_rollouts(project), 1)):
        forge()
        audited = contents.begin(tamper.NAME)
        contents.close(of, audited)
        replay.deep(of, audited)
        assert len(audited.findings.failures) == failures
        assert audited.findings.checks["replay"] > 100
    assert "rollouts.parquet, row " in audited.findings.failures[0].path


@pytest.mark.timeout(600)
def test_the_page_says_that_runs_are_of_two_commits(built: Path, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    shutil.copytree(built, folder, symlinks=True)
    project = tamper.Project(folder, folder)
    page = project.experiment / "report.html"
    one = r"All \d+ runs were trained, played and scored by this code"
    assert re.search(one, page.read_text())
    run(folder, "git", *tamper.WHO, "commit", "-q", "--allow-empty", "-m", "another")
    commits = run(folder, "git", "rev-parse", "HEAD", "HEAD~1").split()
    scores = project.played("scores").relative_to(folder)
    assert snakemake(folder, "--forcerun", str(scores)).returncode == 0
    text = page.read_text()
    assert "The runs were not all made by one code" in text
    assert "the package's files were the same ones at all these commits" in text
    for commit in commits:
        assert commit in text
    assert tamper.audited(project).code == PASSED
