"""A whole study as it stands, from files only: what waits, is queued, runs, was interrupted,
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
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import mean
from typing import Any

from ccpo import lease, schema
from ccpo.config import Experiment

STAGES = {
    "train": "provenance.json",
    "rollout": "rollouts.parquet",
    "score": "scores.parquet",
}  # of a run, and what each leaves behind
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
    """One run of a study as it stands. `share` of its stage is done; `left`: seconds until the
    stage ends, where that can be said.
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


def newest_log(folder: Path = Path(".snakemake/log")) -> Path | None:
    """Snakemake's newest log that is of jobs: unlocking leaves a log too, and so does finding
    nothing to do.
    """
    logs = sorted(folder.glob("*.snakemake.log"), reverse=True)
    return next((path for path in logs if "Job stats:" in path.read_text(errors="replace")), None)


def jobs(text: str) -> dict[str, Job]:
    """The jobs of a log of Snakemake, by its job id, each in its last state."""
    found: dict[str, Job] = {}
    groups: dict[str, list[str]] = {}
    group = ""
    text = _SHOWN.sub("", text)
    given = re.search(r"^  Command: (.*)$", text, re.MULTILINE)
    words = shlex.split(given[1])[1:] if given else []
    for head, body in _blocks(text):
        if match := re.match(r"\s*(?:local)?(?:rule|checkpoint) (\w+):$", head):
            job = _job(match[1], body)
            before = found.get(job.jobid)
            if before and before.state == "failed":  # named inside the error of its group
                continue
            job.attempts = before.attempts if before else 1
            job.again = shlex.join(["snakemake", *job.outputs[:1], *words])
            found[job.jobid] = job
            if head.startswith(" "):
                groups[group].append(job.jobid)
        elif match := re.match(r"group job (\S+)", head):
            group = match[1]
            groups[match[1]] = []
        elif match := re.match(r"Error in (?:rule|group) ", head):
            for jobid in re.findall(r"^\s+jobid: (\S+)", body, re.MULTILINE):
                if jobid in found:
                    found[jobid].state = "failed"
        elif match := re.match(r"Job (\S+) has been submitted with SLURM jobid (\S+)", head):
            for jobid in groups.get(match[1], [match[1]]):
                if jobid in found:
                    found[jobid].state = "submitted"
                    found[jobid].slurm = match[2]
        elif (match := re.match(r"Trying to restart job (\S+?)\.", head)) and match[1] in found:
            found[match[1]].attempts += 1
            found[match[1]].state = "started"
        elif (match := re.match(r"Finished jobid: (\S+)", head)) and match[1] in found:
            found[match[1]].state = "finished"
    return found


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
    said = dict(re.findall(r"^\s+(jobid|wildcards|output|log): (.*)$", body, re.MULTILINE))
    pairs = [
        (pair.split("=", 1)[0], pair.split("=", 1)[1])
        for pair in said.get("wildcards", "").split(", ")
        if "=" in pair
    ]
    listed = {key: [p for p in said.get(key, "").split(", ") if p] for key in ("output", "log")}
    return Job(rule, said.get("jobid", ""), dict(pairs), listed["output"], listed["log"])


def last_words(path: str | Path, most: int = 1) -> list[str]:
    """The last lines of a log that say anything; one empty line where there are none."""
    try:
        lines = Path(path).read_text(errors="replace").splitlines()
    except OSError:
        return [""]
    said = [
        line.rstrip()
        for line in lines
        if line.strip() and not line.startswith(("srun: ", "slurmstepd"))
    ]
    return said[-most:] or [""]


def failures(text: str) -> list[str]:
    """Of each job that failed for good: what it said last, where its log lies, and how to run it
    again.
    """
    lines = []
    for job in jobs(text).values():
        if job.state == "failed":
            log = job.logs[0] if job.logs else ""
            name = ", ".join(f"{k}={v}" for k, v in job.wildcards.items())
            tried = f" after {job.attempts} attempts" if job.attempts > 1 else ""
            lines += [
                f"failed{tried}: {job.rule} {name}".rstrip(),
                *(f"  {line or 'it said nothing'}" for line in last_words(log, 5)),
                f"  log: {log or 'none'}",
                f"  again: {job.again}",
            ]
    return lines


def look(experiment: Experiment, folder: Path = Path(), now: float | None = None) -> list[Run]:
    """Every run of a study as it stands, in the study's order. `folder` is where Snakemake runs;
    `now` in Unix seconds.
    """
    now = time.time() if now is None else now
    path = newest_log(folder / ".snakemake/log")
    told = jobs(path.read_text(errors="replace")) if path else {}
    began = time.mktime(time.strptime(path.name[:17], "%Y-%m-%dT%H%M%S")) if path else now
    by_run = {(job.rule, job.wildcards.get("run", "")): job for job in told.values()}
    return [
        _look(folder, label, seed, run.id, by_run, began, now)
        for label, runs in experiment.runs.items()
        for seed, run in runs.items()
    ]


def _look(
    folder: Path,
    label: str,
    seed: int,
    run: str,
    told: dict[tuple[str, str], Job],
    began: float,
    now: float,
) -> Run:
    made = folder / "results/runs" / run
    stage = next((name for name, file in STAGES.items() if not (made / file).is_file()), "")
    resumed = (
        int(schema.read_json(made / "provenance.json").get("starts", 1)) - 1
        if stage != "train"
        else 0
    )
    if not stage:
        return Run(run, label, seed, "", "done", resumed)
    status = lease.read(folder / "scratch" / run)
    job = told.get((stage, run))
    if status and status.stage != stage:
        status = None
    if status:
        resumed += status.starts - 1
    where = status.owner if status else f"SLURM job {job.slurm}" if job and job.slurm else ""
    log = f"logs/{stage}/{run}.log"
    seen = Run(
        run,
        label,
        seed,
        stage,
        "waiting",
        resumed,
        where=where,
        log=log,
        again=job.again if job else "",
    )
    if status and not status.released and now - status.at < FRESH:
        share = status.done / status.total if status.total else None
        return replace(
            seen, state="running", share=share, left=_left(status, now), note=status.note
        )
    if job and job.state == "failed":
        return replace(seen, state="failed", note=last_words(folder / log)[0].strip())
    if status:
        why = status.error if status.released else f"no sign of life for {now - status.at:.0f} s"
        return replace(seen, state="interrupted", note=why)
    if job and job.state in ("started", "submitted"):
        begun = not job.slurm or (
            (folder / log).is_file() and (folder / log).stat().st_mtime >= began
        )
        return replace(seen, state="running" if begun else "queued")
    return seen


def _left(status: lease.Status, now: float) -> float | None:
    """Seconds until a stage ends, at the pace since this writer began."""
    moved = status.done - status.first
    spent = status.at - status.since
    if moved <= 0 or spent <= 0 or status.total <= 0:
        return None
    return max(0.0, (status.total - status.done) * spent / moved - (now - status.at))


def forecast(runs: Sequence[Run], folder: Path = Path()) -> float | None:
    """Seconds until the last run is done, if as many runs as now go on side by side; None while no
    stage has ended or nothing runs.
    """
    seconds = {stage: job_seconds(folder, stage) for stage in STAGES}
    side = sum(run.state == "running" for run in runs)
    if not side or not seconds["train"]:
        return None
    typical = {stage: mean(s) if s else 0.0 for stage, s in seconds.items()}
    names = list(STAGES)

    def ahead(run: Run) -> float:
        now = typical[run.stage] if run.left is None else run.left
        return now + sum(typical[name] for name in names[names.index(run.stage) + 1 :])

    return sum(ahead(run) for run in runs if run.state != "done") / side


def job_seconds(folder: Path, rule: str, name: str = "*") -> list[float]:
    """Seconds of a rule's jobs (of one, by its name) from the benchmark files that Snakemake leaves
    below `folder`.
    """
    paths = (folder / "logs/benchmarks" / rule).glob(f"{name}.tsv")
    return [
        float(path.read_text().splitlines()[1].split("\t")[0])
        for path in paths
        if path.stat().st_size
    ]


def summary(experiment: Experiment, folder: Path = Path()) -> dict[str, Any]:
    """A study as plain data: its name, how many runs are in each state, seconds to its end, and its
    runs.
    """
    runs = look(experiment, folder)
    counts = Counter(run.state for run in runs)
    return {
        "experiment": experiment.name,
        "at": time.time(),
        "counts": {state: counts[state] for state in STATES},
        "left": forecast(runs, folder),
        "runs": [asdict(run) for run in runs],
    }
