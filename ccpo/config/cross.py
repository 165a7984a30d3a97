"""Cross-play: which teams are mixed of which conditions' agents, on what.

Conditions are mixed within a topology only, and an agent keeps its place in the team, so that its
role is one it was trained (and its model prepared) for. Their models may differ: what agents
exchange is text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field, model_validator

from ccpo import STAGE_VERSIONS
from ccpo.config.choice import Strict, fingerprint, near
from ccpo.config.protocol import Protocol
from ccpo.config.run import RunConfig, tasks_slug
from ccpo.manifest import CrossPlan, CrossPlayer
from ccpo.team import Team

UNTRAINED = "untrained"
Runs = Mapping[str, Mapping[int, RunConfig]]


class Cross(Strict):
    """What an experiment asks of cross-play."""

    conditions: tuple[str, ...] | None = Field(
        None, description="labels; none: all that are trained and have several agents"
    )
    untrained: bool = Field(True, description="whether the untrained teams are crossed, too")
    seeds: Literal["all"] | tuple[int, ...] = "all"
    tasks: int | None = Field(
        None, ge=1, description="test tasks, from the start; none: as many as the protocol plays"
    )
    decoding: str | None = Field(
        None,
        description="of the first protocol; none: its primary one, of teams that vote the hottest",
    )

    @model_validator(mode="after")
    def _once(self) -> Cross:
        for key in ("conditions", "seeds"):
            names = getattr(self, key)
            if isinstance(names, tuple) and (not names or len(set(names)) < len(names)):
                raise ValueError(f"cross.{key} {list(names)} is empty or names one twice")
        return self


def plans(cross: Cross, runs: Runs, protocol: Protocol) -> tuple[CrossPlan, ...]:
    """The cross-play of each topology that two teams at least can be mixed in, in the order of the
    conditions.

    Raises:
        ValueError: an unknown condition, seed or decoding; a condition that cannot be crossed; or
        nothing is left to cross.
    """
    labels = _labels(cross, runs)
    if cross.decoding is not None and cross.decoding not in protocol.decodings:
        raise ValueError(
            f"cross.decoding '{cross.decoding}' is none of protocol {protocol.name}. "
            f"{near(cross.decoding, list(protocol.decodings))}"
        )
    groups: dict[str, list[str]] = {}
    for label in labels:
        groups.setdefault(_group(next(iter(runs[label].values())), protocol), []).append(label)
    made = []
    for group, members in groups.items():
        seeds = _seeds(cross, {label: runs[label] for label in members})
        players = _players(members, runs, seeds, cross.untrained)
        if len(players) > 1:
            made.append(_plan(group, players, (cross, protocol), runs[members[0]]))
    if not made:
        raise ValueError(
            f"cross: of {labels} no two teams have a topology in common. Remedy: name more "
            "conditions, or leave cross out"
        )
    return tuple(made)


def _labels(cross: Cross, runs: Runs) -> list[str]:
    """The conditions that are crossed."""
    first = {label: next(iter(of.values())) for label, of in runs.items()}
    if cross.conditions is None:
        return [
            label for label, run in first.items() if run.train.steps and run.build_team().agents > 1
        ]
    for label in cross.conditions:
        if label not in runs:
            raise ValueError(f"cross.conditions names '{label}'. {near(label, list(runs))}")
        if first[label].build_team().agents == 1:
            raise ValueError(
                f"cross.conditions names '{label}', whose team {first[label].team.name} has one "
                "agent: nobody to exchange. Remedy: leave it out"
            )
    return list(cross.conditions)


def _group(run: RunConfig, protocol: Protocol) -> str:
    """Name of what conditions must have in common to be crossed: topology, benchmarks, form of
    prompts and length of messages.
    """
    played = protocol.benchmarks(run)[0]
    alike = {
        "team": run.team.model_dump(mode="json"),
        "benchmarks": [run.benchmark.model_dump(mode="json"), played.model_dump(mode="json")],
        "shots": run.shots,
        "limits": list(protocol.limits(run)),
    }
    return f"{run.team.name}-{fingerprint(alike)}"


def _seeds(cross: Cross, members: Runs) -> list[int]:
    """The seeds that all members have, or those asked for of them.

    Raises:
        ValueError: a seed that a member does not have.
    """
    common = set.intersection(*(set(of) for of in members.values()))
    if cross.seeds == "all":
        if not common:
            raise ValueError(f"cross: {list(members)} have no seed in common")
        return sorted(common)
    unknown = sorted(set(cross.seeds) - common)
    if unknown:
        raise ValueError(
            f"cross.seeds names {unknown}, which not all of {list(members)} have. They have in "
            f"common: {sorted(common)}"
        )
    return sorted(cross.seeds)


def _players(
    members: Sequence[str], runs: Runs, seeds: Sequence[int], untrained: bool
) -> dict[str, CrossPlayer]:
    """Who plays by label: the members' trained policies; and the untrained ones, once for each set
    of base models that members start from.
    """
    players = {
        label: CrossPlayer(trained=True, runs={seed: runs[label][seed].id for seed in seeds})
        for label in members
    }
    if not untrained:
        return players
    starts: dict[tuple[str, ...], str] = {}
    for label in members:
        starts.setdefault(tuple(runs[label][seed].base for seed in seeds), label)
    for label in starts.values():
        models = "+".join(model.name for model in runs[label][seeds[0]].models)
        name = UNTRAINED if len(starts) == 1 else f"{UNTRAINED},{models}"
        if name in players:
            raise ValueError(
                f"cross: the untrained team would be called '{name}', as a condition is. Remedy: "
                "rename the condition, or untrained: false"
            )
        ids = {seed: runs[label][seed].id for seed in seeds}
        players[name] = CrossPlayer(trained=False, runs=ids)
    return players


def _decoding(team: Team, protocol: Protocol) -> str:
    """The decoding that agents are crossed under. Voters of one policy all say the same greedily,
    so that one of another condition is outvoted whatever it says: they are crossed as hot as the
    protocol plays them.
    """
    if team.answer != "vote":
        return protocol.primary
    return max(protocol.decodings, key=lambda name: protocol.decodings[name].temperature)


def _plan(
    group: str,
    players: dict[str, CrossPlayer],
    asked: tuple[Cross, Protocol],
    of_member: Mapping[int, RunConfig],
) -> CrossPlan:
    cross, protocol = asked
    run = next(iter(of_member.values()))
    played = protocol.benchmarks(run)[0]
    team = run.build_team()
    roles = {turn.agent: turn.role for turn in reversed(team.turns)}
    name = cross.decoding or _decoding(team, protocol)
    decoding = protocol.decodings[name]
    return CrossPlan(
        id=group,
        team=run.team.name,
        roles=tuple(roles[agent] for agent in range(team.agents)),
        players=players,
        benchmark=played.name,
        params=played.params,
        trained_on=tasks_slug(run.benchmark),
        tasks=tasks_slug(played),
        most=cross.tasks or protocol.tasks,
        decoding=name,
        temperature=decoding.temperature,
        top_p=decoding.top_p,
        top_k=decoding.top_k,
        samples=decoding.samples_of(
            played.name, min(cross.tasks or protocol.tasks_of(played), protocol.tasks_of(played))
        ),
        limits=protocol.limits(run),
        seed=protocol.seed,
        stage=STAGE_VERSIONS["cross"],
    )
