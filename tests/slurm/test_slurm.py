"""The workflow on a real SLURM cluster. Skipped where there is none; CCPO_SLURM_LOCAL names a script that starts one on this machine.

The faults and the storm take half an hour: `python tests/slurm/faults.py`, `python tests/slurm/chaos.py`.
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
from harness import Study, cluster_answers, local, sh


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A cluster, started and stopped here unless one is there."""
    if cluster_answers():
        yield
        return
    if not os.environ.get("CCPO_SLURM_LOCAL"):
        pytest.skip("no SLURM cluster answers, and CCPO_SLURM_LOCAL names no script that starts one")
    local("start")
    yield
    local("stop")
    left = subprocess.run(["pgrep", "-x", "slurmctld|slurmd|slurmdbd|munged|mariadbd"], capture_output=True, text=True).stdout
    assert not left, f"daemons left behind: {left}"


@pytest.mark.usefixtures("cluster")
def test_a_study_on_a_cluster(tmp_path: Path) -> None:
    """From an experiment to its report; the GPU rules on the GPU partition with a GPU of their own; a killed Snakemake is taken over."""
    study = Study(tmp_path / "study", steps=40, seeds=[0])
    shown = tmp_path / "shown"
    (study.bin / "python").write_text(
        f'#!/bin/bash\necho "$3 $SLURM_JOB_PARTITION $CUDA_VISIBLE_DEVICES" >> {shown}\nexec {sys.executable} "$@"\n'
    )
    (study.bin / "python").chmod(0o755)
    study.start()
    study.training(least=1, seconds=240)
    study.kill()
    study.process.wait()
    study.start()
    assert study.wait(600) == 0, study.text()[-4000:]
    study.end()
    assert (study.folder / "results/experiments/faults/report.html").is_file()
    assert "a killed Snakemake left" in study.text()
    assert not study.watch.returned
    said = set(shown.read_text().splitlines())
    assert all(re.search(rf"^{verb} gpu [01]$", "\n".join(said), re.MULTILINE) for verb in ("train", "rollout")), said
    assert any(line.startswith("score cpu") for line in said)
    assert sh("squeue", "-h", "--me") == ""
