"""The workflow on a real SLURM cluster. Skipped where there is none; CCPO_SLURM_LOCAL names a
script that starts one on this machine.

The faults and the storm take half an hour: `python tests/slurm/faults.py`, `python
    tests/slurm/chaos.py`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from harness import Study, cluster_answers, local, sh, until


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A cluster, started and stopped here unless one is there."""
    if cluster_answers():
        yield
        return
    if not os.environ.get("CCPO_SLURM_LOCAL"):
        pytest.skip(
            "no SLURM cluster answers, and CCPO_SLURM_LOCAL names no script that starts one"
        )
    local("start")
    yield
    sh("scancel", "--me", "--full")  # what a failed test left: a daemon's steps outlive it
    local("stop")
    until(lambda: not daemons(), 20, "all daemons are gone")


def daemons() -> list[str]:
    """The cluster's daemons that run; what is dead and only waits to be noticed does not."""
    said = subprocess.run(
        ["ps", "-eo", "stat=,comm="], capture_output=True, text=True, check=True
    ).stdout.split("\n")
    names = {"slurmctld", "slurmd", "slurmdbd", "slurmstepd", "munged", "mariadbd"}
    return [line for line in said if line and line.split()[1] in names and not line.startswith("Z")]


@pytest.fixture
def study(cluster: None, tmp_path: Path) -> Iterator[Study]:
    """The experiment `smoke`, not yet started."""
    study = Study(tmp_path / "study", experiment="smoke")
    yield study
    study.end()


# 50 jobs on whatever cores there are: three minutes on two quiet ones, and what is stuck is said by
# `wait`, with the queue
@pytest.mark.timeout(2400)
def test_smoke_on_a_cluster(study: Study, tmp_path: Path) -> None:
    """The experiment `smoke` to its report; the GPU rules on the GPU partition with a GPU of their
    own; a killed Snakemake is followed.
    """
    shown = tmp_path / "shown"
    (study.bin / "python").write_text(
        f'#!/bin/bash\necho "$3 $SLURM_JOB_PARTITION $CUDA_VISIBLE_DEVICES" >> {shown}\nexec '
        f'{sys.executable} "$@"\n'
    )
    (study.bin / "python").chmod(0o755)
    study.start()
    until(lambda: shown.is_file() and "train" in shown.read_text(), 600, "a training")
    study.kill()
    study.process.wait()
    study.start()
    assert study.wait(1500) == 0, study.text()[-4000:]
    assert (study.folder / "results/experiments/smoke/report.html").is_file()
    assert "a killed Snakemake left" in study.text()
    assert not study.watch.returned
    said = shown.read_text()
    for verb in ("train", "rollout"):
        lines = re.findall(rf"^{verb} .*$", said, re.MULTILINE)
        assert len(lines) >= 8
        assert all(re.fullmatch(rf"{verb} gpu [01]", line) for line in lines), lines
    assert re.search(r"^score cpu $", said, re.MULTILINE)
    assert sh("squeue", "-h", "--me", "-t", "pending,running,completing") == ""
    done = subprocess.run(
        [sys.executable, "-m", "ccpo", "audit", "results/experiments/smoke/report.html"],
        cwd=study.folder,
    )
    assert done.returncode == 0
