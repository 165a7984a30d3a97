"""What an experiment will cost, before it is launched: tokens, GPU-hours, wall time, disk, queue
slots, and the seeds that decide its question.

The pace of a condition comes from the best source there is: its own finished runs; a pilot of a few
updates and a few evaluated tasks (`snakemake results/plans/{experiment}.json`); else the model's
size. Each source has its error, stated with every number.
"""

from __future__ import annotations

import heapq
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

import psutil

from ccpo import intervention, schema
from ccpo.config import (
    Choice,
    Experiment,
    Model,
    Protocol,
    RunConfig,
    WarmStart,
    fingerprint,
    tasks_slug,
)
from ccpo.evaluate import stats
from ccpo.evaluate.parts import parts_of
from ccpo.operate.seconds import job_seconds
from ccpo.publish import statistics
from ccpo.publish.forecast import (
    ConditionForecast,
    ErrorFactors,
    Forecast,
    Pace,
    SeedsForecast,
    read,
)

PILOT_UPDATES = 3
PILOT_TASKS = 32
# A forecast may be off by these factors either way: (tokens, seconds).
ERRORS = {"finished runs": (1.1, 1.2), "pilot": (1.25, 1.4), "model size": (2.0, 3.0)}
# Without a pilot: messages are this share of their limit; a question, a role and a solved example
# have so many tokens.
FILLED = 0.5
QUESTION = 120
ROLE = 60
SHOT = 150
# dense bf16 of an H100; shares of it that generation and training reach in practice
GPU_FLOPS = 9.9e14
GENERATING = 0.05
TRAINING = 0.35
# seconds of a generated and trained token of a model so small that it lives on a CPU
CPU_TOKENS = 1e-4
# seconds: a process until it works; statistics, figures and pages; a verdict
PROCESS = 6.0
PAGES = 25.0
SCORED = 5e-4
SD = 0.03  # of paired differences of accuracy between seeds, where no finished experiment tells
GROUPED = 8  # scores that share a job (workflow/profiles/slurm)


def key(run: RunConfig, protocols: Sequence[Protocol]) -> str:
    """What a pilot is valid for: a condition without its seed, without which replica of its base
    model it starts from, and without how long it goes on; and how it is evaluated, but for how many
    tasks."""
    data = run.model_dump(mode="json", exclude={"seed", "model"})
    data["model"] = [_any_replica(model) for model in run.models]
    for name in ("steps", "tokens"):
        del data["train"][name]
    data["evaluate"] = [
        protocol.model_dump(mode="json", exclude={"name", "tasks"}) for protocol in protocols
    ]
    return fingerprint(data)


def _any_replica(model: Model) -> dict[str, Any]:
    own = {"seed", "sha256"} if isinstance(model.spec, WarmStart) else set[str]()
    return {"name": model.name, "spec": model.spec.model_dump(mode="json", exclude=own)}


def of_finished(
    runs: Sequence[RunConfig], protocols: Sequence[Protocol], folder: Path = Path()
) -> Pace | None:
    """The pace of a condition's runs that are trained and evaluated by all protocols, or None if
    there are none.
    """
    paces = [
        _finished(run, protocols, folder)
        for run in runs
        if all(
            (_evaluation(run, protocol, folder) / "scores.parquet").is_file()
            for protocol in protocols
        )
    ]
    if not paces:
        return None
    numbers = {
        k: mean(getattr(p, k) for p in paces)
        for k in asdict(paces[0])
        if k not in ("source", "updates")
    }
    return replace(paces[0], updates=round(mean(p.updates for p in paces)), **numbers)


def _evaluation(run: RunConfig, protocol: Protocol, folder: Path) -> Path:
    return folder / "results/runs" / run.id / "eval" / protocol.id


def _finished(run: RunConfig, protocols: Sequence[Protocol], folder: Path) -> Pace:
    made = folder / "results/runs" / run.id
    ledger = schema.read_table(made / "ledger.parquet", "ledger").to_pandas()
    spent = schema.read_table(made / "seconds.parquet", "seconds").to_pandas()
    columns = ["benchmark", "task_id", "n_completion_tokens"]
    tables = [
        schema.read_table(
            _evaluation(run, protocol, folder) / "rollouts.parquet", "rollouts", columns
        ).to_pandas()
        for protocol in protocols
    ]
    updates = int(ledger.step.max()) if len(ledger) else 0
    tasks = sum(len(table[columns[:2]].drop_duplicates()) for table in tables)
    generated = sum(int(table.n_completion_tokens.sum()) for table in tables)
    seconds = float(spent.seconds.sum())
    train = sum(job_seconds(folder, "train", run.id))
    rollout = sum(
        sum(job_seconds(folder, f"rollout/{run.id}", protocol.id)) for protocol in protocols
    )
    start = max(0.0, train - seconds) if train else PROCESS
    each = max(updates, 1)
    return Pace(
        source="finished runs",
        updates=updates,
        generated=ledger.generated_tokens.sum() / each,
        prompt=ledger.prompt_tokens.sum() / each,
        calls=ledger.evaluator_calls.sum() / each,
        seconds=seconds / each,
        task_generated=generated / tasks,
        task_seconds=max(0.0, rollout - len(tables) * start) / tasks if rollout else 0.0,
        start=start,
        disk=float(sum(p.stat().st_size for p in made.rglob("*") if p.is_file())),
    )


def of_pilot(
    run: RunConfig,
    protocols: Sequence[Protocol],
    model: Path | Sequence[Path],
    tables: Path,
    start: float = PROCESS,
) -> Pace:
    """The pace of a few updates and evaluated tasks, played here and now.

    `tables`: the folder of task tables; `start`: seconds that a process takes until it works.
    """
    from ccpo.evaluate.evaluate import sample
    from ccpo.learn.train import pilot

    counts, state = pilot(run, _table(tables, run.benchmark), model, PILOT_UPDATES)
    generated = []
    seconds = []
    for protocol in protocols:
        tests = [_table(tables, choice) for choice in protocol.benchmarks(run)]
        rows, n, spent = sample(run, protocol, state.endpoints, tests, PILOT_TASKS)
        generated.append(sum(row["n_completion_tokens"] for row in rows) / n)
        seconds.append(spent / n)
    steps = [c for c in counts if c.seconds > 0]
    usual = steps[1:] or steps  # the first update warms up what the later ones use
    per = {
        k: mean(getattr(c, k) for c in steps) if steps else 0.0
        for k in ("generated", "prompt", "calls")
    }
    return Pace(
        source="pilot",
        updates=_updates(run, per["generated"]),
        **per,
        seconds=mean(c.seconds for c in usual) if usual else 0.0,
        task_generated=_weighted(generated, run, protocols),
        task_seconds=_weighted(seconds, run, protocols),
        start=start,
        disk=sum(_weights(run, folder) for folder in state.folders)
        * len(state.models)
        / len(state.folders),
    )


def _table(tables: Path, choice: Choice) -> Path:
    return tables / f"{tasks_slug(choice)}.parquet"


def _process_began() -> float:
    """Unix seconds at which this process began."""
    return float(psutil.Process().create_time())


@dataclass(frozen=True)
class _Counts:
    """Tokens generated and read, and verdicts, for one task of an update."""

    generated: float
    prompt: float
    calls: int


def of_size(run: RunConfig, protocols: Sequence[Protocol], parameters: float, gpus: bool) -> Pace:
    """The pace that a model's size and the limits of messages suggest."""
    counts = _counts(run)
    evaluated = _weighted([_of_evaluated(run, protocol) for protocol in protocols], run, protocols)
    if gpus:
        make = 2 * parameters / (GPU_FLOPS * GENERATING)
        learn = 6 * parameters / (GPU_FLOPS * TRAINING)
        reading = counts.prompt * make / 10 + (counts.generated + counts.prompt) * learn
        seconds = counts.generated * make + reading
        task_seconds = evaluated * make
    else:
        pace = max(CPU_TOKENS, 8 * parameters / 3e10)
        seconds = counts.generated * pace
        task_seconds = evaluated * pace / 3
    tasks = run.train.tasks
    policies = 1 if run.policy == "shared" else run.build_team().agents
    return Pace(
        source="model size",
        updates=_updates(run, counts.generated * tasks),
        generated=counts.generated * tasks,
        prompt=counts.prompt * tasks,
        calls=float(counts.calls * tasks),
        seconds=seconds * tasks,
        task_generated=evaluated,
        task_seconds=task_seconds,
        start=PROCESS + parameters * 4 / 1e9,
        disk=parameters * (2 if run.train.dtype == "bfloat16" else 4) * policies,
    )


def _counts(run: RunConfig) -> _Counts:
    """What a run's plan generates for a task, its messages filled to their usual share."""
    plan = run.plan()
    team = run.build_team()
    lengths = [_length(turn, run.sampling.max_tokens) for turn in range(len(team.turns))]
    read = [sum(lengths[r] for r in turn.reads) for turn in team.turns]
    width = 1
    messages = []
    for turn, n in enumerate(plan.fanout):
        width *= n
        messages.append((width, turn))
    for removal in plan.removals:
        messages += [(removal.n, turn) for turn in team.without(removal.agent)]
    base = QUESTION + ROLE + SHOT * run.shots
    generated = sum(n * lengths[turn] for n, turn in messages)
    prompt = sum(n * (base + read[turn]) for n, turn in messages)
    last = len(team.turns) - 1
    calls = sum(n for n, turn in messages if turn == last or team.answer == "vote")
    if plan.ratings:
        generated += plan.episodes * len(team.turns) * FILLED * run.sampling.rating_tokens
        prompt += plan.episodes * len(team.turns) * (base + sum(read))
    return _Counts(generated, prompt, calls)


def _length(turn: int, limits: Sequence[int]) -> float:
    """Tokens of a turn's message."""
    return FILLED * limits[min(turn, len(limits) - 1)]


def _of_evaluated(run: RunConfig, protocol: Protocol) -> float:
    """Tokens generated for a task that is evaluated."""
    team = run.build_team()
    return sum(
        _episodes(run, protocol, name) * _length(turn, protocol.limits(run))
        for name, kind in parts_of(run, protocol)
        for turn in intervention.speaks(team, kind)
    )


def _weighted(each: Sequence[float], run: RunConfig, protocols: Sequence[Protocol]) -> float:
    """The mean over the tasks of all protocols of what a task of each protocol takes."""
    tasks = [_tasks(run, protocol) for protocol in protocols]
    return sum(n * value for n, value in zip(tasks, each, strict=True)) / sum(tasks)


def _updates(run: RunConfig, generated: float) -> int:
    """Updates until the run ends, by its own two limits."""
    by_tokens = (
        math.ceil(run.train.tokens / generated)
        if run.train.tokens and generated
        else run.train.steps
    )
    return min(run.train.steps, by_tokens)


def parameters(run: RunConfig, folder: Path = Path()) -> float:
    """Parameters of a run's model, on average over its agents' models: counted where its folder is,
    else from its source.

    Raises:
        ValueError: neither says it.
    """
    return mean(_parameters(model, folder / "results/models" / model.slug) for model in run.models)


def _parameters(model: Model, folder: Path) -> float:
    files = sorted(folder.glob("*.safetensors"))
    if files:
        return float(sum(_counted(path) for path in files))
    if model.parameters is None:
        raise ValueError(
            f"the size of model {model.name} is not known before it is here. Remedy: snakemake "
            f"results/models/{model.slug}"
        )
    return model.parameters


def _counted(path: Path) -> int:
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118 - it is no mapping


def _weights(run: RunConfig, model: Path) -> float:
    return float(
        sum(_counted(path) for path in model.glob("*.safetensors"))
        * (2 if run.train.dtype == "bfloat16" else 4)
    )


def make(
    experiment: Experiment, slots: int | None, gpus: bool, pilot: bool, out: Path | None
) -> Forecast:
    """The forecast of an experiment, written to `out`.

    Pilots are played here and now where `pilot` says so, else those of an earlier forecast serve.
    `slots`: runs side by side; by default as many as there are cores, and one with GPUs.
    """
    earlier = Path(f"results/plans/{experiment.name}.json")
    pilots: dict[str, Pace] = {}
    if pilot:
        pilots = piloted(experiment)
    elif earlier.is_file():
        pilots = read(earlier).pilots
    document = forecast(experiment, pilots, slots or (1 if gpus else cores()), gpus)
    if out:
        document.write(out)
    return document


def forecast(
    experiment: Experiment,
    pilots: Mapping[str, Pace],
    slots: int,
    gpus: bool,
    folder: Path = Path(),
) -> Forecast:
    """The forecast of an experiment. `slots`: runs side by side; `pilots`: paces by `key`."""
    conditions = []
    chains: list[float] = []  # seconds of each run from its training to its scores
    models: dict[str, Model] = {}
    protocols = experiment.protocols
    for label, runs in experiment.runs.items():
        pace = _pace(list(runs.values()), protocols, pilots, gpus, folder)
        condition, chain = _condition(label, list(runs.values()), protocols, pace, gpus)
        conditions.append(condition)
        chains += [chain] * len(runs)
        models |= {model.slug: model for run in runs.values() for model in run.prepared}
    preparing = [
        sum(job_seconds(folder, "model", slug)) or _preparing(model)
        for slug, model in models.items()
    ]
    return Forecast(
        experiment=experiment.name,
        slots=slots,
        gpus=gpus,
        conditions=tuple(conditions),
        wall=_makespan(preparing, slots) + _makespan(chains, slots) + PAGES,
        wall_error=max(condition.error.seconds for condition in conditions),
        jobs=(1 + len(protocols)) * len(chains)
        + math.ceil(len(protocols) * len(chains) / GROUPED)
        + 2
        + len(models),
        seeds=_seeds(experiment, folder),
        pilots=dict(pilots),
    )


def _pace(
    runs: Sequence[RunConfig],
    protocols: Sequence[Protocol],
    pilots: Mapping[str, Pace],
    gpus: bool,
    folder: Path,
) -> Pace:
    """The pace of a condition, from the best source there is."""
    first = runs[0]
    pace = of_finished(runs, protocols, folder) or pilots.get(key(first, protocols))
    if pace is None:
        return of_size(first, protocols, parameters(first, folder), gpus)
    if pace.source == "pilot":  # another length of training may be asked for since
        return replace(pace, updates=_updates(first, pace.generated))
    return pace


def _condition(
    label: str,
    runs: Sequence[RunConfig],
    protocols: Sequence[Protocol],
    pace: Pace,
    gpus: bool,
) -> tuple[ConditionForecast, float]:
    """The forecast of a condition, and the seconds of one of its runs."""
    first = runs[0]
    n = len(runs)
    by_protocol = [_tasks(first, protocol) for protocol in protocols]
    tasks = sum(by_protocol)
    train = pace.start + pace.updates * pace.seconds
    rollout = len(protocols) * pace.start + tasks * pace.task_seconds
    verdicts = sum(
        n * sum(_episodes(first, protocol, name) for name, _ in parts_of(first, protocol))
        for n, protocol in zip(by_protocol, protocols, strict=True)
    )
    score = len(protocols) * PROCESS / 4 + verdicts * SCORED
    tokens, seconds = ERRORS[pace.source]
    condition = ConditionForecast(
        condition=label,
        runs=n,
        source=pace.source,
        updates=pace.updates,
        train_tokens=n * pace.updates * pace.generated,
        evaluation_tokens=n * tasks * pace.task_generated,
        calls=n * pace.updates * pace.calls,
        update_seconds=n * pace.updates * pace.seconds,
        seconds=n * (train + rollout + score),
        gpu_hours=n * (train + rollout) / 3600 if gpus else 0.0,
        disk=n * pace.disk,
        error=ErrorFactors(tokens=tokens, seconds=seconds),
    )
    return condition, train + rollout + score


def _tasks(run: RunConfig, protocol: Protocol) -> int:
    """Test tasks of all benchmarks that a run is evaluated on."""
    return sum(protocol.tasks_of(choice) for choice in protocol.benchmarks(run))


def _episodes(run: RunConfig, protocol: Protocol, decoding: str) -> float:
    """Of a task under a decoding: the mean over the tasks of all benchmarks."""
    sizes = {choice.name: protocol.tasks_of(choice) for choice in protocol.benchmarks(run)}
    every = sum(n * protocol.samples(decoding, run, name, n) for name, n in sizes.items())
    return every / sum(sizes.values())


def _preparing(model: Model) -> float:
    """Seconds to make a model: taught here, copied, or fetched."""
    spec = model.spec
    if isinstance(spec, WarmStart):
        return PROCESS + (0.0 if spec.sha256 else spec.steps * spec.batch * 1e-3)
    return 60.0


def _makespan(chains: Sequence[float], slots: int) -> float:
    """Seconds until all chains are done, each begun as soon as one of the slots is free."""
    free = [0.0] * slots
    for seconds in chains:
        heapq.heappush(free, heapq.heappop(free) + seconds)
    return max(free)


def _seeds(experiment: Experiment, folder: Path) -> tuple[SeedsForecast, ...]:
    """For each declared comparison: the seeds that find the declared effect, and from what spread
    that is.
    """
    path = folder / "results/experiments" / experiment.name / "stats.json"
    measured: dict[tuple[str, str], float] = {}
    if path.is_file():
        comparisons = statistics.read_training(path).comparisons
        measured = {
            (row.a, row.b): max(row.main.sd, row.main.item)
            for row in comparisons
            if row.main.n >= stats.LEAST
        }
    rows = []
    for a, b in experiment.compare:
        sd = measured.get((a, b), SD)
        rows.append(
            SeedsForecast(
                a=a,
                b=b,
                effect=experiment.effect,
                sd=sd,
                source="its own seeds" if (a, b) in measured else "assumed",
                needed=stats.seeds_needed(experiment.effect, sd, len(experiment.compare)),
            )
        )
    return tuple(rows)


def piloted(experiment: Experiment, folder: Path = Path()) -> dict[str, Pace]:
    """Paces of a pilot of every condition, by `key`; the models and task tables must be there."""
    start = time.time() - _process_began()
    paces: dict[str, Pace] = {}
    for runs in experiment.runs.values():
        first = next(iter(runs.values()))
        known = key(first, experiment.protocols)
        if known in paces:
            continue
        starts = [folder / "results/models" / model.slug for model in first.prepared]
        tables = folder / "results/tasks"
        paces[known] = of_pilot(first, experiment.protocols, starts, tables, start)
    return paces


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
