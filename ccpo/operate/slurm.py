"""What we ask of SLURM: to queue a job again that saved itself, to use all GPUs of a job, to end
the jobs that a killed Snakemake left.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from ccpo import lease

log = logging.getLogger("ccpo")

PATIENCE = 180.0  # seconds in which ended jobs must leave the queue


def ask(*command: str, timeout: float = 60) -> str:
    """What a command of SLURM prints.

    Raises:
        ValueError: it is not there, does not answer in time, or refuses; with its own words.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    except FileNotFoundError:
        raise ValueError(
            f"{command[0]} is not on PATH. Remedy: load the cluster's SLURM module, or run on a "
            "login node."
        ) from None
    except subprocess.TimeoutExpired:
        raise ValueError(
            f"{' '.join(command)} did not answer in {timeout:.0f} s. Remedy: is the controller "
            "up (scontrol ping)?"
        ) from None
    if done.returncode:
        raise ValueError(
            f"{' '.join(command)}: "
            f"{(done.stderr or done.stdout).strip() or f'exit code {done.returncode}'}"
        )
    return done.stdout.strip()


def own_job() -> str:
    """The id of the SLURM job that this process is part of ("" outside of one). An id without srun
    is inherited, as a container or a shell inherits it: no step can be made of that job.
    """
    job = os.environ.get("SLURM_JOB_ID", "")
    if job and not shutil.which("srun"):
        log.warning(
            "SLURM_JOB_ID is %s and there is no srun: this is taken for no job's process", job
        )
        return ""
    return job


def requeue() -> str:
    """Queues this process's own SLURM job again, unless it is none, or is being ended; says what it
    did ("" for nothing).

    A job over its signal before the time limit is RUNNING, one that is cancelled, pre-empted or
    over its limit is not: the first would else be a failure that uses up a retry, the others are
    the cluster's to decide.
    """
    job = own_job()
    if not job:
        return ""
    try:
        state = ask("squeue", "-h", "-j", job, "-o", "%T")
        if state != "RUNNING":
            return f"SLURM job {job} is {state}: it goes on when it is started again"
        ask("scontrol", "requeue", job)
    except ValueError as error:
        return f"not queued again ({error}); the retry of the profile goes on"
    return f"SLURM job {job} queued again"


def launch(arguments: Sequence[str]) -> list[str] | None:
    """The command that starts `python -m ccpo ARGUMENTS --ranks N` on all GPUs of this SLURM job
    (or CCPO_RANKS processes here).

    One torchrun a node, which hands signals on and waits as long as saving takes. None where one
    process does, or this is one of several.
    """
    job = own_job()
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    nodes = 1
    a_node = int(os.environ.get("CCPO_RANKS", "0"))
    names = ""
    if job and not a_node:
        answer, _, names = ask("squeue", "-h", "-j", job, "-o", "%D|%N").partition("|")
        nodes = int(answer)
        a_node = len(gpus.split(",")) if gpus else 1
    if "WORLD_SIZE" in os.environ or nodes * max(a_node, 1) == 1:
        return None
    several: list[str] = []
    meet = ["--standalone"]
    if nodes > 1:
        first = ask("scontrol", "show", "hostnames", names).splitlines()[0]
        meet = [
            "--rdzv-backend",
            "c10d",
            "--rdzv-id",
            str(job),
            "--rdzv-endpoint",
            f"{first}:{20000 + int(job or 0) % 20000}",
        ]
        several = ["srun", "--overlap", f"-N{nodes}", f"-n{nodes}", "--ntasks-per-node=1"]
    torchrun = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        f"--nnodes={nodes}",
        f"--nproc-per-node={a_node}",
        "--shutdown-timeout=3600",
    ]
    return [*several, *torchrun, *meet, "-m", "ccpo", *arguments, "--ranks", str(nodes * a_node)]


def begin(snakemake_log: Path, folder: Path = Path(".snakemake/ccpo")) -> BinaryIO | None:
    """Marks the jobs of this Snakemake as its own for as long as what is returned stays open; ends
    those of Snakemakes that were killed, since they and their successors would write the same
    files. None where no SLURM is used.

    Raises:
        ValueError: jobs of a killed Snakemake do not leave the queue.
    """
    run_id = re.search(r"SLURM run ID: (\S+)", Path(snakemake_log).read_text(errors="replace"))
    if not run_id:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(folder.iterdir()):
        _end_orphans(path)
    mark, _ = lease.lock(folder / run_id[1])
    if mark is None:
        raise ValueError(f"{folder / run_id[1]} is held by another Snakemake of the same run id")
    mark.write(lease.machine().encode())
    mark.flush()
    return mark


def _end_orphans(path: Path) -> None:
    """Ends the jobs of the Snakemake whose mark this is, if it was killed on this machine."""
    mark, exact = lease.lock(path)
    if mark is None or not exact:
        return  # it lives, or nobody can tell
    with mark:
        mark.seek(0)
        if mark.read().decode() == lease.machine():
            cancel(path.name)
            path.unlink()
        else:
            log.warning(
                "a Snakemake of another machine left %s; if it was killed, end its jobs: scancel "
                "--name %s",
                path,
                path.name,
            )


def cancel(name: str) -> None:
    """Cancels all jobs of a name and waits until they are gone: what they train is saved first."""
    deadline = time.monotonic() + PATIENCE
    listed = ask("squeue", "-h", "--me", "--name", name, "-o", "%i")
    if listed:
        log.warning(
            "a killed Snakemake left %d jobs (%s); they save and end", len(listed.split()), name
        )
        ask("scancel", "--me", "--name", name)
    while listed and ask("squeue", "-h", "--me", "--name", name, "-o", "%i"):
        if time.monotonic() > deadline:
            raise ValueError(
                f"jobs of a killed Snakemake ({name}) do not leave the queue. Remedy: scancel "
                f"--name {name}, then again."
            )
        time.sleep(2)
