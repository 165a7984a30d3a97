"""The panel and its alarms on teams whose virtues are known, and how often it cries wolf."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import controls
import numpy as np
import pandas as pd
import pytest
from test_play import Letters
from test_study import made_condition

from ccpo import team
from ccpo.benchmark import Task
from ccpo.config import Protocol
from ccpo.evaluate import evaluate, marks, panel
from ccpo.evaluate.alarms import Thresholds
from ccpo.evaluate.condition import Runs
from ccpo.play import rollout
from ccpo.play.rollout import EvaluationPass
from ccpo.play.types import AgentEndpoint, Ledger, PlayingTeam
from ccpo.publish.panel_statistics import Panel

SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "dyad": ("think_solve", {}),
    "chain": ("chain", {"agents": 3}),
    "vote": ("vote", {"agents": 3, "tie": "uniform"}),
}
SEEDS = 5
TASKS = 80
COLUMNS = ("step", "agent", "purpose", "generated_tokens")
PROTOCOL = Protocol(name="a")


def tasks() -> list[Task]:
    """Sums between 20 and 58, and the chances to meet one by chance are small."""
    rng = np.random.default_rng(0)
    pairs = rng.integers(10, 30, (TASKS, 2)).tolist()
    return [Task(str(i), f"{a}+{b}", str(a + b), "number") for i, (a, b) in enumerate(pairs)]


def endpoints(shape: str, control: str, trained: bool) -> list[AgentEndpoint]:
    """Of the agents of a scripted team; an idle voter was never any other."""
    if shape == "vote":
        scripts = [controls.voter_script(control, agent) for agent in range(3)]
    else:
        make = controls.reader_script if trained else controls.untrained_script
        scripts = [make(control)] * (2 if shape == "dyad" else 3)
    tokenizer: Any = Letters()
    return [AgentEndpoint(controls.engine(script, tokenizer), tokenizer) for script in scripts]


def scores(shape: str, control: str, seed: int) -> pd.DataFrame:
    """The table of scores of a scripted team: played and judged as a run is."""
    name, params = SHAPES[shape]
    made = team.load(name).team(**params)
    items = tasks()
    playing = PlayingTeam(made, endpoints(shape, control, True), 0.0, (200,))
    untrained = endpoints(shape, control, False)
    factual: dict[int, list[Any]] = defaultdict(list)
    episodes: dict[Any, list[Any]] = defaultdict(list)
    for label in ("factual", *PROTOCOL.changes(made)):
        once = EvaluationPass(label, 1, factual, {}, untrained)
        for row in rollout.evaluate(playing, items, once, [seed], Ledger()):
            if label == "factual":
                factual[row["turn"]].append(row)
            episodes["sums", row["task_id"], "greedy", row["sample"], label].append(dict(row))
    truths = {("sums", task.task_id): task for task in items}
    unlike = {pair: evaluate._unlike(truths, pair) for pair in truths}
    heads = [dict(zip(HEAD, key, strict=True)) for key in episodes]
    judged = evaluate.judge(made, episodes, truths, unlike)
    return pd.DataFrame([{**head, **row} for head, row in zip(heads, judged, strict=True)])


HEAD = ("benchmark", "task_id", "decoding", "sample", "intervention")


def panel_of(shape: str, control: str, seeds: int = SEEDS) -> tuple[Panel, dict[str, float]]:
    """The panel of a scripted team, and its accuracies by intervention."""
    name, params = SHAPES[shape]
    planned = made_condition("c", "shared", range(seeds)).model_copy(
        update={
            "evaluated": ("sums",),
            "config": {"team": {"name": name, "params": params}},
            "bases": dict.fromkeys(range(seeds), "m"),
        }
    )
    ledger = pd.DataFrame(columns=list(COLUMNS))
    tables = {s: {"scores": scores(shape, control, s), "ledger": ledger} for s in range(seeds)}
    runs = Runs(planned, tables, {s: marks.of_run(t["scores"], "r") for s, t in tables.items()})
    made = panel.panel(runs, Thresholds(effect=0.05))
    assert made
    every = pd.concat(t["scores"] for t in tables.values())
    return made, every.groupby("intervention").accuracy.mean().to_dict()


EXPECTED = {
    ("dyad", "sound"): set[tuple[str, int]](),
    ("dyad", "free rider"): {("rides free", 0)},
    ("dyad", "past"): {("talks past its partner", 0)},
    ("dyad", "saboteur"): {("sabotages", 0)},
    ("dyad", "leaker"): {("leaks the answer", 0)},
    ("dyad", "rephraser"): {("leaks the answer", 0)},
    ("chain", "sound"): set[tuple[str, int]](),
    ("chain", "free rider"): {("rides free", 0)},
    ("chain", "past"): {("talks past its partner", 0)},
    ("chain", "saboteur"): {("sabotages", 0)},
    # the relay, which passes it on, is not said to leak
    ("chain", "leaker"): {("leaks the answer", 0)},
    ("chain", "rephraser"): {("leaks the answer", 0)},
    ("vote", "sound"): set[tuple[str, int]](),
    ("vote", "free rider"): {("rides free", 0)},
    ("vote", "saboteur"): {("sabotages", 0)},
    # nobody reads a ballot: who knows the truth needs no other, and a riddle is no vote
    ("vote", "leaker"): {("does all the work", 0)},
    ("vote", "rephraser"): {("rides free", 0)},
}


@pytest.mark.parametrize(("shape", "control"), sorted(EXPECTED))
def test_every_control_raises_its_alarm_and_no_other(shape: str, control: str) -> None:
    made, accuracy = panel_of(shape, control)
    raised = {(alarm.name, alarm.agent) for alarm in made.alarms}
    assert raised == EXPECTED[shape, control], (made.alarms, accuracy)
    assert not made.untested
