"""In what a run differs from the paper that its experiment means to follow: its resolved config
against the published settings (config/published/hyper.csv), never typed by hand."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pydantic import JsonValue

from ccpo import benchmark, objective
from ccpo.config.choice import near
from ccpo.config.model import Model
from ccpo.config.protocol import Protocol
from ccpo.config.run import RunConfig, flat
from ccpo.manifest import Deviation, FollowedPaper, by_deviation
from ccpo.publish import published
from ccpo.publish.published import Hyper

NONE = "none"  # as hyper.csv writes that there is no such thing


def settings(run: RunConfig) -> dict[str, JsonValue]:
    """What a run is trained with, by dotted key: its config, and what the code does where the
    config has no key for it.
    """
    return {**_implied(run), **flat(run.model_dump(mode="json"))}


def evaluation(run: RunConfig, protocol: Protocol) -> dict[str, JsonValue]:
    """How a run is evaluated under the decoding that claims are made of, by dotted key."""
    decoding = protocol.decodings[protocol.primary]
    played = protocol.benchmarks(run)
    samples = {c.name: decoding.samples_of(c.name, protocol.tasks_of(c)) for c in played}
    same = len(set(samples.values())) == 1
    return {
        "evaluate.temperature": decoding.temperature,
        "evaluate.samples": next(iter(samples.values())) if same else {**samples},
        "evaluate.top_p": decoding.top_p,
        "evaluate.top_k": decoding.top_k,
        "evaluate.max_tokens": list(protocol.limits(run)),
        "evaluate.benchmarks": [*sorted(choice.name for choice in played)],
        "evaluate.tasks": protocol.tasks or "all",
    }


def deviations(
    run: RunConfig,
    paper: Iterable[Hyper],
    protocol: Protocol | None = None,
    seeds: Sequence[int] = (),
) -> tuple[Deviation, ...]:
    """Settings in which a run is not as a paper has it (what `followed` gives), in its order.

    How it is evaluated is compared where a protocol is given, and its seeds where some are. What a
    paper says of data files, machines and diagnostics is no setting of a run.
    """
    own = settings(run)
    parts = {"train"}
    if protocol is not None:
        own |= evaluation(run, protocol)
        parts.add("evaluate")
    if seeds:
        own["grid.seed"] = list(seeds)
    rows = [row for row in paper if row.part in parts and _applies(row, own)]
    return tuple(
        Deviation(
            key=row.key,
            ours=own.get(row.key),
            settable=row.key in own,
            published=row.value,
            source=row.source,
            how=row.how,
            note=row.note,
        )
        for row in rows
        if (seeds or row.key != "grid.seed") and not _agrees(own.get(row.key), row.alternatives)
    )


def followed(paper: FollowedPaper, folder: Path = Path("config")) -> list[Hyper]:
    """The published settings of a version of a paper.

    Raises:
        ValueError: the version is unknown, or nothing of its settings is.
    """
    place = folder / "published"
    versions = [f"{row.paper} {row.version}" for row in published.read_papers(place)]
    named = f"{paper.name} {paper.version}"
    if named not in versions:
        raise ValueError(f"paper '{named}' is not in {place}/papers.csv. {near(named, versions)}")
    every = published.read_hyper(place)
    rows = [row for row in every if (row.paper, row.version) == (paper.name, paper.version)]
    if not any(row.part == "train" for row in rows):
        known = {f"{row.paper} {row.version}" for row in every if row.part == "train"}
        raise ValueError(
            f"paper '{named}': {place}/hyper.csv has no settings of it, so that nobody can say "
            f"whether it is followed. Remedy: name one of {', '.join(sorted(known))}"
        )
    return rows


def lines(paper: FollowedPaper, by_label: Mapping[str, Sequence[Deviation]]) -> list[str]:
    """The deviations of an experiment's conditions, each once with the conditions that have it."""
    where = by_deviation(by_label)
    head = f"follows {paper.name} {paper.version}, except in {len(where)} settings"
    return [head, *(f"  {', '.join(labels)}: {line(each)}" for each, labels in where)]


def line(deviation: Deviation) -> str:
    """One deviation in words."""
    ours = f"{deviation.ours}" if deviation.settable else "no such setting here"
    note = f"; {deviation.note}" if deviation.note else ""
    how = f", {deviation.how}" if deviation.how != "text" else ""
    value = deviation.published.replace("|", " or ")
    return f"{deviation.key}: {ours}; published {value} ({deviation.source}{how}{note})"


def _implied(run: RunConfig) -> dict[str, JsonValue]:
    """What the code does for which a run has no key."""
    loss = objective.load(run.objective.name)
    train = run.train
    share = train.warmup / train.steps if train.steps else 0
    is_code = benchmark.load(run.benchmark.name).FORM == benchmark.CODE
    implied: dict[str, JsonValue] = {
        "benchmark.form": "code" if is_code else "boxed",
        "train.episodes": run.plan().episodes,
        "train.stop": "tokens" if train.tokens else "updates",
        "train.schedule": train.schedule,
        "train.warmup_share": train.warmup_share or share,
        "train.epochs": train.epochs,
        "train.rollout_batch": train.tasks,
        "train.optimiser": "AdamW",
        "train.betas": list(train.betas),
        "objective.kl_estimator": "k3" if loss.KL == "loss" else "k1",
        "objective.kl_target": NONE if run.objective.kl_target is None else run.objective.kl_target,
        "objective.dual_clip": run.objective.params.get("dual", getattr(loss, "DUAL", NONE)),
        "objective.log_ratio_clip": getattr(loss, "LOG_RATIO", NONE),
    }
    if run.critic:
        own = run.critic.model
        implied["critic.model"] = _source(own) if own else "the policy model"
    if len(run.models) > 1:
        implied["model.spec.id"] = [model.name for model in run.models]
    return implied


def _source(model: Model) -> str:
    """What the hub calls a model, or its name here."""
    return str(getattr(model.spec, "id", model.name))


def _applies(row: Hyper, own: Mapping[str, JsonValue]) -> bool:
    return all(_equal(own.get(key), value) for key, value in row.conditions)


def _agrees(ours: JsonValue, alternatives: Iterable[JsonValue]) -> bool:
    """Whether a setting is one of those published. One number for every message, agent or turn is
    published as one.
    """
    return any(
        _equal(ours, value)
        or (value == NONE and ours is None)
        or (isinstance(ours, list) and bool(ours) and all(_equal(one, value) for one in ours))
        for value in alternatives
    )


def _equal(ours: JsonValue, value: JsonValue) -> bool:
    if isinstance(ours, bool) or isinstance(value, bool):
        return ours is value
    if isinstance(ours, int | float) and isinstance(value, int | float):
        return math.isclose(ours, value, rel_tol=1e-9)
    if isinstance(ours, list) and isinstance(value, list):
        return len(ours) == len(value) and all(map(_equal, ours, value))
    return ours == value
