"""The specification curve: every choice there are answers for is made once, each as by hand, and
the sentence counts them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_study import PROTOCOL, made_condition, made_up

from ccpo import manifest, schema
from ccpo.evaluate import analyse, answers, condition, specifications
from ccpo.evaluate.condition import Runs
from ccpo.evaluate.specifications import Sides, Under
from ccpo.publish import statistics
from ccpo.publish.referee_statistics import Specification, SpecificationCurve

N_SEEDS = 4
N_TASKS = 30


def scores(rng: np.random.Generator, right: float, votes: bool) -> pd.DataFrame:
    """Invented verdicts (test data): greedily one sample, at temperature 1 two."""
    rows = []
    for decoding, samples in (("greedy", 1), ("t1", 2)):
        for t in range(N_TASKS):
            for j in range(samples):
                codes = rng.choice([0, 1, 2], 3, p=[right, (1 - right) / 2, (1 - right) / 2])
                worth = float(answers.vote_outcome(codes[None], "uniform")[0])
                single = float(rng.random() < right)
                rows.append(
                    {
                        "benchmark": "arithmetic",
                        "task_id": str(t),
                        "decoding": decoding,
                        "sample": j,
                        "intervention": "factual",
                        "accuracy": worth if votes else single,
                        "fraction": worth if votes else single,
                        "defect": t < 6,
                        "ballot": 0,
                        "n_tokens": 1,
                        "votes": " ".join(map(str, codes)) if votes else "",
                    }
                )
    return pd.DataFrame(rows).sample(frac=1, random_state=0)


def graders(own: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """c3 marks a tenth otherwise than we do, ccpo marks all right and misses a verdict."""
    marked = own[["benchmark", "task_id", "decoding", "sample", "accuracy"]].copy()
    other = rng.random(len(own)) < 0.1
    marked["c3"] = np.where(other, 1 - own.accuracy, own.accuracy)
    marked["ccpo"] = 1.0
    return marked[~((marked.task_id == "3") & (marked.decoding == "greedy"))]


def side(label: str, right: float, votes: bool = False) -> Runs:
    rng = np.random.default_rng(len(label) + int(100 * right))
    planned = made_condition(label, "shared", range(N_SEEDS))
    if votes:
        choice = {"name": "vote", "params": {"agents": 3, "tie": "uniform"}}
        planned = planned.model_copy(update={"config": {"team": choice}})
    tables = {}
    for seed in range(N_SEEDS):
        own = scores(rng, right, votes)
        graded = own.iloc[:0].assign(c3=0.0, ccpo=0.0) if votes else graders(own, rng)
        tables[seed] = {"scores": own, "graders": graded}
    return condition.marked(planned, tables)


def both(a: Runs, b: Runs) -> list[Under]:
    words = {"greedy": "greedily", "t1": "at temperature 1"}
    return [Under("made", words[d], answers.of_runs(a, d), answers.of_runs(b, d)) for d in words]


def curve(a: Runs, b: Runs) -> SpecificationCurve:
    return specifications.curve(Sides(a, b), both(a, b), ({}, {}), 0.1)


def where(of: SpecificationCurve, **choices: str) -> Specification:
    wanted = {name.replace("_", " "): level for name, level in choices.items()}
    [row] = [r for r in of.specifications if wanted.items() <= r.choices.items()]
    return row


def by_hand(a: Runs, b: Runs, column: str, decoding: str, tasks: list[str]) -> float:
    """Difference of means over seeds, tasks and samples, from the tables as they are."""
    means = []
    for of in (a, b):
        frames = [t["scores" if column == "accuracy" else "graders"] for t in of.tables.values()]
        own = pd.concat(frames)
        kept = own[(own.decoding == decoding) & own.task_id.isin(tasks)]
        means.append(kept[column].mean())
    return float(means[0] - means[1])


def test_every_choice_is_made_once_and_as_by_hand() -> None:
    a = side("strong", 0.8)
    b = side("weak", 0.4)
    of = curve(a, b)
    # 3 graders x (all items, those without defects) x (greedily; at 1: mean of samples, any)
    assert len(of.specifications) == 3 * 2 * 3
    assert len({tuple(sorted(row.choices.items())) for row in of.specifications}) == 18
    every = [str(t) for t in range(N_TASKS)]
    clean = [str(t) for t in range(6, N_TASKS)]
    judged = [t for t in every if t != "3"]
    for grader, column, tasks in (("ours", "accuracy", every), ("c3", "c3", judged)):
        row = where(of, grader=grader, decoding="greedily", items="all")
        assert row.mean == pytest.approx(by_hand(a, b, column, "greedy", tasks))
        assert row.tasks == len(tasks)
    row = where(of, grader="ours", decoding="greedily", items="without known defects")
    assert row.mean == pytest.approx(by_hand(a, b, "accuracy", "greedy", clean))
    row = where(
        of, grader="ours", decoding="at temperature 1", items="all", metric="mean of samples"
    )
    assert row.mean == pytest.approx(by_hand(a, b, "accuracy", "t1", every))
    any_right = [
        np.mean(
            [
                t["scores"][t["scores"].decoding == "t1"].groupby("task_id").accuracy.max().mean()
                for t in of_side.tables.values()
            ]
        )
        for of_side in (a, b)
    ]
    row = where(
        of, grader="ours", decoding="at temperature 1", items="all", metric="any sample right"
    )
    assert row.mean == pytest.approx(any_right[0] - any_right[1])


def test_one_is_declared_and_it_is_the_claim() -> None:
    a = side("strong", 0.8)
    b = side("weak", 0.4)
    of = curve(a, b)
    [declared] = [row for row in of.specifications if row.declared]
    claim = analyse.differences(a, b, 0.05)["greedy"]
    assert (declared.mean, declared.ci_low, declared.ci_high) == pytest.approx(
        (claim.mean, claim.ci_low, claim.ci_high)
    )
    means = [row.mean for row in of.specifications]
    assert means == sorted(means)


def test_the_sentence_counts_verdicts_and_names_the_choice_that_moves_most() -> None:
    """ccpo's grader marks all right on both sides: nothing is left of any difference."""
    of = curve(side("strong", 0.8), side("weak", 0.4))
    blind = [row for row in of.specifications if row.choices["grader"] == "ccpo"]
    assert {row.mean for row in blind} == {0.0}
    assert {row.verdict for row in blind} == {"not clear"}
    above = sum(row.verdict == "above" for row in of.specifications)
    assert 0 < above <= 12
    assert f"above under {above} of 18 choices" in of.sentence
    assert "The grader moves answers most: from +0.0 (ccpo) to" in of.sentence


def test_votes_are_counted_again_under_every_tie_rule() -> None:
    a = side("vote", 0.6, votes=True)
    b = side("lone", 0.4)
    of = curve(a, b)
    # no grader of the papers on votes: 3 tie rules x 2 kinds of items x 3
    assert len(of.specifications) == 18
    lone = answers.of_runs(b, "greedy").accuracy
    for tie in ("wrong", "uniform", "first"):
        worth = []
        for t in a.tables.values():
            own = t["scores"][t["scores"].decoding == "greedy"]
            for text in own.votes:
                codes = text.split()
                counts = {c: codes.count(c) for c in codes}
                most = [c for c in codes if counts[c] == max(counts.values())]
                tied = dict.fromkeys(most)
                shares: Mapping[str, float] = {
                    "wrong": float(list(tied) == ["0"]),
                    "uniform": ("0" in tied) / len(tied),
                    "first": float(most[0] == "0"),
                }
                worth.append(shares[tie])
        row = where(of, tie_rule=tie, decoding="greedily", items="all")
        assert row.mean == pytest.approx(
            np.mean(worth) - np.mean([v.mean() for v in lone.values()])
        )
        assert row.declared == (tie == "uniform")


def progress(rewards: list[float], tokens: int, seconds: float) -> pd.DataFrame:
    steps = np.arange(1, len(rewards) + 1)
    return pd.DataFrame(
        {
            "reward": rewards,
            "generated_tokens": tokens * steps,
            "evaluator_calls": 10 * steps,
            "seconds": seconds * steps,
        }
    ).astype(float)


def test_training_reward_is_compared_at_the_smaller_budget() -> None:
    """By hand: a gains .1 an update of 100 tokens and 1 s, b .08 an update of 50 tokens and 4 s."""
    a = side("strong", 0.8)
    b = side("weak", 0.4)
    ours = {s: progress([0.1 * i + 0.01 * s for i in range(8)], 100, 1.0) for s in range(N_SEEDS)}
    theirs = {s: progress([0.08 * i for i in range(8)], 50, 4.0) for s in range(N_SEEDS)}
    of = specifications.curve(Sides(a, b), both(a, b), (ours, theirs), 0.1)
    shift = np.mean([0.01 * s for s in range(N_SEEDS)])
    wanted = {
        "at its end": 0.7 - 0.56,
        "at equal tokens": 0.3 - 0.56,  # 400 tokens: four of our updates, all of theirs
        "at equal calls": 0.7 - 0.56,
        "at equal seconds": 0.7 - 0.08,  # 8 s: all of ours, two of theirs
    }
    for resource, value in wanted.items():
        row = where(of, metric="training reward", compared=resource)
        assert row.mean == pytest.approx(value + shift)
        assert (row.tasks, row.declared) == (0, False)
    apart = {row.resource: (row.apart, row.matched) for row in of.matchings}
    assert apart == {
        "tokens": (pytest.approx(0.5), False),
        "calls": (0.0, True),
        "seconds": (pytest.approx(0.75), False),
    }
    assert "tokens do not match (50 % apart)" in of.sentence


def test_the_reward_is_of_the_last_tenth_and_of_one_update_at_least() -> None:
    of = progress([float(i) for i in range(20)], 1, 1.0)
    assert specifications._reward(of, "", np.inf) == pytest.approx(18.5)
    assert specifications._reward(of, "generated_tokens", 5.0) == pytest.approx(4.0)
    assert specifications._reward(of, "generated_tokens", 0.5) == 0.0


def test_statistics_hold_curves_and_budgets_and_name_what_they_read(tmp_path: Path) -> None:
    experiment, runs = made_up(tmp_path)
    second = PROTOCOL.model_copy(update={"id": "second", "name": "second"})
    planned = manifest.read_training(experiment)
    planned.model_copy(update={"protocols": (PROTOCOL, second)}).write(experiment)
    for condition_ in planned.conditions:
        for run in condition_.runs.values():
            for name in ("scores", "graders"):
                own = schema.read_table(PROTOCOL.folder(runs / run) / f"{name}.parquet", name)
                schema.write_table(second.folder(runs / run) / f"{name}.parquet", own)
    stats = tmp_path / "stats.json"
    analyse.analyse(experiment=experiment, runs=runs, stats=stats)
    numbers = statistics.read_training(stats)
    [of] = numbers.curves
    assert {row.choices.get("protocol") for row in of.specifications} == {"made", "second", None}
    twice = [r.mean for r in of.specifications if r.choices.get("protocol") == "second"]
    assert twice == [r.mean for r in of.specifications if r.choices.get("protocol") == "made"]
    assert sum(row.declared for row in of.specifications) == 1
    assert [row.number for row in numbers.budgets] == ["plain", "other", "other − plain"]
    assert [play.labels for play in numbers.cross] == [("plain", "other")]
    named = {path.name for path in analyse.inputs(experiment, runs)}
    evaluated = {"scores.parquet", "graders.parquet", "train.parquet", "ledger.parquet"}
    assert named == evaluated | {f"think_solve-made.s{seed}.parquet" for seed in range(3)}
