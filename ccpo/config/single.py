"""The single agent that stands beside every team: added to an experiment that has none."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from ccpo.config.grid import Block, Condition, conditions
from ccpo.config.run import RunConfig

LABEL = "single"


def with_single(
    where: str,
    raw: Mapping[str, object],
    presets: Block,
    planned: Sequence[Condition],
    first_runs: Mapping[str, RunConfig],
) -> list[Condition]:
    """The conditions of an experiment, and where it compares teams and has no single agent of the
    same benchmark, model and token budget, one more: `single`, trained by the shared reward with as
    many episodes a task, and for the rest as a team.

    Nothing is added where the experiment says `single: false`, compares or trains nothing, or where
    its conditions cannot have one in common: their teams differ in model, benchmark or budget, or
    an axis of the grid sets what a single agent has of its own.

    first_runs: by label, the condition's run of its first seed.

    Raises:
        ValueError: a condition is named `single` already; or `single` is said and is not true or
        false.
    """
    wanted = raw.get("single", True)
    if not isinstance(wanted, bool):
        raise ValueError(f"{where}: single is true or false, it is {wanted!r}")
    teams = {
        label: run
        for label, run in first_runs.items()
        if len(run.train.fanout) > 1 and run.train.steps
    }
    grid = raw["grid"]
    assert isinstance(grid, Mapping)
    own = {"team", "credit", "policy", "lora", "critic", "model", "benchmark", "advantage"}
    kept = (
        not wanted
        or not raw.get("compare")
        or not teams
        or own & set(grid)
        or len({_what(run) for run in teams.values()}) > 1
        or any(len(run.models) > 1 for run in teams.values())
        or any(
            len(run.train.fanout) == 1 and _what(run) in set(map(_what, teams.values()))
            for run in first_runs.values()
        )
    )
    if kept:
        return list(planned)
    blocks = grid.get("condition") or {}
    if not isinstance(blocks, Mapping) or LABEL in blocks:
        raise ValueError(
            f"{where}: condition '{LABEL}' is no single agent of the teams' benchmark, model and "
            "token budget, which has that name where it is added. Remedy: rename it, or say "
            "`single: false`"
        )
    block = _block(_like(teams))
    added = {**blocks, LABEL: block} if blocks else {"": {}, LABEL: block}
    return conditions(where, {**raw, "grid": {**grid, "condition": added}}, presets)


def _what(run: RunConfig) -> tuple[str, str, int | None]:
    """What a single agent has in common with the team that it stands beside."""
    return run.benchmark.model_dump_json(), run.base, run.train.tokens


def _like(teams: Mapping[str, RunConfig]) -> RunConfig:
    """The team whose settings are taken: the first that the shared reward trains, or the first."""
    shared: Iterable[RunConfig] = (run for run in teams.values() if run.credit.name == "shared")
    return next(iter(shared), next(iter(teams.values())))


def _block(team: RunConfig) -> dict[str, object]:
    """A single agent's condition: as many episodes a task as the team, messages as long as its
    answer, its advantage where that needs no critic, its objective and optimiser.
    """
    settings = team.model_dump(mode="json", include={"objective", "advantage", "shots"})
    advantage = settings["advantage"] if team.compares != "critic" else {"name": "group_mean"}
    return {
        "team": "single",
        "credit": "shared",
        "advantage": _written(advantage),
        "objective": _written(settings["objective"]),
        "policy": "shared",
        "lora": None,
        "critic": None,
        "shots": settings["shots"],
        "sampling": {"max_tokens": [team.sampling.max_tokens[-1]]},
        "train": {
            "fanout": [math.prod(team.train.fanout)],
            "tasks": team.train.tasks,
            "lr": team.train.lr,
            "minibatches": team.train.minibatches,
        },
    }


def _written(choice: Mapping[str, object]) -> dict[str, object]:
    """A resolved choice as it is written in YAML."""
    rest = {key: value for key, value in choice.items() if key not in ("params", "version")}
    params = choice.get("params", {})
    assert isinstance(params, Mapping)
    return {**rest, **params}
