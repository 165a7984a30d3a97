"""A study in a folder of its own on a real SLURM cluster, and everything that can go wrong with it.

The cluster is whatever `sinfo` answers for, or what the script named by CCPO_SLURM_LOCAL starts
(`SCRIPT start|stop`); the faults that kill daemons and nodes need the latter, whose state folder is
SLURM_LOCAL_DIR.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STATE = Path(os.environ.get("SLURM_LOCAL_DIR", "/tmp/slurm-local"))
TABLES = ("train", "credit", "ledger", "rollouts", "scores", "graders")

EXPERIMENT = """\
question: Does a study come out the same whatever happens to its jobs?
note: A few updates of a barely taught model; its numbers mean nothing.
primary_metric: accuracy
token_tolerance: 0.5
compare:
  - [ccpo, shared]
evaluate: {name: smoke, tasks: 16}
base:
  benchmark: {name: arithmetic, operations: 2, largest: 9, n_train: 64, n_test: 16}
  model: smoke
  sampling: {max_tokens: [16, 16]}
  train: {steps: %d, tasks: 8, lr: 1.0e-4}
grid:
  condition:
    shared: {team: think_solve, credit: shared, policy: separate, train: {fanout: [4, 1]}}
    ccpo:
      team: think_solve
      credit: ccpo
      policy: separate
      advantage: group_z
      train: {fanout: [4, 1]}
  seed: %s
"""


# whoever starts this in the background has SIGINT ignored, and so would Snakemake
signal.signal(signal.SIGINT, signal.default_int_handler)


def tell(*words: object) -> None:
    """One line for who waits."""
    print(time.strftime("%H:%M:%S"), *words, flush=True)


def sh(*command: str) -> str:
    """Runs a command that must succeed."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr or done.stdout}")
    return done.stdout.strip()


def cluster_answers() -> bool:
    """Whether a cluster is there."""
    return (
        bool(shutil.which("sinfo"))
        and subprocess.run(["sinfo", "-h"], capture_output=True).returncode == 0
    )


def local(verb: str) -> None:
    """Starts, repairs or stops the cluster of this machine; a node that still ends a job is waited
    for.
    """
    for left in (2, 1, 0):
        try:
            sh(os.environ["CCPO_SLURM_LOCAL"], verb)
            return
        except RuntimeError:
            if not left:
                raise


def until(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Waits."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"after {seconds:.0f} s still not: {what}")
        time.sleep(0.2)


@dataclass
class Watch:
    """Who wrote in the runs' folders, sampled five times a second: a writer that was followed by
    another must never write again.
    """

    folder: Path
    seen: dict[str, list[str]] = field(default_factory=dict)
    ended: list[str] = field(default_factory=list)  # what writers said that ended them
    returned: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self.over.wait(0.2):
            for path in self.folder.glob("scratch/*/status.json"):
                try:
                    status = json.loads(path.read_text())
                    token = status["token"]
                except (OSError, ValueError):
                    continue
                if status["released"] and status["error"] not in ["", *self.ended[-1:]]:
                    self.ended.append(status["error"])
                writers = self.seen.setdefault(path.parent.name, [])
                if token in writers[:-1]:
                    self.returned.append(f"{path.parent.name}: {token}")
                elif not writers or writers[-1] != token:
                    writers.append(token)


class Study:
    """A checkout of the workflow with the experiment `faults`, and the Snakemake that makes it."""

    def __init__(
        self,
        folder: Path,
        steps: int = 0,
        seeds: Sequence[int] = (),
        like: Path | None = None,
        experiment: str = "faults",
    ) -> None:
        self.folder = folder
        self.process = None
        self.experiment = experiment
        folder.mkdir(parents=True)
        for name in ("workflow", "config", "ccpo", "envs"):
            shutil.copytree(
                ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        shutil.copy(ROOT / "Snakefile", folder / "Snakefile")
        for link in ("profiles", "slurm"):
            (folder / link).symlink_to(os.readlink(ROOT / link))
        (folder / "config/experiments/faults.yaml").write_text(EXPERIMENT % (steps, list(seeds)))
        if like:  # the model is the same: it need not be made again
            for name in ("models", "tasks"):
                shutil.copytree(like / "results" / name, folder / "results" / name)
        # comes first on PATH, here and in the jobs: what a test puts before python
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.watch = Watch(folder)
        threading.Thread(target=self.watch.run, daemon=True).start()

    def start(self, *more: str) -> None:
        """Starts Snakemake, unlocked if one was killed before."""
        environment = {
            **os.environ,
            "PATH": f"{self.bin}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        quick = [
            "--latency-wait",
            "5",
            "--slurm-init-seconds-before-status-checks",
            "2",
            "--group-components",
            "scores=2",
        ]
        command = [
            "snakemake",
            "--profile",
            "slurm",
            "--config",
            f"experiments=[{self.experiment}]",
            *quick,
            *more,
        ]
        subprocess.run(
            [*command, "--unlock"],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            check=True,
        )
        with open(self.folder / "said.log", "ab") as said:
            self.process = subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=said, stderr=subprocess.STDOUT
            )

    def wait(self, seconds: float) -> int:
        """Snakemake's exit code."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            tail = "\n".join(self.text().splitlines()[-30:])
            raise RuntimeError(
                f"Snakemake still runs after {seconds:.0f} s:\n{sh('squeue')}\n{tail}"
            ) from None

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Sends Snakemake a signal."""
        self.process.send_signal(number)

    def text(self) -> str:
        """All that Snakemake said."""
        return (self.folder / "said.log").read_text(errors="replace")

    def runs(self) -> list[Path]:
        """Folders of the runs."""
        return sorted((self.folder / "results/runs").iterdir())

    def updates(self) -> dict[str, int]:
        """Updates done by trainings that live now."""
        found = {}
        for path in self.folder.glob("scratch/*/status.json"):
            try:
                status = json.loads(path.read_text())
            except (OSError, ValueError):
                continue
            if status["stage"] == "train" and not status["released"]:
                found[path.parent.name] = int(status["done"])
        return found

    def training(self, least: int = 3, seconds: float = 120) -> str:
        """SLURM's job number of a training that has done some updates."""
        until(
            lambda: any(n >= least for n in self.updates().values()),
            seconds,
            f"a training with {least} updates",
        )
        run = next(run for run, n in self.updates().items() if n >= least)
        return str(json.loads((self.folder / "scratch" / run / "status.json").read_text())["job"])

    def starts(self) -> int:
        """How often trainings began again, in all finished runs."""
        return sum(
            json.loads((run / "provenance.json").read_text())["trained"]["starts"] - 1
            for run in self.runs()
        )

    def end(self) -> None:
        """Ends what still runs."""
        self.watch.over.set()
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def node_of(job: str) -> str:
    """The node a job runs on."""
    return sh("squeue", "-h", "-j", job, "-o", "%N")


def kill_node(node: str) -> None:
    """The node's daemon and all processes of its jobs die at once."""
    daemon = int((STATE / "run" / f"{node}.pid").read_text())
    jobs = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                environment = (entry / "environ").read_bytes()
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if f"SLURMD_NODENAME={node}\0".encode() in environment or (
                command.startswith(b"slurmstepd") and f"SLURM_NODE={node}".encode() in environment
            ):
                jobs.append(int(entry.name))
    for pid in [daemon, *jobs]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def kill_controller() -> None:
    """slurmctld dies."""
    os.kill(int((STATE / "run" / "slurmctld.pid").read_text()), signal.SIGKILL)


def differences(study: Path, peaceful: Path) -> list[str]:
    """What is not the same, byte for byte, in a study and in one that nothing happened to. Seconds
    are not compared.
    """
    sys.path.insert(0, str(ROOT))
    from ccpo import schema

    out = []
    ours, theirs = (
        sorted(p.name for p in (s / "results/runs").iterdir()) for s in (study, peaceful)
    )
    if ours != theirs:
        return [f"runs {ours} and {theirs}"]
    for run in ours:
        a, b = (s / "results/runs" / run for s in (study, peaceful))
        for name in TABLES:
            pair = [(x / f"{name}.parquet") for x in (a, b)]
            if not pair[0].is_file() or pair[0].read_bytes() != pair[1].read_bytes():
                out.append(f"{run}/{name}")
        if not (a / "model").is_dir() or schema.sha256(a / "model") != schema.sha256(b / "model"):
            out.append(f"{run}/model")
    for name in ("stats.json", "tables/main.csv"):
        pair = [s / "results/experiments/faults" / name for s in (study, peaceful)]
        if not pair[0].is_file() or pair[0].read_bytes() != pair[1].read_bytes():
            out.append(name)
    return out
