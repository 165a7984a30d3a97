"""What several answers to a task are worth: against enumeration; intervals against simulation; a
single agent at a team's tokens against a count by hand.
"""

from __future__ import annotations

import importlib.util
import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from scipy import stats
from test_study import made_condition

from ccpo import team
from ccpo.benchmark import Task
from ccpo.evaluate import evaluate, levels, metrics
from ccpo.evaluate.condition import Runs
from ccpo.evaluate.equal_tokens import equal_tokens
from ccpo.evaluate.marks import Marks, Played
from ccpo.evaluate.measured import of_marks
from ccpo.publish.metric_statistics import Levels
from ccpo.team import vote_answer, vote_outcome

EXACT = 1e-12

# -- metrics against enumeration


def of_subsets(values: np.ndarray, k: int, metric: Callable[[np.ndarray], float]) -> float:
    """The mean of a metric over all k-subsets."""
    return float(
        np.mean([metric(values[list(s)]) for s in itertools.combinations(range(len(values)), k)])
    )


def voted(ballots: np.ndarray) -> float:
    """The chance that the most frequent answer is right, by a count."""
    return float(vote_outcome(ballots[None], "uniform")[0])


@pytest.mark.parametrize("seed", range(20))
def test_pass_majority_and_average_at_k_are_means_over_all_subsets(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 9))
    ballots = rng.integers(-1, 4, (5, n))
    marks = (ballots == 0).astype(float)
    passed = metrics.pass_at(marks)
    majority = metrics.majority_at(ballots)
    for task, k in itertools.product(range(5), range(1, n + 1)):
        right = int(marks[task].sum())
        chen = 1 - math.comb(n - right, k) / math.comb(n, k)
        enumerated = of_subsets(marks[task], k, lambda subset: float(subset.max()))
        assert passed[task, k - 1] == pytest.approx(enumerated, abs=EXACT)
        assert passed[task, k - 1] == pytest.approx(chen, abs=EXACT)
        enumerated = of_subsets(ballots[task], k, voted)
        assert majority[task, k - 1] == pytest.approx(enumerated, abs=EXACT)
        average = of_subsets(marks[task], k, lambda subset: float(subset.mean()))
        assert marks[task].mean() == pytest.approx(average, abs=EXACT)
    assert passed[:, 0] == pytest.approx(marks.mean(axis=1), abs=EXACT)
    assert majority[:, 0] == pytest.approx(marks.mean(axis=1), abs=EXACT)


def test_a_mark_between_counts_as_a_chance() -> None:
    """One of two answers is right for sure, the other one by lot."""
    assert metrics.pass_at(np.array([[0.5, 0.0, 1.0]]))[0].tolist() == pytest.approx(
        [0.5, (0.5 + 1 + 1) / 3, 1.0]
    )


def test_large_numbers_of_samples_stay_exact() -> None:
    """64 answers in classes: against 20,000 drawn subsets of 16, within four standard errors."""
    rng = np.random.default_rng(0)
    ballots = rng.choice([-1, 0, 1, 2, 3], 64, p=[0.1, 0.3, 0.3, 0.2, 0.1])
    majority = metrics.majority_at(ballots[None])[0]
    drawn = np.stack([rng.permutation(ballots)[:16] for _ in range(20_000)])
    outcomes = vote_outcome(drawn, "uniform")
    assert majority[15] == pytest.approx(
        outcomes.mean(), abs=4 * outcomes.std() / math.sqrt(20_000)
    )
    assert ((majority >= 0) & (majority <= 1)).all()


def test_the_lot_of_a_tied_vote_gives_each_tied_answer_its_share() -> None:
    """All votes of four over three classes and none: over evenly spread lots the share of right
    answers is what the vote pays.
    """
    lots = [(i + 0.5) / 12 for i in range(12)]
    for votes in itertools.product((-1, 0, 1, 2), repeat=4):
        for tie in ("uniform", "first", "wrong"):
            answers = [vote_answer(np.array(votes), tie, lot) for lot in lots]
            paid = vote_outcome(np.array([votes]), tie)[0]
            assert np.mean([answer == 0 for answer in answers]) == pytest.approx(paid), votes


# -- intervals


def benchmark_script() -> ModuleType:
    """benchmarks/levels.py."""
    import sys

    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        spec = importlib.util.spec_from_file_location("levels_bench", ROOT / "benchmarks/levels.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["levels_bench"] = module
        spec.loader.exec_module(module)
    finally:
        sys.path.pop(0)
    return module


@pytest.mark.parametrize(("seeds", "tasks", "sd"), [(3, 100, 0.05), (5, 30, 0.0), (8, 100, 0.05)])
def test_two_level_intervals_hold_the_truth_as_often_as_they_say(
    seeds: int, tasks: int, sd: float
) -> None:
    """500 studies each, so that chance moves a coverage by up to 2.9 points at three standard
    errors; benchmarks/levels.py has more of them and bounds of 1.5.
    """
    script = benchmark_script()
    row = script.covered(script.Design(seeds, tasks, 8, sd), 500, 1)
    assert row.both == pytest.approx(0.95, abs=0.015 + 0.029)
    assert row.inside


def test_an_interval_over_tasks_is_the_t_interval_of_their_means() -> None:
    grid = np.random.default_rng(0).beta(2, 2, (3, 40))
    of_tasks = grid.mean(axis=0)
    expected = stats.t.interval(0.95, 39, of_tasks.mean(), stats.sem(of_tasks))
    assert levels.over_items(grid) == pytest.approx(expected)


def test_the_two_level_interval_is_the_wider_ones_where_the_other_noise_is_nothing() -> None:
    """Tasks that are all alike: replicates alone; replicates that are all alike: tasks alone."""
    rng = np.random.default_rng(0)
    shifts = rng.normal(0, 0.03, 5)
    alike = 0.5 + np.repeat(shifts[:, None], 2000, axis=1) + rng.normal(0, 1e-4, (5, 2000))
    of_seeds = stats.t.interval(0.95, 4, alike.mean(), stats.sem(alike.mean(axis=1)))
    assert levels.over_both(alike) == pytest.approx(of_seeds, rel=1e-3)
    same = np.repeat(rng.random((1, 50)), 5, axis=0)
    assert levels.over_both(same) == pytest.approx(levels.over_items(same))


@pytest.mark.parametrize("level", [0.0, 0.02, 0.98, 1.0])
def test_ends_are_shares_and_no_variance_is_no_certainty(level: float) -> None:
    """Three seeds, thirty tasks, four answers: at every k every end is a share, and where all
    answers are right, or none is, other tasks or seeds may still give another level.
    """
    rng = np.random.default_rng(1)
    by_seed = {}
    for seed in range(3):
        ballots = np.where(rng.random((30, 4)) < level, 0, 1)
        values = (ballots == 0).astype(float)
        by_seed[seed] = Marks(np.arange(30).astype(str), values, ballots, np.full(30, 5.0))
    row = of_marks(by_seed, dict.fromkeys(range(3), "one"))
    every: list[Levels] = [row.average, *row.pass_at.values(), *row.majority_at.values()]
    assert set(row.pass_at) == set(row.majority_at) == {1, 2, 3, 4}
    for each in every:
        for bounds in (each.seeds, each.items, each.both):
            assert bounds is not None
            assert 0 <= bounds[0] <= each.mean <= bounds[1] <= 1
            assert bounds[0] < bounds[1]


def test_one_seed_has_no_interval_over_seeds() -> None:
    ballots = np.random.default_rng(0).integers(0, 2, (30, 2))
    marks = Marks(np.arange(30).astype(str), (ballots == 0).astype(float), ballots)
    row = of_marks({0: marks}, {0: "one"})
    assert row.average.seeds is None
    assert row.average.both is None
    assert row.average.items is not None


# -- what the scores say


def said(texts: list[list[str]], name: str = "think_solve", **over: Any) -> list[dict[str, Any]]:
    """Judged samples of one task, 3+4: the messages of each sample."""
    made = replace(team.load(name).team(), **over)
    truths = {("arithmetic", "a"): Task("a", "3+4", "7", "number")}
    episodes = {
        ("arithmetic", "a", "t1", sample, "factual"): [
            {
                "turn": turn,
                "agent": turn,
                "fate": "drawn",
                "completion": text,
                "n_completion_tokens": 1,
                "logprob": 0.0,
            }
            for turn, text in enumerate(messages)
        ]
        for sample, messages in enumerate(texts)
    }
    return list(evaluate.judge(made, episodes, truths, {("arithmetic", "a"): None}))


def test_answers_of_a_tasks_samples_are_told_apart_by_value() -> None:
    """1/2 and 0.5 are one answer, whatever the thoughts are."""
    texts = ["\\boxed{7}", "\\boxed{1/2}", "none", "\\boxed{8}", "\\boxed{0.5}", "\\boxed{7.0}"]
    rows = said([[f"thought {i}", text] for i, text in enumerate(texts)])
    assert [row["ballot"] for row in rows] == [0, 1, -1, 2, 1, 0]
    assert [row["accuracy"] for row in rows] == [1, 0, 0, 0, 0, 1]


def test_the_answer_of_a_voting_team_is_what_it_voted() -> None:
    """Classes are those of all samples: 8 is the same answer in the second and in the third."""
    rows = said(
        [
            ["\\boxed{7}", "\\boxed{7}", "\\boxed{9}"],
            ["\\boxed{8}", "\\boxed{7}", "\\boxed{8}"],
            ["\\boxed{9}", "\\boxed{8}", "\\boxed{8}"],
            ["no", "no", "no"],
        ],
        "vote",
    )
    ballots = [row["ballot"] for row in rows]
    assert ballots[0] == 0
    assert ballots[1] == ballots[2] > 0
    assert ballots[3] == -1
    assert [row["accuracy"] for row in rows] == [1, 0, 0, 0]


def test_a_papers_grader_gives_the_verdicts_where_a_protocol_names_it() -> None:
    """C3's accepts 7.2 for 7: a relative error of 4 per cent; the class of the answer follows."""
    truths = {("arithmetic", "a"): Task("a", "3+4", "7", "number")}
    key = ("arithmetic", "a", "t1", 0, "factual")
    message = {
        "turn": 0,
        "agent": 0,
        "fate": "drawn",
        "completion": "\\boxed{7.2}",
        "n_completion_tokens": 1,
        "logprob": 0.0,
    }
    single = team.load("single").team()
    none = {key[:2]: None}
    for grader, accuracy, ballot in (("ours", 0.0, 1), ("c3", 1.0, 0)):
        [row] = evaluate.judge(single, {key: [message]}, truths, none, grader)
        assert (row["accuracy"], row["ballot"]) == (accuracy, ballot)


# -- a single agent at equal tokens


def runs_of(label: str, turns: int, tokens: float, ballots: np.ndarray) -> Runs:
    """A condition of made-up answers [seeds, tasks, samples] at temperature 1, and of the first of
    them greedily.
    """
    n_seeds, n_tasks, _ = ballots.shape
    planned = made_condition(label, "shared", range(n_seeds)).model_copy(update={"turns": turns})
    names = np.arange(n_tasks).astype(str)
    of_seeds = {}
    for seed, own in enumerate(ballots):
        spent = np.full(n_tasks, tokens)
        of_seeds[seed] = {
            Played("arithmetic", decoding): Marks(names, (x == 0).astype(float), x, spent)
            for decoding, x in (("greedy", own[:, :1]), ("t1", own))
        }
    return Runs(planned, {}, of_seeds)


@pytest.mark.parametrize(
    ("tokens", "tolerance", "k", "wanted"),
    [
        (10.0, 0.0, 1, 1),
        (29.9, 0.0, 2, 2),
        (29.9, 0.1, 3, 3),
        (30.0, 0.0, 3, 3),
        (75.0, 0.0, 4, 7),
        (9.0, 0.0, 1, 0),
        (9.2, 0.1, 1, 1),
    ],
)
def test_a_single_agent_answers_as_often_as_the_teams_tokens_pay(
    tokens: float, tolerance: float, k: int, wanted: int
) -> None:
    """An answer takes 10 tokens, four were drawn; the difference is that of the means over tasks of
    enumerated majorities, and what does not match is said.
    """
    rng = np.random.default_rng(0)
    ballots = rng.integers(-1, 3, (3, 20, 4))
    answers = rng.integers(0, 2, (3, 20, 1))
    there = {
        "dyad": runs_of("dyad", 2, tokens, answers),
        "alone": runs_of("alone", 1, 10.0, ballots),
    }
    made = equal_tokens(there, tolerance)
    [row] = made.rows
    assert (row.k, row.wanted, row.drawn) == (k, wanted, 4)
    assert (row.team_tokens, row.single_tokens) == pytest.approx((tokens, 10.0 * k))
    assert row.matched is (k == wanted)
    for seed in range(3):
        majority = np.mean([of_subsets(x, k, voted) for x in ballots[seed]])
        own = (answers[seed] == 0).mean()
        assert row.difference.by_seed[seed] == pytest.approx(own - majority)
    [text] = made.sentences
    assert ("do not match" in text) is (k != wanted)
    assert f"{tokens:.0f} tokens a task" in text


def test_a_team_without_a_single_agent_of_its_model_is_named() -> None:
    ballots = np.zeros((3, 20, 4), int)
    other = runs_of("alone", 1, 10.0, ballots)
    other = replace(other, planned=other.planned.model_copy(update={"model": "another"}))
    made = equal_tokens({"dyad": runs_of("dyad", 2, 20.0, ballots), "alone": other}, 0.1)
    assert made.rows == ()
    assert "beside dyad" in made.sentences[0]


def test_the_figure_draws_curves_of_the_decoding_with_the_most_samples(tmp_path: Path) -> None:
    """Of four answers at least; the plotted means are those of the metrics."""
    from ccpo.publish.figure import pass_at_k
    from ccpo.publish.statistics import Decoding

    ballots = np.random.default_rng(0).integers(-1, 3, (3, 20, 4))
    of = runs_of("alone", 1, 10.0, ballots)
    played = {
        decoding: {
            "factual": of_marks(
                {s: m[Played("arithmetic", decoding)] for s, m in of.marks.items()}, of.bases
            )
        }
        for decoding in ("greedy", "t1")
    }
    decodings = {
        name: Decoding(temperature=t, words=name) for name, t in of.planned.decodings.items()
    }
    chosen = pass_at_k._of(played, decodings)
    assert chosen is not None
    assert chosen[0].samples == 4
    frame = np.array([row["mean"] for row in pass_at_k._rows("alone", "arithmetic", *chosen)])
    assert frame[:4] == pytest.approx(
        [np.mean(metrics.pass_at(np.concatenate(ballots) == 0)[:, k]) for k in range(4)]
    )
    assert pass_at_k._of({"greedy": played["greedy"]}, decodings) is None
