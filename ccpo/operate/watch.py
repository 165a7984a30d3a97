"""A whole experiment as it stands, from files only: what waits, is queued, runs, was interrupted,
failed, is done.

Sources: the outputs that are there; `scratch/{run}/status.json`, in which whoever works on a run
says how far it is (ccpo/lease.py); Snakemake's own log, which knows what was submitted and what
failed; the logs of the jobs. No scheduler is asked, so it shows the same on a login node, on a
laptop that has the folder, and after everything ended.
"""

from __future__ import annotations

import re
import shlex
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean

from ccpo import lease, lineage
from ccpo.config import Experiment
from ccpo.operate.seconds import job_seconds

STAGES = {
    "train": "provenance.json",
    "rollout": "eval/{protocol}/rollouts.parquet",
    "score": "eval/{protocol}/scores.parquet",
}  # of a run, and what each leaves behind; the last two once for each protocol
STATES = ("failed", "running", "interrupted", "queued", "waiting", "done")
# seconds since its last sign of life within which a writer is taken to live
FRESH = lease.SILENT + 2 * lease.BEAT


@dataclass
class Job:
    """A job as Snakemake's log tells it. `state`: started, submitted, failed, finished."""

    rule: str
    jobid: str
    wildcards: dict[str, str] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)
    logs: list[str] = field(default_factory=list)
    state: str = "started"
    attempts: int = 1
    slurm: str = ""
    again: str = ""  # the command that makes its first output again


@dataclass(frozen=True)
class Run:
    """One run of an experiment as it stands. `share` of its stage is done; `left`: seconds until
    the stage ends, where that can be said; `ahead`: stages to come after it.
    """

    run: str
    condition: str
    seed: int
    stage: str
    state: str
    resumed: int = 0
    share: float | None = None
    left: float | None = None
    where: str = ""
    note: str = ""
    log: str = ""
    again: str = ""
    ahead: tuple[str, ...] = ()


def newest_log(folder: Path = Path(".snakemake/log")) -> Path | None:
    """Snakemake's newest log that is of jobs: unlocking leaves a log too, and so does finding
    nothing to do.
    """
    logs = sorted(folder.glob("*.snakemake.log"), reverse=True)
    return next((path for path in logs if "Job stats:" in path.read_text(errors="replace")), None)


def jobs(text: str) -> dict[str, Job]:
    """The jobs of a log of Snakemake, by its job id, each in its last state."""
    reading = _Reading(_SHOWN.sub("", text))
    for head, body in _blocks(reading.text):
        reading.block(head, body)
    return reading.jobs


class _Reading:
    """A log of Snakemake that is read block by block."""

    def __init__(self, text: str) -> None:
        command = re.search(r"^  Command: (.*)$", text, re.MULTILINE)
        self.text = text
        self.words = shlex.split(command[1])[1:] if command else []
        self.jobs: dict[str, Job] = {}
        self.groups: dict[str, list[str]] = {}  # job ids by the group they are submitted in
        self.group = ""

    def block(self, head: str, body: str) -> None:
        """What a line at the margin, with the lines below it, changes."""
        if match := re.match(r"\s*(?:local)?(?:rule|checkpoint) (\w+):$", head):
            self._begins(_job(match[1], body), in_group=head.startswith(" "))
        elif match := re.match(r"group job (\S+)", head):
            self.group = match[1]
            self.groups[match[1]] = []
        elif re.match(r"Error in (?:rule|group) ", head):
            self._change(re.findall(r"^\s+jobid: (\S+)", body, re.MULTILINE), "failed")
        elif match := re.match(r"Job (\S+) has been submitted with SLURM jobid (\S+)", head):
            for job in self._change(self.groups.get(match[1], [match[1]]), "submitted"):
                job.slurm = match[2]
        elif match := re.match(r"Trying to restart job (\S+?)\.", head):
            for job in self._change([match[1]], "started"):
                job.attempts += 1
        elif match := re.match(r"Finished jobid: (\S+)", head):
            self._change([match[1]], "finished")

    def _begins(self, job: Job, in_group: bool) -> None:
        before = self.jobs.get(job.jobid)
        if before and before.state == "failed":  # named inside the error of its group
            return
        job.attempts = before.attempts if before else 1
        job.again = shlex.join(["snakemake", *job.outputs[:1], *self.words])
        self.jobs[job.jobid] = job
        if in_group:
            self.groups[self.group].append(job.jobid)

    def _change(self, ids: Sequence[str], state: str) -> list[Job]:
        """Jobs that are known, in their new state."""
        changed = [self.jobs[each] for each in ids if each in self.jobs]
        for job in changed:
            job.state = state
        return changed


# A failed job's logs, which Snakemake shows where it is told to, the job's own Snakemake among
# them.
_SHOWN = re.compile(r"^Logfile \S+:\n={80}\n.*?^={80}\n", re.MULTILINE | re.DOTALL)


def _blocks(text: str) -> Iterator[tuple[str, str]]:
    """Lines at the margin (or that open a rule inside a group job), each with the indented lines
    below it.
    """
    head = ""
    body = list[str]()
    for line in text.splitlines():
        opens = re.match(r"\s+(local)?rule \w+:$", line) and not head.startswith("Error")
        if not line.startswith(" ") or opens:
            yield head, "\n".join(body)
            head = line
            body = []
        else:
            body.append(line)
    yield head, "\n".join(body)


def _job(rule: str, body: str) -> Job:
    """A job from the indented lines below its rule."""
    fields = dict(re.findall(r"^\s+(jobid|wildcards|output|log): (.*)$", body, re.MULTILINE))
    wildcards = [pair for pair in fields.get("wildcards", "").split(", ") if "=" in pair]
    paths = {
        key: [path for path in fields.get(key, "").split(", ") if path] for key in ("output", "log")
    }
    return Job(
        rule,
        fields.get("jobid", ""),
        dict(pair.split("=", 1) for pair in wildcards),
        paths["output"],
        paths["log"],
    )


def last_lines(path: str | Path, most: int = 1) -> list[str]:
    """The last lines of a log that say anything; one empty line where there are none."""
    try:
        lines = Path(path).read_text(errors="replace").splitlines()
    except OSError:
        return [""]
    own = [
        line.rstrip()
        for line in lines
        if line.strip() and not line.startswith(("srun: ", "slurmstepd"))
    ]
    return own[-most:] or [""]


def failures(text: str) -> list[str]:
    """Of each job that failed for good: what it said last, where its log lies, and how to run it
    again.
    """
    lines = []
    for job in jobs(text).values():
        if job.state == "failed":
            log = job.logs[0] if job.logs else ""
            name = ", ".join(f"{k}={v}" for k, v in job.wildcards.items())
            attempts = f" after {job.attempts} attempts" if job.attempts > 1 else ""
            lines += [
                f"failed{attempts}: {job.rule} {name}".rstrip(),
                *(f"  {line or 'it said nothing'}" for line in last_lines(log, 5)),
                f"  log: {log or 'none'}",
                f"  again: {job.again}",
            ]
    return lines


@dataclass(frozen=True)
class _Place:
    """Where an experiment runs and what Snakemake's newest log says of it: jobs by rule, run and
    protocol ("" of a training). Times in Unix seconds.
    """

    folder: Path
    jobs: dict[tuple[str, str, str], Job]
    began: float
    now: float


def look(experiment: Experiment, folder: Path = Path(), now: float | None = None) -> list[Run]:
    """Every run of an experiment as it stands, in the experiment's order. `folder` is where
    Snakemake runs; `now` in Unix seconds.
    """
    now = time.time() if now is None else now
    path = newest_log(folder / ".snakemake/log")
    logged = jobs(path.read_text(errors="replace")) if path else {}
    began = time.mktime(time.strptime(path.name[:17], "%Y-%m-%dT%H%M%S")) if path else now
    by_run = {
        (job.rule, job.wildcards.get("run", ""), job.wildcards.get("protocol", "")): job
        for job in logged.values()
    }
    place = _Place(folder, by_run, began, now)
    protocols = [protocol.id for protocol in experiment.protocols]
    return [
        _look(place, label, seed, run.id, protocols)
        for label, runs in experiment.runs.items()
        for seed, run in runs.items()
    ]


def steps(protocols: Sequence[str]) -> list[tuple[str, str]]:
    """What is done for a run, in order: stage and protocol ("" of its training)."""
    return [("train", ""), *((s, p) for p in protocols for s in ("rollout", "score"))]


def _look(place: _Place, label: str, seed: int, run: str, protocols: Sequence[str]) -> Run:
    """One run as it stands: at the first step that has left nothing behind."""
    made = place.folder / "results/runs" / run
    undone = [
        (stage, protocol)
        for stage, protocol in steps(protocols)
        if not (made / STAGES[stage].format(protocol=protocol)).is_file()
    ]
    stage, protocol = undone[0] if undone else ("", "")
    resumed = 0 if stage == "train" else lineage.read_provenance(made).trained.starts - 1
    if not stage:
        return Run(run, label, seed, "", "done", resumed)
    scratch = f"{run}.{protocol[-8:]}" if protocol else run
    status = lease.read(place.folder / "scratch" / scratch)
    job = place.jobs.get((stage, run, protocol))
    if status and status.stage != stage:
        status = None
    where = f"SLURM job {job.slurm}" if job and job.slurm else ""
    if status:
        resumed += status.starts - 1
        where = status.owner
    log = f"logs/{stage}/{run}/{protocol}.log" if protocol else f"logs/{stage}/{run}.log"
    again = job.again if job else ""
    ahead = tuple(stage for stage, _ in undone[1:])
    seen = Run(
        run,
        label,
        seed,
        stage,
        "waiting",
        resumed,
        where=where,
        log=log,
        again=again,
        ahead=ahead,
    )
    return _in_state(place, seen, status, job)


def _in_state(place: _Place, seen: Run, status: lease.Status | None, job: Job | None) -> Run:
    """A run that is not done in its state: a writer that gives signs of life knows best, then
    Snakemake's log.
    """
    log = place.folder / seen.log
    if status and not status.released and place.now - status.at < FRESH:
        share = status.done / status.total if status.total else None
        left = _left(status, place.now)
        return replace(seen, state="running", share=share, left=left, note=status.note)
    if job and job.state == "failed":
        return replace(seen, state="failed", note=last_lines(log)[0].strip())
    if status:
        silence = f"no sign of life for {place.now - status.at:.0f} s"
        return replace(seen, state="interrupted", note=status.error if status.released else silence)
    if job and job.state in ("started", "submitted"):
        begun = not job.slurm or (log.is_file() and log.stat().st_mtime >= place.began)
        return replace(seen, state="running" if begun else "queued")
    return seen


def _left(status: lease.Status, now: float) -> float | None:
    """Seconds until a stage ends, at the pace since this writer began."""
    moved = status.done - status.first
    spent = status.at - status.since
    if moved <= 0 or spent <= 0 or status.total <= 0:
        return None
    return max(0.0, (status.total - status.done) * spent / moved - (now - status.at))


def seconds_left(runs: Sequence[Run], folder: Path = Path()) -> float | None:
    """Seconds until the last run is done, if as many runs as now go on side by side; None while no
    stage has ended or nothing runs.
    """
    seconds = {
        stage: job_seconds(folder, stage, "*" if stage == "train" else "*/*") for stage in STAGES
    }
    side = sum(run.state == "running" for run in runs)
    if not side or not seconds["train"]:
        return None
    typical = {stage: mean(s) if s else 0.0 for stage, s in seconds.items()}

    def ahead(run: Run) -> float:
        stage = typical[run.stage] if run.left is None else run.left
        return stage + sum(typical[name] for name in run.ahead)

    return sum(ahead(run) for run in runs if run.state != "done") / side


@dataclass(frozen=True)
class Summary:
    """An experiment at a time (Unix seconds): how many runs are in each state, seconds to its end
    where that can be said, and its runs.
    """

    experiment: str
    at: float
    counts: dict[str, int]
    left: float | None
    runs: list[Run]

    @property
    def done(self) -> bool:
        """Whether all runs are."""
        return self.counts["done"] == sum(self.counts.values())


def summary(experiment: Experiment, folder: Path = Path()) -> Summary:
    """An experiment as it stands."""
    runs = look(experiment, folder)
    number = Counter(run.state for run in runs)
    counts = {state: number[state] for state in STATES}
    return Summary(experiment.name, time.time(), counts, seconds_left(runs, folder), runs)
