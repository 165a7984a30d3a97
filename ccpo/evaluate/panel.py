"""The free-riding panel: what each agent of a trained team contributes, whether its message gives
the answer away, and whether anybody heeds it. Its verdicts are in alarms.py.

Everything is paired with the factual team by task and sample, under the primary decoding on the
primary benchmark, and its interval is over the seeds (ccpo/evaluate/stats.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from ccpo import intervention
from ccpo import team as teams
from ccpo.evaluate import alarms, marks
from ccpo.evaluate import stats as st
from ccpo.evaluate.alarms import Measured, OfSeeds, Thresholds
from ccpo.evaluate.condition import Runs, contrast, observed, share
from ccpo.publish.panel_statistics import Contribution, Influence, Leak, Panel, TokenShare
from ccpo.publish.statistics import FACTUAL
from ccpo.team import Team

FLIPS = 10_000  # of the permutation null of an influence


def panel(of: Runs, thresholds: Thresholds) -> Panel | None:
    """The panel of a condition; None of a team of one agent, or where no intervention on an agent
    was played.
    """
    team = built_team(of)
    if team is None or team.agents == 1:
        return None
    measured = measure(of, team)
    if len(measured.accuracy) == 1:
        return None
    label = of.planned.label
    tokens = tuple(_tokens(of, team))
    paid = {row.agent: row.mean for row in tokens if row.part == "last"}
    raised = alarms.raised(label, measured, paid, thresholds)
    return Panel(
        roles={agent: measured.role(agent) for agent in range(team.agents)},
        contributions=tuple(contributions(measured)),
        influence=tuple(influences(measured)),
        leaks=tuple(leaks(measured)),
        tokens=tokens,
        alarms=raised.alarms,
        tests=raised.tests,
        level=thresholds.level,
        untested=raised.untested,
    )


def built_team(of: Runs) -> Team | None:
    """The team of a condition; None where its config does not say."""
    choice = of.planned.config.get("team")
    if not isinstance(choice, dict):
        return None
    params = choice.get("params")
    known = params if isinstance(params, dict) else {}
    made: Team = teams.load(str(choice["name"])).team(**known)
    return made


def measure(of: Runs, team: Team) -> Measured:
    """What was measured of a condition's agents, from the tables of scores."""
    grids = {seed: _grids(of, tables["scores"]) for seed, tables in of.tables.items()}
    kinds = [k for k in next(iter(grids.values())) if k == FACTUAL or _on_agent(k)]

    def by_seed(kind: str, column: str) -> OfSeeds:
        return {seed: of_seed[kind][column] for seed, of_seed in grids.items()}

    agents = range(team.agents)
    return Measured(
        team=team,
        bases=of.bases,
        accuracy={kind: by_seed(kind, "accuracy") for kind in kinds},
        changed={kind: by_seed(kind, "changed") for kind in kinds},
        replaced={kind: by_seed(kind, "replaced") for kind in kinds},
        guessed={kind: by_seed(kind, "accuracy_by_chance") for kind in kinds},
        leaks={a: by_seed(FACTUAL, f"leaks {a}") for a in agents},
        chances={a: by_seed(FACTUAL, f"leaks_by_chance {a}") for a in agents},
    )


def _on_agent(kind: str) -> bool:
    return intervention.parse(kind)[1] != intervention.ALL


def _grids(of: Runs, scores: pd.DataFrame) -> dict[str, dict[str, np.ndarray]]:
    """Of a run, by intervention and column: arrays [tasks, samples]. `changed`: the answer is
    spelled otherwise than the factual one, and not both are right.
    """
    own = scores[(scores.benchmark == of.benchmark) & (scores.decoding == of.planned.primary)]
    own = own.sort_values(["task_id", "sample"], kind="stable")
    shape = (own.task_id.nunique(), own["sample"].nunique())
    factual = own[own.intervention == FACTUAL]
    out = {}
    for kind, rows in own.groupby("intervention", sort=False):
        both_right = (rows.accuracy.to_numpy() == 1) & (factual.accuracy.to_numpy() == 1)
        changed = (rows.answer.to_numpy() != factual.answer.to_numpy()) & ~both_right
        columns = {"changed": changed.astype(float)}
        for name in ("accuracy", "replaced", "accuracy_by_chance"):
            columns[name] = rows[name].to_numpy(float)
        for name in ("leaks", "leaks_by_chance"):
            by_agent = np.stack(rows[name].to_list())
            columns |= {f"{name} {agent}": by_agent[:, agent] for agent in range(by_agent.shape[1])}
        out[str(kind)] = {name: values.reshape(shape) for name, values in columns.items()}
    return out


def contributions(measured: Measured) -> Iterator[Contribution]:
    """The factual team minus the team under each intervention on an agent; but for `message_only`,
    which takes away the question and is no measure of who contributes (see `leaks`).
    """
    factual = measured.accuracy[FACTUAL]
    for kind, changed in measured.accuracy.items():
        name, agent = intervention.parse(kind)
        if kind != FACTUAL and name != "message_only":
            row = contrast(marks.minus(factual, changed), measured.bases)
            yield Contribution(**dict(row), agent=agent, intervention=kind)


def influences(measured: Measured) -> Iterator[Influence]:
    """What the message of another task changes in the team's answers, for each agent who is
    read.
    """
    for agent in intervention.read_agents(measured.team):
        kind = f"shuffle.{agent}"
        if kind not in measured.accuracy:
            continue
        of_seeds = marks.minus(measured.accuracy[FACTUAL], measured.accuracy[kind])
        by_task = np.mean([values.mean(axis=1) for values in of_seeds.values()], axis=0)
        test = st.sign_flip(by_task, FLIPS)
        yield Influence(
            **dict(share(measured.changed[kind], measured.bases)),
            agent=agent,
            p=test.p if test else None,
            p_error=test.error if test else None,
        )


def leaks(measured: Measured) -> Iterator[Leak]:
    """Whether the message of each agent who is read holds the answer, by the verifier and by the
    thought-only test.
    """
    for agent in intervention.read_agents(measured.team):
        alone = f"message_only.{agent}"
        played = alone in measured.accuracy
        bases = measured.bases
        yield Leak(
            agent=agent,
            holds=share(measured.leaks[agent], bases),
            by_chance=share(measured.chances[agent], bases),
            alone=share(measured.accuracy[alone], bases) if played else None,
            alone_by_chance=share(measured.guessed[alone], bases) if played else None,
        )


def _tokens(of: Runs, team: Team) -> Iterator[TokenShare]:
    """Share of the tokens generated in training by each agent, in the first and the last fifth of
    the updates; nothing where nothing was trained.
    """
    for part in ("first", "last"):
        by_seed: dict[int, Mapping[int, float]] = {}
        for seed, tables in of.tables.items():
            steps = np.sort(tables["ledger"].step.unique())
            fifth = max(1, len(steps) // 5)
            chosen = steps[:fifth] if part == "first" else steps[-fifth:]
            rows = tables["ledger"][tables["ledger"].step.isin(chosen)]
            total = rows.generated_tokens.sum()
            if total:
                by_seed[seed] = (rows.groupby("agent").generated_tokens.sum() / total).to_dict()
        for agent in range(team.agents) if by_seed else ():
            shares = {seed: float(of_seed.get(agent, 0.0)) for seed, of_seed in by_seed.items()}
            interval = observed(shares, of.bases, st.SHARE)
            yield TokenShare(agent=agent, part=part, **dict(interval))
