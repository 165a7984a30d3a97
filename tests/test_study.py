"""Statistics against scipy, brute force and simulation; pages from a small made-up experiment."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from ccpo import manifest, schema
from ccpo.audit import contents
from ccpo.evaluate import condition as conditions
from ccpo.evaluate import sentences
from ccpo.evaluate import stats as st
from ccpo.evaluate.analyse import analyse, inputs
from ccpo.evaluate.condition import Runs
from ccpo.evaluate.marks import Marks, Played
from ccpo.manifest import (
    CrossPlan,
    CrossPlayer,
    PlannedCondition,
    PlannedProtocol,
    TrainingManifest,
)
from ccpo.publish import draw, figure, report, statistics, tables
from ccpo.publish.statistics import DecodedDifference, GainRow, Interval, Late, OverTasks, Row


def test_intervals_and_p_values_are_scipys() -> None:
    rng = np.random.default_rng(0)
    for n in (2, 5, 8):
        a = rng.normal(size=n)
        b = rng.normal(size=n)
        theirs = scipy_stats.ttest_rel(a, b)
        assert st.paired_p(a - b) == pytest.approx(theirs.pvalue, rel=1e-9)
        ours = st.interval(a - b)
        low_high = theirs.confidence_interval()
        assert (ours.ci_low, ours.ci_high) == pytest.approx((low_high.low, low_high.high), rel=1e-9)
    assert st.paired_p(np.zeros(3)) == 1.0
    assert st.interval([0.4]) == Interval(mean=0.4, ci_low=None, ci_high=None, n=1)
    with pytest.raises(ValueError, match="finite"):
        st.interval([0.1, float("nan")])


def test_intervals_cover_as_often_as_they_say() -> None:
    rng = np.random.default_rng(1)
    draws = rng.normal(0.3, 1, (4000, 5))
    hit = np.mean([(i.ci_low <= 0.3 <= i.ci_high) for i in map(st.interval, draws)])
    assert abs(hit - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 4000)


@pytest.mark.parametrize("n", [6, 7, 12])
def test_sign_flips_by_brute_force(n: int) -> None:
    d = np.random.default_rng(n).choice([0.0, 0.125, -0.125, 0.25, 0.4], n)  # with ties
    count = sum(
        abs(sum(s * x for s, x in zip(signs, d, strict=True))) >= abs(d.sum()) - 1e-12
        for signs in itertools.product((1, -1), repeat=n)
    )
    flips = st.sign_flip(d)
    assert flips is not None
    assert flips.p == pytest.approx(count / 2**n, abs=1e-12)
    assert flips.error == 0.0
    assert st.sign_flip(d[:5]) is None
    assert st.sign_flip(np.zeros(8)) == st.SignFlip(1.0, 0.0)


def test_drawn_sign_flips_are_as_far_off_as_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 24 differences all flips are counted, and drawn: within four stated standard errors."""
    d = np.random.default_rng(3).normal(0.2, 0.5, 24)
    exact = st.sign_flip(d)
    monkeypatch.setattr(st, "EXACT", 20)
    drawn = st.sign_flip(d)
    assert exact is not None
    assert drawn is not None
    assert 0 < drawn.error < 0.002
    assert abs(drawn.p - exact.p) < 4 * drawn.error


def test_holm_from_its_definition() -> None:
    p: list[float | None] = [0.01, 0.04, None, 0.03, 0.005]
    # sorted .005*4, .01*3, .03*2, .04*1 -> running maximum
    assert st.holm(p) == pytest.approx([0.03, 0.06, None, 0.06, 0.02])
    assert st.holm([0.9, 0.8]) == [1.0, 1.0]


def test_power_is_the_simulated_share_of_rejections_and_its_inverses_fit() -> None:
    rng = np.random.default_rng(2)
    rejected = np.mean([st.paired_p(row) < 0.05 for row in rng.normal(1.0, 1.0, (4000, 6))])
    assert abs(st.power(1.0, 1.0, 6) - rejected) < 4 * np.sqrt(0.25 / 4000)
    smallest = st.detectable(0.5, 8)
    assert st.power(smallest, 0.5, 8) == pytest.approx(0.8, abs=1e-6)
    needed = st.seeds_needed(0.4, 0.5)
    assert st.power(0.4, 0.5, needed) >= 0.8 > st.power(0.4, 0.5, needed - 1)


def test_seeds_of_one_base_model_are_averaged_and_seeds_of_one_alone_are_not() -> None:
    values = {0: 0.1, 1: 0.3, 2: 0.5, 3: 0.9}
    assert st.replicates(values, dict.fromkeys(values, "m/0")) == [0.1, 0.3, 0.5, 0.9]
    assert st.replicates(values, {0: "m/0", 1: "m/1", 2: "m/0", 3: "m/1"}) == pytest.approx(
        [0.3, 0.6]
    )
    differences = {seed: value - 0.1 for seed, value in values.items()}
    row = st.compare(differences, {0: "m/0", 1: "m/1", 2: "m/0", 3: "m/1"})
    assert (row.n, row.unit) == (2, "base model")
    assert row.mean == pytest.approx(0.35)
    assert row.p == pytest.approx(scipy_stats.ttest_1samp([0.2, 0.5], 0.0).pvalue)


def test_intervals_over_base_models_cover_where_intervals_over_their_seeds_do_not() -> None:
    """Eight base models (sd 3) of two seeds each (sd 1): 95 % of intervals over base models hold
    the mean, within four standard errors of 2,000 simulations; those that take the 16 seeds for
    replicates hold it in fewer than 90 %.
    """
    rng = np.random.default_rng(5)
    names = {s: f"m/{s % 8}" for s in range(16)}
    hits = np.zeros(2)
    for _ in range(2000):
        base = rng.normal(0, 3, 8)
        noise = rng.normal(0, 1, 16)
        values = {s: float(base[s % 8] + noise[s]) for s in range(16)}
        for i, known in enumerate((names, dict.fromkeys(names, "one"))):
            row = st.interval(st.replicates(values, known))
            hits[i] += row.ci_low <= 0 <= row.ci_high
    assert abs(hits[0] / 2000 - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 2000)
    assert hits[1] / 2000 < 0.9


def test_the_sources_of_a_spread_are_those_it_was_drawn_from() -> None:
    """200 base models of unequal numbers of seeds, 60 tasks of 4 answers: each standard deviation
    within 15 % of the true one.
    """
    rng = np.random.default_rng(6)
    bases = {}
    values = {}
    samples = []
    for base in range(200):
        level = rng.normal(0.5, 0.05)
        for _ in range(2 + base % 3):
            seed = len(bases)
            chances = level + rng.normal(0, 0.02) + rng.normal(0, 0.1, 60)
            answers = chances[:, None] + rng.normal(0, 0.2, (60, 4))
            bases[seed] = f"m/{base}"
            values[seed] = float(answers.mean())
            samples.append(answers)
    found = st.sources(values, bases, samples)
    draw = 0.2 / np.sqrt(60 * 4)
    tasks = np.sqrt((0.1**2 + 0.2**2 / 4) / 60)
    assert found.draw == pytest.approx(draw, rel=0.05)
    assert found.task == pytest.approx(tasks, rel=0.05)
    assert found.base == pytest.approx(0.05, rel=0.15)
    assert found.seed == pytest.approx(
        np.sqrt(0.02**2 + 0.1**2 / 60), rel=0.15
    )  # other tasks for each seed, here


def test_sources_that_a_design_cannot_tell_are_not_told() -> None:
    answers = [np.array([[1.0], [0.0]]), np.array([[1.0], [1.0]])]
    one = st.sources({0: 0.5, 1: 1.0}, {0: "m/0", 1: "m/1"}, answers)
    assert one.base is one.seed is one.draw is None
    assert one.total == pytest.approx(0.5 / np.sqrt(2))
    balanced = {0: 0.1, 1: 0.3, 2: 0.6, 3: 0.6}  # of 0 and 1, of 2 and 3: the anova of a textbook
    found = st.sources(
        balanced, {0: "a", 1: "a", 2: "b", 3: "b"}, [a.repeat(2, 1) for a in [*answers, *answers]]
    )
    within = (2 * 0.1**2) / 2
    between = 2 * (0.2**2 + 0.2**2)
    assert found.base == pytest.approx(np.sqrt((between - within) / 2))
    assert found.seed == pytest.approx(np.sqrt(within))
    assert found.draw == 0.0


def interval(mean: float, low: float, high: float) -> Interval:
    return Interval(mean=mean, ci_low=low, ci_high=high, n=6)


def difference(row: Interval, apart: Interval) -> DecodedDifference:
    """A difference of which only its interval and that of what is apart matter."""
    rest = dict.fromkeys(("p", "p_equivalent", "p_sign_flip", "p_sign_flip_error", "parts"))
    head = {"seeds": (), "unit": "seed", "differences": (), "sd": 0.0, "item": 0.0}
    return DecodedDifference.model_validate({**dict(row), **head, **rest, "apart": apart})


def test_a_difference_at_temperature_1_alone_is_called_sureness() -> None:
    greedy = difference(interval(0.01, -0.02, 0.04), interval(0.0, 0.0, 0.0))
    sampled = interval(0.08, 0.05, 0.11)
    larger = difference(sampled, interval(0.07, 0.02, 0.12))
    temperatures = {"greedy": 0.0, "t1": 1.0}
    text = sentences.elsewhere({"greedy": greedy, "t1": larger}, "greedy", temperatures)
    assert text.startswith("The same at temperature 1 +8.0 [+5.0, +11.0].")
    assert "how sure the teams are" in text
    # not decided greedily, and not clearly another
    alike = difference(sampled, interval(0.03, -0.01, 0.07))
    text = sentences.elsewhere({"greedy": greedy, "t1": alike}, "greedy", temperatures)
    assert "how sure" not in text
    # nothing is claimed of two seeds, however they agree
    two = larger.model_copy(update={"n": 2})
    text = sentences.elsewhere({"greedy": greedy, "t1": two}, "greedy", temperatures)
    assert "how sure" not in text
    decided = difference(interval(0.06, 0.02, 0.1), interval(0.0, 0.0, 0.0))
    text = sentences.elsewhere({"greedy": decided, "t1": larger}, "greedy", temperatures)
    assert "how sure" not in text
    assert sentences.elsewhere({"greedy": decided}, "greedy", temperatures) == ""


def test_a_gain_that_temperature_alone_gives_is_said_to_be_that() -> None:
    """The untrained team is at 0.3 sampled and 0.9 greedily, the trained one at 0.9 everywhere."""
    rng = np.random.default_rng(9)
    levels = {
        ("greedy", "factual"): 0.9,
        ("greedy", "untrained"): 0.9,
        ("t1", "factual"): 0.9,
        ("t1", "untrained"): 0.3,
    }
    planned = made_condition("c", "ccpo", range(6))
    of = Runs(planned, {}, {s: drawn_marks(rng, levels, 200) for s in range(6)})
    gain = conditions.gain(of)
    assert gain is not None
    assert gain.best == "greedy"
    assert gain.by_decoding["t1"].mean == pytest.approx(0.6, abs=0.05)
    trained = of.under("greedy")
    untrained = of.under("greedy", "untrained")
    by_hand = [trained[s].mean() - untrained[s].mean() for s in range(6)]
    assert gain.beyond.mean == pytest.approx(np.mean(by_hand))
    assert "sharpening" in gain.sentence
    assert gain.collapsed == tuple(s for s in range(6) if by_hand[s] < 0)

    def sentence(sampled: GainRow, beyond: Row) -> str:
        described = sentences.Gained({"t1": sampled}, beyond, "greedy", beyond)
        return sentences.gained("c", described, DECODINGS, "greedy")

    sampled = gain.by_decoding["t1"]
    # of two seeds, say: no sign of sharpening
    undecided = {"mean": 0.5, "ci_low": -0.4, "ci_high": 1.0}
    vague = gain.beyond.model_copy(update=undecided)
    apart = sampled.model_copy(update={"apart": vague})
    assert "sharpening" not in sentence(apart, vague)
    clear = gain.beyond.model_copy(update={"mean": 0.3, "ci_low": 0.2, "ci_high": 0.4})
    assert "sharpening" in sentence(sampled, gain.beyond)
    assert "sharpening" not in sentence(sampled, clear)
    factual = {k: v for k, v in levels.items() if k[1] == "factual"}
    without = Runs(planned, {}, {s: drawn_marks(rng, factual, 20) for s in range(6)})
    assert conditions.gain(without) is None


def drawn_marks(
    rng: np.random.Generator, levels: dict[tuple[str, str], float], tasks: int, samples: int = 1
) -> dict[Played, Marks]:
    """Answers that are right by chance: of each decoding and intervention as often as `levels`."""
    names = np.arange(tasks).astype(str)
    return {
        Played("arithmetic", decoding, kind): Marks(
            names, (rng.random((tasks, samples)) < level).astype(float)
        )
        for (decoding, kind), level in levels.items()
    }


def test_the_page_says_what_its_intervals_are_over() -> None:
    two = ["m/0", "m/1"]
    assert sentences.scope([two, two], 8).startswith(
        "Intervals are over 2 base models of the recipe m, each with a training seed of its own, "
        "and"
    )
    assert "averaged first" in sentences.scope([["m/0", "m/1", "m/0"]], 8)
    assert sentences.scope([["m", "m"]], 8).startswith(
        "Intervals are over 2 training seeds of one base model, m"
    )
    assert "no interval over seeds" in sentences.scope([["m"]], 8)
    mixed = sentences.scope([two, ["s/0+m/0", "s/1+m/1"]], 8)
    assert "of the recipe m, each" in mixed
    assert "of the recipe s with m, each" in mixed


def test_what_is_drawn_over_time_has_intervals_over_base_models_too() -> None:
    """Four seeds of two base models: rewards .1, .2, .3, .4 are two replicates of mean .2, .3."""
    columns = {"step": 1, "agent": 0, "generated_tokens": 10, "credit": 0.0, "leakage": 0.0}
    tables = {s: {"train": pd.DataFrame([{**columns, "reward": 0.1 + 0.1 * s}])} for s in range(4)}
    bases = {s: f"m/{s % 2}" for s in range(4)}
    planned = made_condition("c", "ccpo", range(4)).model_copy(update={"bases": bases})
    of = Runs(planned, tables, {s: {} for s in range(4)})
    [point] = conditions.curve(of)
    reward = next(row for row in conditions.agents(of) if row.quantity == "reward")
    for row in (point, reward):
        assert row.n == 2
        assert row.mean == pytest.approx(0.25)
        assert row.ci_high is not None
        assert row.ci_high - row.mean == pytest.approx(
            min(0.75, scipy_stats.t.ppf(0.975, 1) * 0.05)
        )


def test_statistics_say_what_is_known_to_be_wrong_and_what_was_not_reached(tmp_path: Path) -> None:
    """Against the tables: accuracy without items of known defects, late verdicts, leakage."""
    experiment, runs = made_up(tmp_path)
    analyse(experiment=experiment, runs=runs, stats=tmp_path / "stats.json")
    numbers = statistics.read_training(tmp_path / "stats.json")
    for planned in manifest.read_training(experiment).conditions:
        condition = numbers.conditions[planned.label]
        [clean] = condition.clean.values()
        for seed, run in planned.runs.items():
            scores = schema.read_table(runs / run / SCORES, "scores").to_pandas()
            greedy = scores[(scores.intervention == "factual") & (scores.decoding == "greedy")]
            sound = greedy[~greedy.defect]
            assert len(sound) == 40
            assert clean.by_seed[seed] == pytest.approx(sound.accuracy.mean())
        assert clean.defects == 10
        n_seeds = len(condition.seeds)
        assert condition.late == Late(training=n_seeds, evaluation=6 * n_seeds)
        assert (condition.leakage, condition.leakage_by_chance) == (0.0, 0.5)
    table = tables.frame(numbers)
    assert (table.items_with_defects == 10).all()
    assert (table.late_verdicts == 7 * table.seeds).all()


DECODINGS = {"greedy": 0.0, "t1": 1.0}
PROTOCOL = PlannedProtocol(id="made-up", name="made", decodings=DECODINGS, config={})
SCORES = Path("eval", "made-up", "scores.parquet")
# of one sample a task, and no probes
FIGURES = figure.of_contents(
    figure.Contents(
        "training", decodings=2, interventions=frozenset({"solo", "untrained"}), compared=True
    )
)


def made_condition(label: str, credit: str, seeds: Iterable[int]) -> PlannedCondition:
    """A condition of invented config (test data): a dyad of two models on arithmetic."""
    return PlannedCondition(
        label=label,
        team="think_solve",
        credit=credit,
        compares="group" if label == "other" else "nothing",
        model="small+big",
        policy="separate",
        turns=2,
        evaluated=("arithmetic",),
        decodings=DECODINGS,
        primary="greedy",
        degenerate="it is made up" if label == "other" else "",
        preset="",
        runs={seed: f"{label}.s{seed}" for seed in seeds},
        bases={seed: f"small/{seed}" for seed in seeds},
        config={
            "team": {"name": "think_solve", "params": {}},
            "policy": "separate",
            "train": {"fanout": [2, 1]},
        },
    )


def made_up(folder: Path, n_seeds: int = 3) -> tuple[Path, Path]:
    """A small experiment folder of invented numbers (test data): `plain` and `other`, a dyad each,
    four updates.
    """
    rng = np.random.default_rng(0)
    runs = folder / "runs"
    planned = [
        made_condition(label, credit, range(n_seeds))
        for label, credit in (("plain", "shared"), ("other", "ccpo"))
    ]
    for condition in planned:
        for run in condition.runs.values():
            write_run(runs / run, rng, better=condition.label == "other")
    TrainingManifest(
        experiment="made_up",
        question="Is <other> better?",
        note="Test data.",
        primary_metric="accuracy",
        token_tolerance=0.1,
        effect=0.05,
        compare=(("other", "plain"),),
        protocols=(PROTOCOL,),
        conditions=tuple(planned),
        cross=(made_cross(folder, planned, rng),),
    ).write(folder / "experiment.json")
    return folder / "experiment.json", runs


def made_cross(
    folder: Path, planned: Iterable[PlannedCondition], rng: np.random.Generator
) -> CrossPlan:
    """A cross-play of invented verdicts (test data)."""
    plan = CrossPlan(
        id="think_solve-made",
        team="think_solve",
        roles=("thinker", "solver"),
        players={c.label: CrossPlayer(trained=True, runs=c.runs) for c in planned},
        benchmark="arithmetic",
        params={},
        trained_on="t",
        tasks="t",
        most=None,
        decoding="greedy",
        temperature=0.0,
        top_p=1.0,
        top_k=0,
        samples=1,
        limits=(6,),
        seed=0,
        stage=1,
    )
    for seed in plan.seeds:
        rows = [
            {
                "task_id": str(t),
                "sample": 0,
                "seats": f"{a}|{b}",
                "answer": "1",
                "accuracy": float(rng.random() < 0.5),
                "late": 0,
            }
            for a in plan.players
            for b in plan.players
            for t in range(50)
        ]
        schema.write_table(plan.table(folder, seed), schema.rows_to_table("cross", rows))
    return plan


def change(experiment: Path, **fields: object) -> TrainingManifest:
    """Changes every condition of an experiment.json."""
    planned = manifest.read_training(experiment)
    changed = [c.model_copy(update=fields) for c in planned.conditions]
    planned = planned.model_copy(update={"conditions": tuple(changed)})
    planned.write(experiment)
    return planned


def write_run(run: Path, rng: np.random.Generator, better: bool) -> None:
    nothing = (
        "loss",
        "grad_norm",
        "clip_fraction",
        "entropy",
        "logprob_gap",
        "critic_error",
        "rating_valid",
        "truncated",
        "no_room",
        "leakage",
    )
    zero = dict.fromkeys(nothing, 0.0)
    train = [
        {
            "step": s,
            "agent": a,
            "active": True,
            "reward": 0.1 * s,
            "credit": 0.2 * s,
            "advantage_sd": 1.0,
            "role_information": 0.0,
            "message_tokens": 5.0,
            "generated_tokens": 100 * s,
            "evaluator_calls": 4 * s,
            "late": int(s > 2),
            **zero,
        }
        for s in range(1, 5)
        for a in (0, 1)
    ]
    ledger = [
        {
            "step": s,
            "agent": 0,
            "purpose": "rollout",
            "prompt_tokens": 10,
            "generated_tokens": 100,
            "trained_tokens": 50,
            "evaluator_calls": 4,
        }
        for s in range(1, 5)
    ]
    accuracy = {"factual": 0.8 if better else 0.6, "untrained": 0.3, "solo.1": 0.4}
    scores: list[dict[str, Any]] = [
        {
            "benchmark": "arithmetic",
            "task_id": str(t),
            "decoding": decoding,
            "sample": 0,
            "intervention": kind,
            "answer": "1",
            "truth": "1",
            "accuracy": float(rng.random() < p),
            "fraction": 0.0,
            "leakage": 0.0,
            "leakage_by_chance": 0.5,
            "leaks": [0.0, 0.0],
            "leaks_by_chance": [0.5, 0.0],
            "accuracy_by_chance": 0.0,
            "replaced": 0.0,
            "late": int(t == 7),
            "defect": t < 10,
            "votes": "",
            "n_tokens": 3,
            "logprob": -0.6,
        }
        for decoding in DECODINGS
        for kind, p in accuracy.items()
        for t in range(50)
    ]
    for row in scores:
        row["ballot"] = int(row["accuracy"] == 0)
    shared = ("benchmark", "task_id", "decoding", "sample", "answer", "truth", "accuracy")
    graded = [{**{k: s[k] for k in shared}, "c3": 1.0, "ccpo": 0.0} for s in scores[:3]]
    message = {
        "step": 1,
        "task_id": "0",
        "parent": -1,
        "turn": 0,
        "agent": 0,
        "removed": -1,
        "credit": 1.0,
        "advantage": 0.5,
        "answer": "",
    }
    credit = [{**message, "message": i, "reward": float(i), "text": "<b>7-1</b>"} for i in (0, 1)]
    rollouts = [
        {
            "benchmark": "arithmetic",
            "task_id": "0",
            "decoding": "greedy",
            "sample": 0,
            "intervention": "factual",
            "turn": 0,
            "agent": 0,
            "fate": "drawn",
            "prompt": "p",
            "completion": "c<script>",
            "n_prompt_tokens": 1,
            "n_completion_tokens": 1,
            "logprob": -0.1,
            "finish_reason": "stop",
        }
    ]
    for name, rows in (
        ("train", train),
        ("ledger", ledger),
        ("scores", scores),
        ("graders", graded),
        ("credit", credit),
        ("rollouts", rollouts),
    ):
        folder = (run / SCORES).parent if name in ("scores", "graders", "rollouts") else run
        schema.write_table(folder / f"{name}.parquet", schema.rows_to_table(name, rows))


def publish(folder: Path, missing: Iterable[str] = ()) -> dict[str, Path]:
    """Everything from runs to the page; without the runs that are `missing`."""
    experiment, runs = made_up(folder)
    for run in missing:
        shutil.rmtree(runs / run)
    stats = folder / "stats.json"
    page = folder / "report.html"
    table = folder / "main.csv"
    analyse(experiment=experiment, runs=runs, stats=stats)
    drawn = []
    for name in FIGURES:
        svg = folder / f"{name}.svg"
        draw.draw(name, stats, svg, svg.with_suffix(".csv"))
        drawn.append(svg)
    beside = schema.read_json(tables.write(stats, table))
    written = pd.read_csv(table).set_index("condition")
    assert {c: row["accuracy"] for c, row in beside.items()} == written["accuracy"].to_dict()
    report.write(report.Files(stats, experiment, drawn, table, runs), page)
    return {"experiment": experiment, "runs": runs, "stats": stats, "page": page, "table": table}


@pytest.mark.parametrize("missing", [["other.s0"], ["other.s0", "other.s1", "other.s2"]])
def test_a_partial_page_names_what_is_missing_and_shows_the_rest(
    missing: list[str], tmp_path: Path
) -> None:
    text = publish(tmp_path, missing)["page"].read_text()
    for run in missing:
        assert f"seed {run[-1]}: run {run} is not there" in text
    assert f"run <code>{'other.s1' if len(missing) == 1 else 'plain.s0'}</code>" in text
    assert ("no seed of both is there" in text) == (len(missing) == 3)


def test_the_primary_metric_is_that_of_the_first_evaluated_benchmark(tmp_path: Path) -> None:
    experiment, runs = made_up(tmp_path)
    analyse(experiment=experiment, runs=runs, stats=tmp_path / "own.json")
    change(experiment, evaluated=("arithmetic", "none"))
    analyse(experiment=experiment, runs=runs, stats=tmp_path / "also.json")
    own = statistics.read_training(tmp_path / "own.json")
    assert statistics.read_training(tmp_path / "also.json") == own
    assert own.conditions["plain"].benchmark == "arithmetic"
    change(experiment, evaluated=("none", "arithmetic"))
    with pytest.raises(ValueError, match="condition plain: no scores on none, the bench"):
        analyse(experiment=experiment, runs=runs, stats=tmp_path / "refused.json")


def test_from_runs_to_a_page_that_can_be_audited(tmp_path: Path) -> None:
    made = publish(tmp_path / "a")
    numbers = statistics.read_training(made["stats"])
    scores = schema.read_table(made["runs"] / "other.s1" / SCORES, "scores").to_pandas()
    other = numbers.conditions["other"]
    for decoding in DECODINGS:
        by_hand = scores[
            (scores.intervention == "factual") & (scores.decoding == decoding)
        ].accuracy.mean()
        assert other.under(decoding)["factual"].by_seed[1] == pytest.approx(by_hand)
    assert other.nll["t1"]["factual"].mean == pytest.approx(0.2)
    assert other.ledger.generated_tokens == 400
    assert numbers.comparisons[0].matched
    text = made["page"].read_text()
    assert "<td>small+big, separate</td>" in text
    assert (
        text.count(
            "is degenerate by algebra: it is made up. Measured: the shared reward left at most"
        )
        == 1
    )
    assert "Is &lt;other&gt; better?" in text
    assert "<script>" not in text
    assert "is degenerate" in text  # role information is 0 throughout
    assert text.count("<svg") == len(FIGURES)
    assert "http" not in text.replace("http://www.w3.org", "").replace(
        "http://purl.org", ""
    ).replace("http://creativecommons.org", "").replace("https://matplotlib.org", "")
    assert changed(made["page"]) == []
    again = publish(tmp_path / "b")
    for name in FIGURES:
        assert (tmp_path / "a" / f"{name}.svg").read_bytes() == (
            tmp_path / "b" / f"{name}.svg"
        ).read_bytes()
    victim = again["runs"] / "plain.s2" / SCORES
    victim.write_bytes(victim.read_bytes()[:-1] + b"x")
    assert changed(again["page"]) == [str(victim)]


def changed(artefact: Path) -> list[str]:
    """What an artefact was made from and is not as recorded."""
    audited = contents.begin("walk")
    assert audited.records.follow(artefact)
    audited.records.check()
    assert audited.findings.checks["files"] > 10
    return [failure.path for failure in audited.findings.failures]


def test_the_hash_of_a_folder_leaves_snakemakes_time_stamp_out_and_nothing_else(
    tmp_path: Path,
) -> None:
    (tmp_path / "weights").write_bytes(b"w")
    before = schema.sha256(tmp_path)
    (tmp_path / ".snakemake_timestamp").touch()
    assert schema.sha256(tmp_path) == before
    (tmp_path / ".other").touch()
    assert schema.sha256(tmp_path) != before


@pytest.mark.parametrize(("right", "n"), [(0, 10), (3, 10), (50, 100), (100, 100)])
def test_the_interval_over_tasks_is_wilsons(right: int, n: int) -> None:
    """His closed form: the shares p with |right/n - p| = z sqrt(p (1 - p) / n), to 1e-9."""
    from statistics import NormalDist

    z = NormalDist().inv_cdf(0.975)
    share = right / n
    middle = share + z * z / (2 * n)
    half = z * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5
    low, high = st.wilson(right, n)
    assert low == pytest.approx(max(0.0, (middle - half) / (1 + z * z / n)), abs=1e-9)
    assert high == pytest.approx(min(1.0, (middle + half) / (1 + z * z / n)), abs=1e-9)


def test_further_protocols_are_shown_and_make_no_claim(tmp_path: Path) -> None:
    """Accuracies by hand; one run is not evaluated by it, and is left out there alone."""
    experiment, runs = made_up(tmp_path)
    hot = PlannedProtocol(id="hot-1", name="hot", decodings={"t2": 2.0}, config={})
    planned = manifest.read_training(experiment)
    planned.model_copy(update={"protocols": (PROTOCOL, hot)}).write(experiment)
    by_hand: dict[str, list[float]] = {"plain": [], "other": []}
    for condition in planned.conditions:
        for run in condition.runs.values():
            if run == "other.s2":
                continue
            rows = schema.read_table(runs / run / SCORES, "scores").to_pylist()
            own = [{**row, "decoding": "t2"} for row in rows if row["decoding"] == "t1"]
            out = hot.folder(runs / run) / "scores.parquet"
            schema.write_table(out, schema.rows_to_table("scores", own))
            marks = [row["accuracy"] for row in own if row["intervention"] == "factual"]
            by_hand[condition.label].append(float(np.mean(marks)))
    stats = tmp_path / "stats.json"
    analyse(experiment=experiment, runs=runs, stats=stats)
    numbers = statistics.read_training(stats)
    [other] = numbers.others
    assert (other.name, other.decodings["t2"].temperature) == ("hot", 2.0)
    for label, means in by_hand.items():
        row = other.conditions[label]["arithmetic"]["t2"]["factual"]
        assert list(row.by_seed.values()) == pytest.approx(means)
    assert len(numbers.conditions["other"].seeds) == 3
    assert "Under protocol hot" in report.interventions(numbers)
    names = {os.path.relpath(path, runs) for path in inputs(experiment, runs)}
    assert "other.s1/eval/hot-1/scores.parquet" in names
    assert "other.s2/eval/hot-1/scores.parquet" not in names


def test_one_run_has_an_interval_over_tasks_several_have_none(tmp_path: Path) -> None:
    made = publish(tmp_path)
    for condition in statistics.read_training(made["stats"]).conditions.values():
        assert condition.main["factual"].tasks is None
        assert condition.graders["arithmetic"].c3 == 1.0
        assert condition.graders["arithmetic"].ccpo == 0.0
    marks = np.array([[1.0], [0.0], [1.0], [1.0]])
    low, high = st.wilson(3, 4)
    assert conditions.over_tasks({0: marks}) == OverTasks(n=4, low=low, high=high)
    assert conditions.over_tasks({0: marks, 1: marks}) is None
    assert conditions.over_tasks({0: marks.repeat(2, 1)}) is None
    assert conditions.over_tasks({0: marks / 2}) is None


def test_the_page_shows_the_papers_graders_beside_ours(tmp_path: Path) -> None:
    text = publish(tmp_path)["page"].read_text()
    assert "under the papers' graders" in text
    assert "<td>100.0</td><td>0.0</td>" in text.replace(" ", "")


def test_role_information_says_nothing_of_a_condition_without_a_baseline(tmp_path: Path) -> None:
    """It takes every group's mean out; without a baseline of the group that mean is taught."""
    experiment, runs = made_up(tmp_path)
    for compares, expected in (("group", True), ("nothing", False)):
        planned = change(experiment, degenerate="", compares=compares)
        analyse(experiment=experiment, runs=runs, stats=tmp_path / "stats.json")
        text = list(report.sentences(statistics.read_training(tmp_path / "stats.json"), planned))
        silent = [line for line in text if "nothing that the shared reward does not teach" in line]
        assert len(silent) == expected
