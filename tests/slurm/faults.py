"""What happens to a study on a cluster, fault by fault: python tests/slurm/faults.py [NAME ...]

Each fault strikes a study of two runs on a real cluster; the study must end, or stop with a clear
message and end when it is started again, and its tables must be those of a study that nothing
happened to. Prints a table: outcome, seconds lost, times that trainings began again.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from harness import (
    Study,
    cluster_answers,
    differences,
    kill_controller,
    kill_node,
    local,
    node_of,
    sh,
    tell,
    until,
)

STEPS = 400
SEEDS = [0]
LONG = 600.0  # seconds after which a study is given up


def time_limit(study: Study) -> str:
    """A training's limit is shorter than the training: it saves at the signal, queues its job again
    and goes on.
    """
    study.start("--set-resources", "train:runtime=1", "train:slurm_extra=--signal=TERM@20")
    assert study.wait(LONG) == 0
    assert saved(study)
    # sacct lists each stay in the queue of a job that was queued again
    stays = sh("sacct", "-X", "-D", "-n", "-S", "now-15minutes", "-o", "jobid,state").split("\n")
    times = sum("REQUEUED" in line for line in stays)
    assert times, stays
    return f"saved at the signal; jobs queued themselves again {times} times"


def scancel(study: Study) -> str:
    """Somebody cancels a training."""
    study.start()
    sh("scancel", study.training())
    assert study.wait(LONG) == 0
    assert saved(study)
    return "saved, made again by a retry"


def preemption(study: Study) -> str:
    """Jobs of a higher partition take all nodes from a training."""
    study.start("--set-resources", "train:slurm_partition=scavenge", "train:gres=gpu:1")
    job = study.training()
    command = "sbatch --parsable -p cpu -A test -N 4 --exclusive --mem=0 -t 1 -o /dev/null --wrap"
    greedy = sh(*command.split(), "sleep 10")
    until(
        lambda: sh("squeue", "-h", "-j", job, "-o", "%T") == "PENDING",
        60,
        "the training is pre-empted",
    )
    sh("scancel", greedy)
    assert study.wait(LONG) == 0
    assert saved(study)
    return "saved, queued again by SLURM"


def drained(study: Study) -> str:
    """The node of a training is drained while it runs, and comes back after it."""
    study.start()
    node = node_of(study.training())
    sh("scontrol", "update", f"nodename={node}", "state=drain", "reason=test")
    try:
        assert study.wait(LONG) == 0
    finally:
        sh("scontrol", "update", f"nodename={node}", "state=resume")
    return "the training ended there, later jobs went elsewhere"


def node_killed(study: Study) -> str:
    """The node of a training dies with all that runs on it."""
    study.start()
    kill_node(node_of(study.training(least=12)))
    time.sleep(50)  # longer than the controller waits for a node
    local("start")
    assert study.wait(LONG) == 0
    return "queued again by SLURM, went on from its checkpoint"


def over_memory(study: Study) -> str:
    """The first attempts of a training get too little memory."""
    study.start("--set-resources", "train:mem_mb=450*attempt")
    assert study.wait(LONG) == 0
    assert "Trying to restart" in study.text()
    return "killed, made again with the memory of the next attempt"


def controller(study: Study) -> str:
    """slurmctld dies, and is away for 25 seconds."""
    study.start()
    study.training()
    kill_controller()
    time.sleep(25)
    local("start")
    assert study.wait(LONG) == 0
    return "nothing was lost"


def interrupted(study: Study) -> str:
    """Ctrl-C of Snakemake, and started again."""
    study.start()
    study.training()
    study.kill(signal.SIGINT)
    assert study.wait(120) != 0
    until(
        lambda: not sh("squeue", "-h", "-t", "pending,running,completing"), 60, "its jobs are gone"
    )
    study.start()
    assert study.wait(LONG) == 0
    return "jobs cancelled, saved; the next Snakemake went on"


def killed(study: Study) -> str:
    """kill -9 of Snakemake, whose jobs live on, and started again at once."""
    study.start()
    study.training()
    study.kill()
    study.process.wait()
    study.start()
    assert study.wait(LONG) == 0
    assert "a killed Snakemake left" in study.text()
    return "the next Snakemake ended the jobs left behind (they saved) and went on"


def full_disk(study: Study) -> str:
    """The file system of the checkpoints is full; later it is not."""
    scratch = study.folder / "scratch"
    scratch.mkdir()
    sh("mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(scratch))
    try:
        study.start("--retries", "1")
        assert study.wait(LONG) != 0
        assert "No space left on device" in study.text(), "the message is clear"
        sh("mount", "-o", "remount,size=64m", str(scratch))
        study.start()
        assert study.wait(LONG) == 0
    finally:
        sh("umount", "-l", str(scratch))
    return "stopped with `No space left on device`; started again, went on"


def fails_once(study: Study) -> str:
    """An evaluation fails, once."""
    shim(
        study,
        'if [ "$3" = rollout ] && mkdir "$0.failed" 2>/dev/null; then echo "a cosmic ray" >&2; '
        "exit 1; fi",
    )
    study.start()
    assert study.wait(LONG) == 0
    assert "Trying to restart" in study.text()
    return "made again by a retry"


def fails_always(study: Study) -> str:
    """One run's evaluation fails whenever it is tried; the cause is removed, and Snakemake started
    again.
    """
    shim(
        study,
        'case "$3 $*" in "rollout "*.ccpo.*) echo "the GPU fell off the bus" >&2; exit 1;; esac',
    )
    study.start("--retries", "1")
    assert study.wait(LONG) != 0
    said = study.text()
    words = (
        r"failed after 2 attempts: rollout run=\S*\.ccpo\.\S*\n  the GPU fell off the bus\n  "
        r"log: logs/rollout/\S+\n  again: snakemake r"
    )
    assert re.search(words, said), said[-3000:]
    # its score is not: scores share jobs, and a job of scores waits for all of its runs
    assert sum(len(list(run.glob("eval/*/rollouts.parquet"))) for run in study.runs()) == 1, (
        "the other run is played"
    )
    (study.bin / "python").unlink()
    study.start()
    assert study.wait(LONG) == 0
    return "stopped with the job's last words, its log and the command; the other run was played"


def shim(study: Study, script: str) -> None:
    """A `python` that comes before the real one, in which the faults of programs are put."""
    path = study.bin / "python"
    path.write_text(
        f'#!/bin/bash\nif [ "$1 $2" = "-m ccpo" ]; then\n{script}\nfi\nexec {sys.executable} "$@"\n'
    )
    path.chmod(0o755)


def saved(study: Study) -> bool:
    """Whether a training heard the signal and saved."""
    return any("stopped by a signal" in words for words in study.watch.ended)


ALL = [
    time_limit,
    scancel,
    preemption,
    drained,
    node_killed,
    over_memory,
    controller,
    interrupted,
    killed,
    full_disk,
    fails_once,
    fails_always,
]
FAULTS: dict[str, Callable[[Study], str]] = {fault.__name__: fault for fault in ALL}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(FAULTS)} (all)")
    parser.add_argument("--keep", action="store_true", help="keep the studies' folders")
    a = parser.parse_args()
    if unknown := set(a.names) - set(FAULTS):
        parser.error(f"unknown fault(s) {sorted(unknown)}; known: {', '.join(FAULTS)}")
    if os.environ.get("CCPO_SLURM_LOCAL"):
        local("start")
    assert cluster_answers(), (
        "no SLURM cluster answers; CCPO_SLURM_LOCAL names a script that starts one"
    )
    base = Path(tempfile.mkdtemp(prefix="ccpo-faults-"))
    rows = []
    wrong = 0
    peace = Study(base / "peace", STEPS, SEEDS)
    begun = time.monotonic()
    peace.start()
    assert peace.wait(LONG) == 0, peace.text()[-3000:]
    model = sum(
        float(p.read_text().splitlines()[1].split("\t")[0])
        for p in peace.folder.glob("logs/benchmarks/model/*.tsv")
    )
    calm = time.monotonic() - begun - model
    peace.end()
    tell(f"undisturbed: {calm:.0f} s")
    for name in a.names or FAULTS:
        study = Study(base / name, STEPS, SEEDS, like=peace.folder)
        begun = time.monotonic()
        try:
            outcome = FAULTS[name](study)
            lost = time.monotonic() - begun - calm
            unlike = differences(study.folder, peace.folder)
            twice = study.watch.returned
            rows.append(
                (
                    name,
                    outcome,
                    f"{lost:+.0f} s",
                    str(study.starts()),
                    "identical" if not unlike else f"DIFFERENT {unlike}",
                    "none" if not twice else str(twice),
                )
            )
            wrong += bool(unlike or twice)
        except Exception as error:  # one fault that is not survived does not hide the others
            rows.append((name, f"NOT SURVIVED: {error!r:.600}", "", "", "", ""))
            wrong += 1
        finally:
            study.end()
            subprocess.run(["scancel", "-u", "root"], capture_output=True)
        tell(*rows[-1])
    print(
        "\n| fault | outcome | lost | trainings begun again | tables | writers that came back "
        "|\n|---|---|---|---|---|---|"
    )
    print("\n".join("| " + " | ".join(row) + " |" for row in rows))
    if not a.keep and not wrong:
        shutil.rmtree(base)
    else:
        print(f"the studies are in {base}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
