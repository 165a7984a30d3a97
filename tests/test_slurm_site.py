"""What is asked of SLURM, in which state of a job, with SLURM's own words; the cluster itself is
asked in tests/slurm.
"""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path

import pytest

from ccpo.operate import slurm

FORK = multiprocessing.get_context("fork")


class Slurm:
    """Answers what the commands ask, and remembers them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **said: str) -> None:
        self.said = said
        self.asked = list[str]()
        monkeypatch.setattr(slurm, "ask", self)

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


def test_a_site_that_forbids_it_is_left_to_the_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(*command: str) -> str:
        if command[0] == "scontrol":
            raise ValueError("scontrol requeue 77: Requested operation is presently disabled")
        return "RUNNING"

    monkeypatch.setattr(slurm, "ask", ask)
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
