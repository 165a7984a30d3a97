"""What is asked of SLURM, in which state of a job, with SLURM's own words; the cluster itself is
asked in tests/slurm.
"""

from __future__ import annotations

import ast
import multiprocessing
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from conftest import ROOT

from ccpo.operate import slurm

FORK = multiprocessing.get_context("fork")


class Slurm:
    """Answers what the commands ask, and remembers them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **said: str) -> None:
        self.said = said
        self.asked = list[str]()
        monkeypatch.setattr(slurm, "ask", self)
        monkeypatch.setattr(slurm.shutil, "which", lambda name: name)

    def __call__(self, *command: str) -> str:
        self.asked.append(" ".join(command))
        return self.said.get(command[0], "")


@pytest.mark.parametrize(
    ("state", "again", "words"),
    [
        ("RUNNING", True, "SLURM job 77 queued again"),
        (
            "COMPLETING",
            False,
            "SLURM job 77 is COMPLETING",
        ),  # cancelled or over its limit: to queue it again would undo that
        ("CANCELLED", False, "SLURM job 77 is CANCELLED"),
        ("PREEMPTED", False, "SLURM job 77 is PREEMPTED"),
    ],
)
def test_a_job_queues_itself_again_unless_it_is_being_ended(
    monkeypatch: pytest.MonkeyPatch, state: str, again: bool, words: str
) -> None:
    asked = Slurm(monkeypatch, squeue=state)
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    assert slurm.requeue().startswith(words)
    assert ("scontrol requeue 77" in asked.asked) is again


def test_outside_of_slurm_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Slurm(monkeypatch)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert slurm.requeue() == ""
    assert asked.asked == []


def test_an_inherited_job_id_without_srun_is_no_job(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As in a container on a node: nothing is asked, one process does, and a word says so."""
    asked = Slurm(monkeypatch)
    monkeypatch.setattr(slurm.shutil, "which", lambda name: None)
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    for name in ("CCPO_RANKS", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert slurm.launch(["train"]) is None
    assert slurm.requeue() == ""
    assert asked.asked == []
    assert "there is no srun" in caplog.text


@pytest.mark.parametrize("rule", ["train", "evaluate"])
@pytest.mark.parametrize("srun", [True, False])
def test_the_shell_makes_a_step_only_where_there_is_srun(
    tmp_path: Path, srun: bool, rule: str
) -> None:
    """What the rules' shells do, with a srun that says how it was called."""
    text = (ROOT / f"workflow/rules/{rule}.smk").read_text()
    line = next(line for line in text.splitlines() if "command -v srun" in line)
    step = ast.literal_eval(line.strip()).format()  # as Snakemake fills a command in
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "echo").symlink_to(shutil.which("echo") or "")
    if srun:
        (programs / "srun").write_text('#!/bin/sh\necho srun "$@"\n')
        (programs / "srun").chmod(0o755)
    environment = {"PATH": str(programs), "SLURM_JOB_ID": "77"}
    script = f"set -euo pipefail; export OMP_NUM_THREADS=2; {step} $step echo trained"
    done = subprocess.run(
        ["/bin/bash", "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    with_step = "srun --overlap -n1 -c 2 echo trained\n"
    assert done.stdout == (with_step if srun else "trained\n")
    del environment["SLURM_JOB_ID"]
    done = subprocess.run(
        ["/bin/bash", "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "trained\n"


def test_a_site_that_forbids_it_is_left_to_the_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(*command: str) -> str:
        if command[0] == "scontrol":
            raise ValueError("scontrol requeue 77: Requested operation is presently disabled")
        return "RUNNING"

    monkeypatch.setattr(slurm, "ask", ask)
    monkeypatch.setattr(slurm.shutil, "which", lambda name: name)
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    assert "not queued again" in slurm.requeue()


def test_the_jobs_of_a_killed_snakemake_are_ended_those_of_a_living_one_are_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = Slurm(monkeypatch)

    def log(name: str) -> Path:
        path = tmp_path / f"{name}.log"
        path.write_text(f"Building DAG of jobs...\nSLURM run ID: {name}\n")
        return path

    def live(name: str) -> None:
        held = slurm.begin(log(name), tmp_path / "marks")
        assert held
        time.sleep(60)

    there = {name: FORK.Process(target=live, args=(name,)) for name in ("killed", "living")}
    for name, process in there.items():
        process.start()
        while (
            not (tmp_path / "marks" / name).is_file() or not (tmp_path / "marks" / name).read_text()
        ):
            time.sleep(0.02)
    there["killed"].kill()
    there["killed"].join()
    try:
        held = slurm.begin(log("next"), tmp_path / "marks")
        assert held
        assert {
            line.split("--name ")[1].split()[0] for line in asked.asked if "--name" in line
        } == {"killed"}
        assert sorted(p.name for p in (tmp_path / "marks").iterdir()) == ["living", "next"]
        held.close()
    finally:
        there["living"].kill()
        there["living"].join()
    (tmp_path / "local.log").write_text("Building DAG of jobs...\n")
    assert slurm.begin(tmp_path / "local.log", tmp_path / "marks") is None
