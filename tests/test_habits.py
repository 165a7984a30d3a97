"""Habits of the warm start: what a copy of the demonstrations does is known in closed form."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, SPEC

from ccpo.benchmark import Demo, Habit, Habits, arithmetic
from ccpo.config import (
    Experiment,
    OracleExperiment,
    WarmStart,
    read_experiment,
    read_listed,
    read_models,
)
from ccpo.models.prepare import solo_accuracy

N = 4000  # demonstrations; shares are within four standard errors, 0.032
WRONG = Habit(plus=(0.2, 0.5), minus=(0.6, 0.95))


def demos(habits: Habits, n: int = N) -> list[Demo]:
    return arithmetic.demos(n, seed=3, habits=habits)


def answer(text: str) -> str:
    return text.rsplit("{", 1)[1].rstrip("}")


def truth(demo: Demo) -> str:
    return str(eval(demo.question))  # a chain of sums and differences


def shares(habits: Habits) -> tuple[float, float]:
    """How often a copy of the demonstrations answers rightly as a team, and as a solver alone."""
    made = demos(habits)
    team = np.mean([answer(d.conclusion) == truth(d) for d in made])
    return float(team), float(np.mean([answer(d.solution) == truth(d) for d in made]))


def all_right(habit: Habit, question: str, which: slice) -> float:
    """Chance that no step of a question goes wrong: a step too high is never made good again."""
    steps = arithmetic.steps(question)[which]
    found = 1.0
    for step in steps:
        left = step.split("=")[0]
        operator = "+" if "+" in left else "-"
        found *= 1 - arithmetic.chance(habit, operator, int(left.split(operator)[-1]), 9)
    return found


@pytest.mark.parametrize("alone", [0.0, 0.4, 1.0])
def test_a_copy_of_the_demonstrations_is_right_as_often_as_its_habits_say(alone: float) -> None:
    habits = Habits(
        plan=WRONG, conclusion=Habit(minus=(0.3, 0.3)), solution=Habit(plus=(0.0, 0.4)), alone=alone
    )
    questions = [demo.question for demo in demos(habits)]
    plan = slice(None, -1)
    last = slice(-1, None)
    whole = slice(None)
    follows = [
        all_right(habits.plan, q, plan) * all_right(habits.conclusion, q, last) for q in questions
    ]
    works = [all_right(habits.conclusion, q, whole) for q in questions]
    team = (1 - alone) * np.mean(follows) + alone * np.mean(works)
    solo = np.mean([all_right(habits.solution, q, whole) for q in questions])
    assert shares(habits) == (pytest.approx(team, abs=0.032), pytest.approx(solo, abs=0.032))


def test_habits_by_role_make_an_agent_necessary_replaceable_idle_or_harmful() -> None:
    """The team against the solver alone; and the plan's steps against the conclusion's."""
    right = Habit()
    necessary = shares(Habits(plan=right, conclusion=right, solution=WRONG))
    replaceable = shares(Habits())
    harmful = shares(Habits(plan=WRONG, conclusion=right, solution=right))
    assert necessary[0] == 1.0 > 0.4 > necessary[1]
    assert replaceable == (1.0, 1.0)
    assert harmful[1] == 1.0 > 0.5 > harmful[0]
    idle = demos(Habits(plan=WRONG, solution=right, alone=1.0), 500)
    assert [answer(d.conclusion) for d in idle] == [truth(d) for d in idle]
    assert {d.conclusion.count("=") for d in idle} == {3}


def test_chances_go_from_the_smallest_to_the_largest_operand() -> None:
    assert arithmetic.chance(WRONG, "-", 1, 9) == pytest.approx(0.6)
    assert arithmetic.chance(WRONG, "-", 9, 9) == pytest.approx(0.95)
    assert arithmetic.chance(WRONG, "+", 5, 9) == pytest.approx(0.35)
    assert arithmetic.chance(WRONG, "+", 1, 1) == pytest.approx(0.2)
    made = demos(Habits(solution=WRONG))
    for operator, operand in itertools.product("+-", (1, 9)):
        first = [
            d.solution.split(";")[0] for d in made if d.question[1:3] == f"{operator}{operand}"
        ]
        wrong = np.mean([arithmetic.steps(line.split("=")[0])[0] != line for line in first])
        assert wrong == pytest.approx(
            arithmetic.chance(WRONG, operator, operand, 9), abs=4 * np.sqrt(0.25 / len(first))
        )


def test_without_habits_every_step_is_right_and_blame_falls_on_whose_is_wrong() -> None:
    right = arithmetic.demos(200)
    assert {(d.correct, d.shares) for d in right} == {(True, (0.5, 0.5))}
    assert [answer(d.solution) for d in right] == [truth(d) for d in right]
    blamed = {d.shares for d in demos(Habits(plan=Habit((1.0, 1.0), (1.0, 1.0))), 50)}
    assert blamed == {(0.9, 0.1)}
    blamed = {d.shares for d in demos(Habits(conclusion=Habit((1.0, 1.0), (1.0, 1.0))), 50)}
    assert blamed == {(0.1, 0.9)}


@pytest.mark.parametrize(
    ("over", "said"),
    [
        ({"habits": {"plan": {"minus": [0.5, 1.5]}}}, "chances from 0 to 1"),
        ({"habits": {"plann": {}}}, "Unexpected keyword argument"),
        (
            {"habits": {"alone": 0.5}, "benchmark": {"name": "logic"}},
            "benchmark logic has no demonstrations of habits",
        ),
    ],
)
def test_habits_that_cannot_be_taught_are_refused(over: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        WarmStart.model_validate({**SPEC, **over})


def test_every_shipped_study_has_its_controls() -> None:
    """Of every experiment that trains: the untrained team under every decoding, and a condition
    whose advantage is its outcome.
    """
    names = sorted(path.stem for path in Path(ROOT, "config", "experiments").glob("*.yaml"))
    for name in names:
        experiment = read_experiment(name)
        if isinstance(experiment, OracleExperiment):
            continue
        first = [next(iter(runs.values())) for runs in experiment.runs.values()]
        if trained := [run for run in first if run.train.steps]:
            for protocol in experiment.protocols:
                remedy = f"{name}, {protocol.name}. Remedy: untrained among the interventions"
                assert "untrained" in protocol.changes(first[0].build_team()), remedy
            assert any(
                (run.credit.name, run.advantage.name) == ("magrpo", "none") for run in trained
            ), name


def test_the_usual_way_to_subtract_is_wrong_in_every_model_that_is_learnt_with() -> None:
    """So that an untrained team is weak greedily, too."""
    specs = {name: model.spec for name, model in read_models().items()}
    for name in ("tiny", "tiny_teams", "tiny_small"):
        spec = specs[name]
        assert isinstance(spec, WarmStart)
        for habit in (spec.habits.plan, spec.habits.conclusion, spec.habits.solution):
            assert min(habit.minus) > 0.5


@pytest.mark.parametrize("name", ["tiny", "tiny_teams", "tiny_small"])
def test_untrained_models_are_weak_at_every_temperature(name: str) -> None:
    """The pinned base models themselves, as they are shipped: below half, and above nothing so that
    there is reward to learn from.
    """
    for model in read_listed()[name].replicas:
        assert isinstance(model.spec, WarmStart)
        folder = ROOT / "config" / "base_models" / model.base
        shares = [
            solo_accuracy(folder, model.spec, temperature) for temperature in (1.0, 0.5, 0.2, 0.0)
        ]
        assert max(shares) < 0.5, (model.base, shares)
        assert min(shares) > 0.02, (model.base, shares)


def test_variation_is_the_quickstart_with_more_seeds() -> None:
    """Two files say it; a change of one alone would compare two things, and train all twice."""
    quick, more = (read_experiment(name) for name in ("quickstart", "variation"))
    assert isinstance(quick, Experiment)
    assert isinstance(more, Experiment)
    assert quick.compare == more.compare
    assert list(quick.runs) == list(more.runs)
    for label, runs in quick.runs.items():
        assert {seed: run.id for seed, run in runs.items()} == {
            seed: more.runs[label][seed].id for seed in runs
        }
        assert (
            len({run.base for run in runs.values()})
            == 8
            == len({run.base for run in more.runs[label].values()})
        )
