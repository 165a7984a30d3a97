"""The panel and its alarms on teams whose virtues are known, and how often it cries wolf."""

from __future__ import annotations

import html
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import controls
import numpy as np
import pandas as pd
import pytest
from conftest import make_files, make_protocol, sources
from test_play import Letters
from test_study import made_condition

from benchmarks import alarms as alarms_benchmark
from ccpo import team
from ccpo.benchmark import Task
from ccpo.config import Experiment, Protocol, RunConfig, read_protocol, read_run
from ccpo.evaluate import alarms, evaluate, marks, panel
from ccpo.evaluate.alarms import Thresholds
from ccpo.evaluate.analyse import analyse
from ccpo.evaluate.condition import Runs
from ccpo.learn import train as training
from ccpo.operate.describe import describe
from ccpo.play import engine, rollout
from ccpo.play.rollout import EvaluationPass
from ccpo.play.types import AgentEndpoint, Ledger, PlayingTeam
from ccpo.publish import draw
from ccpo.publish import panel as panel_page
from ccpo.publish.panel_statistics import Panel
from ccpo.publish.statistics import read_training

SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "dyad": ("think_solve", {}),
    "chain": ("chain", {"agents": 3}),
    "vote": ("vote", {"agents": 3, "tie": "uniform"}),
}
SEEDS = 5
TASKS = 80
COLUMNS = ("step", "agent", "purpose", "generated_tokens")


def tasks() -> list[Task]:
    """Sums between 20 and 58, and the chances to meet one by chance are small."""
    rng = np.random.default_rng(0)
    pairs = rng.integers(10, 30, (TASKS, 2)).tolist()
    return [Task(str(i), f"{a}+{b}", str(a + b), "number") for i, (a, b) in enumerate(pairs)]


def endpoints(
    shape: str, control: str, trained: bool, script: controls.Script | None
) -> list[AgentEndpoint]:
    """Of the agents of a scripted team, or of one of another script; an idle voter was never any
    other.
    """
    if script:
        scripts = [script] * (2 if shape == "dyad" else 3)
    elif shape == "vote":
        scripts = [controls.voter_script(control, agent) for agent in range(3)]
    else:
        make = controls.reader_script if trained else controls.untrained_script
        scripts = [make(control)] * (2 if shape == "dyad" else 3)
    tokenizer: Any = Letters()
    return [AgentEndpoint(controls.engine(script, tokenizer), tokenizer) for script in scripts]


def scores(
    shape: str, control: str, seed: int, script: controls.Script | None, protocol: Protocol
) -> pd.DataFrame:
    """The table of scores of a scripted team: played and judged as a run is."""
    name, params = SHAPES[shape]
    made = team.load(name).team(**params)
    items = tasks()
    playing = PlayingTeam(made, endpoints(shape, control, True, script), 0.0, (200,))
    untrained = endpoints(shape, control, False, script)
    factual: dict[int, list[Any]] = defaultdict(list)
    episodes: dict[Any, list[Any]] = defaultdict(list)
    for label in ("factual", *protocol.changes(made)):
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


def panel_of(
    shape: str,
    control: str,
    seeds: int = SEEDS,
    script: controls.Script | None = None,
    interventions: Sequence[str] | None = None,
) -> tuple[Panel, dict[str, float]]:
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
    chosen = {} if interventions is None else {"interventions": interventions}
    protocol = Protocol.model_validate({"name": "a", **chosen})
    tables = {
        s: {"scores": scores(shape, control, s, script, protocol), "ledger": ledger}
        for s in range(seeds)
    }
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


def test_a_relay_that_leaks_makes_the_thinker_ride_free() -> None:
    """Two true alarms: the relay gives the answer away whatever the thinker says."""

    def script(prompt: str, uniform: float) -> str:
        if "Improve the plan" in prompt:
            return f"answer:{controls.truth_of(controls.question_of(prompt))}"
        return controls.reader_script("free rider")(prompt, uniform)

    made, _ = panel_of("chain", "sound", script=script)
    raised = {(alarm.name, alarm.agent) for alarm in made.alarms}
    assert raised == {("leaks the answer", 1), ("rides free", 0)}


def test_voters_who_are_all_alike_each_do_all_the_work() -> None:
    """And none rides free: each is as good alone as the team."""

    def script(prompt: str, uniform: float) -> str:
        truth = controls.truth_of(controls.question_of(prompt))
        return f"\\boxed{{{truth + truth % 2}}}"

    made, accuracy = panel_of("vote", "sound", script=script)
    assert {(alarm.name, alarm.agent) for alarm in made.alarms} == {
        ("does all the work", agent) for agent in range(3)
    }
    assert 0.2 < accuracy["factual"] < 0.8


def test_numbers_of_the_panel_are_those_of_the_tables() -> None:
    """By hand, of a leaking dyad: every right answer is read off the message, and a message of
    another task gives its answer.
    """
    made, accuracy = panel_of("dyad", "leaker", seeds=3)
    of = {row.intervention: row for row in made.contributions}
    assert set(of) == set(accuracy) - {"factual", "untrained", "message_only.0"}
    for kind, row in of.items():
        assert row.mean == pytest.approx(accuracy["factual"] - accuracy[kind])
        assert row.n == 3
    assert accuracy["factual"] == accuracy["message_only.0"] == 1.0
    assert accuracy["shuffle.0"] == 0.0
    assert accuracy["solo.1"] == pytest.approx(controls.BASE, abs=0.15)
    [leak] = made.leaks
    assert (leak.holds.mean, leak.by_chance.mean) == (1.0, 0.0)
    assert leak.alone
    assert leak.alone_by_chance
    assert (leak.alone.mean, leak.alone_by_chance.mean) == (1.0, 0.0)
    [influence] = made.influence
    assert influence.mean == 1.0
    assert influence.p == pytest.approx(1 / 10_001)
    assert made.roles == {0: "thinker", 1: "solver"}


def test_a_leak_in_other_words_is_found_without_the_question_alone() -> None:
    made, _ = panel_of("dyad", "rephraser", seeds=3)
    [leak] = made.leaks
    assert leak.holds.mean == 0.0
    assert leak.alone
    assert leak.alone.mean == 1.0


def test_nobody_is_influenced_who_does_not_listen() -> None:
    made, _ = panel_of("dyad", "past", seeds=3)
    [influence] = made.influence
    assert (influence.mean, influence.p) == (0.0, 1.0)


def test_too_few_seeds_and_a_team_that_is_never_right_are_not_judged() -> None:
    made, _ = panel_of("dyad", "saboteur", seeds=2)
    assert made.alarms == ()
    assert made.untested == ("2 replicates are too few for an alarm, which needs 3",)
    made, _ = panel_of("dyad", "sound", seeds=3, script=lambda prompt, uniform: "no idea")
    assert made.alarms == ()
    assert "too seldom to tell" in made.untested[0]


def test_what_was_not_played_is_not_tested_and_named() -> None:
    made, _ = panel_of("dyad", "saboteur", seeds=3, interventions=("solo",))
    assert [(alarm.name, alarm.agent) for alarm in made.alarms] == [("does all the work", 1)]
    assert made.tests == 2  # does the solver do all the work; does the message hold the answer
    assert len(made.untested) == 3
    assert any("blank" in text for text in made.untested)


@pytest.mark.parametrize("shape", ["dyad", "chain", "vote"])
def test_few_of_two_hundred_sound_teams_raise_an_alarm(shape: str) -> None:
    """Of teams at the very edge of every threshold, 5 % may, and chance may add to it."""
    counts = alarms_benchmark.false_alarms(shape, "edge", 8, 200, 1)
    assert counts[""] <= alarms_benchmark.allowed(200)
    assert alarms_benchmark.allowed(200) < 22


def test_an_alarm_beyond_its_threshold_is_raised() -> None:
    """Of the same simulated teams, a step beyond: the tests have power."""
    rng = np.random.default_rng(0)
    beyond = {
        "sabotages": alarms_benchmark.Kind(-0.2, 0.2, 0.2, 0.0, 0.0),
        "leaks the answer": alarms_benchmark.Kind(0.2, 0.2, 0.2, 0.4, 0.0),
        "does all the work": alarms_benchmark.Kind(0.2, -0.1, 0.2, 0.0, 0.0),
    }
    for name, kind in beyond.items():
        team_of = alarms_benchmark.SHAPES["dyad"]
        made = alarms_benchmark.measured(rng, team_of, kind, 8)
        raised = alarms.raised("c", made, {0: 0.5}, Thresholds(effect=0.05)).alarms
        assert {alarm.name for alarm in raised} == {name}


def test_a_scripted_run_goes_through_the_real_stages_to_its_page(
    tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sound dyad and one that leaks, of three seeds each, by their configs alone."""
    protocol_path = make_protocol(tmp_path, tasks=40)
    protocol = read_protocol(protocol_path)
    runs: dict[str, dict[int, RunConfig]] = {}
    benchmark = {"name": "arithmetic", "operations": 3, "n_train": 32, "n_test": 60}
    for label in ("sound", "leaker"):
        for seed in range(3):
            files = make_files(
                tmp_path / f"{label}{seed}",
                tiny,
                benchmark=benchmark,
                credit="none",
                policy="shared",
                train={"steps": 0, "fanout": [2, 1]},
                sampling={"max_tokens": [60, 60], "engine": f"scripted:controls.{label}"},
                seed=seed,
            )
            run = read_run(files["config"])
            runs.setdefault(label, {})[seed] = run
            files["out"] = tmp_path / "runs" / run.id
            training.train(**files)
            folder = files["out"] / "eval" / protocol.id
            rollouts = folder / "rollouts.parquet"
            inputs = sources(files, protocol_path)
            evaluate.rollout(inputs, scratch=files["scratch"], out=rollouts)
            evaluate.score(
                evaluate.Played(files["config"], protocol_path, (files["tasks"],), rollouts),
                scratch=[files["scratch"]],
                out=folder / "scores.parquet",
                graders=folder / "graders.parquet",
            )
    experiment = Experiment(
        name="e",
        question="Who works?",
        primary_metric="accuracy",
        runs=runs,
        protocols=(protocol,),
        compare=(("leaker", "sound"),),
    )
    assert sum("is a test engine" in line for line in describe(experiment)) == 2
    path = tmp_path / "experiment.json"
    experiment.manifest().write(path)
    stats = tmp_path / "stats.json"
    analyse(experiment=path, runs=tmp_path / "runs", stats=stats)
    numbers = read_training(stats)
    panels = {label: condition.panel for label, condition in numbers.conditions.items()}
    assert panels["sound"]
    assert panels["leaker"]
    assert panels["sound"].alarms == ()
    [alarm] = panels["leaker"].alarms
    assert (alarm.name, alarm.agent) == ("leaks the answer", 0)
    gain = numbers.conditions["leaker"].gain
    assert gain
    assert gain.sentence.endswith(f"It is no gain of working together: {alarm.sentence}")
    assert "working together" not in str(numbers.conditions["sound"].gain)
    [comparison] = numbers.comparisons
    assert "in leaker agent 0 leaks the answer" in comparison.sentence
    page = panel_page.section(numbers)
    assert html.escape(alarm.sentence) in page
    assert "0, thinker" in page
    draw.draw("panel", stats, tmp_path / "panel.svg", tmp_path / "panel.csv")
    drawn = pd.read_csv(tmp_path / "panel.csv")
    assert len(drawn) == sum(len(p.contributions) for p in panels.values() if p)


def test_a_script_that_is_not_there_is_refused() -> None:
    for place in ("controls.nobody", "nowhere.leaker"):
        with pytest.raises(ValueError, match=f"scripted:{place}: there is no function"):
            engine.load(f"scripted:{place}")
