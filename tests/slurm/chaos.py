"""A storm: a study of twelve runs on a real cluster, something goes wrong at a random place every
20 seconds for ten minutes, then peace.

python tests/slurm/chaos.py [--minutes 10] [--every 20] [--seed 0]. The study must end, with the
tables of one that nothing happened to, each token in its ledger once, and no writer that came back
after another had taken its place.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from harness import Study, cluster_answers, differences, kill_controller, kill_node, local, sh, tell

STEPS = 300
SEEDS = [0, 1, 2, 3, 4, 5]
NODES = ("n1", "n2", "n3", "n4")


def running() -> list[str]:
    """Numbers of the jobs that run."""
    return sh("squeue", "-h", "-t", "running", "-o", "%i").split()


def trainers() -> list[int]:
    """Processes that train or evaluate."""
    found = subprocess.run(
        ["pgrep", "-f", "python -m ccpo (train|rollout|score)"], capture_output=True, text=True
    ).stdout
    return [int(pid) for pid in found.split()]


class Storm:
    """What may go wrong, each a method; the study is put back on its feet by the next one at the
    latest.
    """

    def __init__(self, study: Study, rng: random.Random) -> None:
        self.study = study
        self.rng = rng

    def cancel(self) -> None:
        """A job is cancelled."""
        if jobs := running():
            sh("scancel", self.rng.choice(jobs))

    def requeue(self) -> None:
        """A job is pre-empted."""
        if jobs := running():
            with contextlib.suppress(RuntimeError):  # it ended just now
                sh("scontrol", "requeue", self.rng.choice(jobs))

    def process(self) -> None:
        """A worker is killed."""
        if pids := trainers():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.rng.choice(pids), signal.SIGKILL)

    def drain(self) -> None:
        """A node is drained, and another is given back."""
        sh(
            "scontrol",
            "update",
            f"nodename={self.rng.choice(NODES)}",
            "state=drain",
            "reason=storm",
        )
        self.repair()

    def node(self) -> None:
        """A node dies."""
        kill_node(self.rng.choice(NODES))

    def controller(self) -> None:
        """The controller is away for five seconds."""
        kill_controller()
        time.sleep(5)
        local("start")

    def snakemake(self) -> None:
        """Snakemake is killed, or interrupted, and started again."""
        self.study.kill(self.rng.choice([signal.SIGKILL, signal.SIGINT]))
        self.study.wait(180)
        self.study.start()

    def repair(self) -> None:
        """Daemons and nodes that went away come back."""
        local("start")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--every", type=float, default=20)
    parser.add_argument("--seed", type=int, default=0)
    a = parser.parse_args()
    if os.environ.get("CCPO_SLURM_LOCAL"):
        local("start")
    assert cluster_answers(), (
        "no SLURM cluster answers; CCPO_SLURM_LOCAL names a script that starts one"
    )
    base = Path(tempfile.mkdtemp(prefix="ccpo-chaos-"))
    peace = Study(base / "peace", STEPS, SEEDS)
    begun = time.monotonic()
    peace.start("--jobs", "8")
    assert peace.wait(3600) == 0, peace.text()[-3000:]
    peace.end()
    tell(f"undisturbed: {time.monotonic() - begun:.0f} s")
    study = Study(base / "storm", STEPS, SEEDS, like=peace.folder)
    storm = Storm(study, random.Random(a.seed))
    faults: list[Callable[[], None]] = [
        storm.cancel,
        storm.requeue,
        storm.process,
        storm.drain,
        storm.node,
        storm.controller,
        storm.snakemake,
    ]
    counts: Counter[str] = Counter()
    begun = time.monotonic()
    study.start("--jobs", "8")
    while time.monotonic() - begun < 60 * a.minutes:
        time.sleep(a.every)
        if study.process.poll() is not None:  # it gave up, or is done
            tell(f"Snakemake ended with {study.process.returncode}")
            study.start("--jobs", "8")
        fault = storm.rng.choice(faults)
        counts[fault.__name__] += 1
        tell("fault:", fault.__name__, (fault.__doc__ or "").strip())
        fault()
        if fault.__name__ != "node":
            storm.repair()
    tell("peace", dict(counts))
    storm.repair()
    calm = time.monotonic()
    while study.wait(3600) != 0:
        tell("Snakemake ended with an error; once more")
        assert time.monotonic() - calm < 3600, study.text()[-3000:]
        study.start("--jobs", "8")
    study.end()
    unlike = differences(study.folder, peace.folder)
    print(
        f"\n{sum(counts.values())} faults {dict(counts)}; {len(study.runs())} runs; trainings "
        f"began again {study.starts()} times"
    )
    print(
        f"peace to the end: {time.monotonic() - calm:.0f} s; writers that came back: "
        f"{study.watch.returned or 'none'}"
    )
    print(f"tables, ledgers, models, statistics: {unlike or 'identical to the undisturbed study'}")
    wrong = bool(unlike or study.watch.returned)
    if wrong:
        print(f"the studies are in {base}")
    else:
        shutil.rmtree(base)
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
