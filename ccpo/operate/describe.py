"""What an experiment will do, said before anything runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ccpo.config import (
    Experiment,
    OracleExperiment,
    Protocol,
    RunConfig,
    compared,
    deviations,
    read_experiment,
    tasks_slug,
)
from ccpo.data.overlap import gate


def training_experiment(name: str) -> Experiment:
    """The experiment of that name.

    Raises:
        ValueError: it is no valid experiment, or one that trains nothing.
    """
    experiment = read_experiment(name)
    if isinstance(experiment, OracleExperiment):
        raise ValueError(
            f"{name} is an oracle experiment: it trains nothing, takes minutes, and has no runs to "
            "forecast or watch"
        )
    return experiment


def describe(experiment: Experiment | OracleExperiment) -> Iterator[str]:
    """Lines that say what each condition generates, under which preset, and whether its methods
    are degenerate.

    Raises:
        ValueError: a run would train on test items (where they were looked for already).
    """
    if isinstance(experiment, OracleExperiment):
        worlds = len(experiment.families) * len(experiment.shapes)
        yield (
            f"oracle experiment: {len(experiment.methods)} methods, {len(experiment.advantages)} "
            f"advantages, {worlds} kinds of world"
        )
        return
    for label, runs in experiment.runs.items():
        first = next(iter(runs.values()))
        yield f"{label}: {len(runs)} seeds, {_generated(first)}, {first.id}"
        if label in experiment.repeats:
            seeds = ", ".join(map(str, runs))
            yield f"  repeats {experiment.repeats[label]} with other seeds: {seeds}"
        if label in experiment.presets:
            yield f"  as published: {experiment.presets[label]}"
        held_out = Path(f"results/tasks/{tasks_slug(first.benchmark)}.held_out.json")
        if held_out.is_file():
            gate(first, held_out)
        if first.sampling.engine.startswith("scripted:"):
            yield (
                f"  engine {first.sampling.engine} is a test engine: a script speaks, no model; "
                "numbers of this condition say nothing of any"
            )
        if why := first.degenerate():
            yield f"  degenerate: {why}"
        for turn in first.plan().untaught:
            yield (
                f"  turn {turn} never learns: credit {first.credit.name} gives its messages "
                f"nothing under fan-out {list(first.train.fanout)}"
            )
    for protocol in experiment.protocols:
        yield f"evaluated by {protocol.id}: {_played(protocol, experiment)}"
    for plan in experiment.crossed():
        yield f"cross-play of {plan.team}: {', '.join(plan.players)}; {len(plan.seeds)} seeds"
    yield from compared(experiment)
    if experiment.paper:
        yield from deviations.lines(experiment.paper, experiment.deviations)


def _played(protocol: Protocol, experiment: Experiment) -> str:
    """What a protocol plays, in words."""
    tasks = f"{protocol.tasks} tasks" if protocol.tasks else "all tasks"
    runs = [next(iter(of_label.values())) for of_label in experiment.runs.values()]
    teams = [run for run in runs if len(run.train.fanout) > 1] or runs
    decodings = ", ".join(
        f"{name} ({_samples(protocol, name, teams[0])} {decoding.words})"
        for name, decoding in protocol.decodings.items()
    )
    if len(teams) < len(runs):
        decodings += f" (a single agent draws {protocol.single_samples} at least, but greedily)"
    if protocol.grader != "ours":
        decodings += f"; judged by the grader of {protocol.grader}"
    also = f" and {', '.join(choice.name for choice in protocol.also)}" if protocol.also else ""
    changed = ", ".join(choice.name for choice in protocol.interventions) or "none"
    return f"{tasks} of the benchmark trained on{also}; {decodings}; interventions {changed}"


def _samples(protocol: Protocol, decoding: str, run: RunConfig) -> str:
    """Samples of each task, by benchmark where they differ."""
    of_each = {
        choice.name: protocol.samples(decoding, run, choice.name, protocol.tasks_of(choice))
        for choice in protocol.benchmarks(run)
    }
    if len(set(of_each.values())) == 1:
        return str(next(iter(of_each.values())))
    return " + ".join(f"{samples} of {name}" for name, samples in of_each.items())


def _generated(run: RunConfig) -> str:
    """What a run's method needs for a task, in words."""
    plan = run.plan()
    removed = sum(removal.n for removal in plan.removals)
    extra = ""
    if plan.ratings:
        extra = ", each rated by its authors"
    elif plan.critic:
        extra = f", a critic that reads the {plan.critic}"
    return f"{plan.episodes} episodes and {removed} removal episodes a task{extra}"
