"""Claims are true as often as they say: no variance is no certainty, what is compared with carries
its noise, what is missing or unequal is said or refused.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from conftest import ROOT
from scipy import stats as scipy_stats
from test_study import SCORES, change, drawn_marks, made_condition, made_up

from ccpo import manifest, schema
from ccpo.evaluate import condition as conditions
from ccpo.evaluate import marks, sentences
from ccpo.evaluate import stats as st
from ccpo.evaluate.analyse import analyse, differences, inputs
from ccpo.evaluate.condition import Runs
from ccpo.evaluate.marks import Played
from ccpo.publish import figure, report, statistics, tables
from ccpo.publish.statistics import Comparison, Difference, TrainingStatistics


def simulation() -> ModuleType:
    """benchmarks/claims.py."""
    spec = importlib.util.spec_from_file_location("claims", ROOT / "benchmarks/claims.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["claims"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


# -- no variance is no certainty
# ------------------------------------------------------------------------------------------------


def items(values: list[list[float]]) -> dict[int, np.ndarray]:
    """Differences of tasks by seed, one answer a task."""
    return {seed: np.array(row, float)[:, None] for seed, row in enumerate(values)}


def compared(values: list[list[float]], effect: float = 0.05) -> Difference:
    of_seeds = items(values)
    bases = dict.fromkeys(of_seeds, "one")
    means = {seed: float(row.mean()) for seed, row in of_seeds.items()}
    return st.compare(means, bases, st.Noise(st.item_noise(of_seeds, bases)), effect)


def test_equal_differences_are_no_certainty() -> None:
    """+4 of 16 tasks in each of two, and of three seeds."""
    same = [1.0] * 4 + [0.0] * 12
    two = compared([same] * 2)
    assert two.sd == 0
    assert two.item > 0
    assert two.p is not None
    assert two.p > 0.05
    assert two.ci_low is not None
    assert two.ci_low < 0
    three = compared([same] * 3)
    assert three.p is not None
    # three of the 48 answers may come out otherwise: a spread of 1 / 16 between three seeds
    assert three.item == pytest.approx(1 / 16)
    by_hand = 0.25 / (1 / 16 / np.sqrt(3))
    assert three.p == pytest.approx(2 * scipy_stats.t.sf(by_hand, 2))
    # nothing at all is known of the noise of bare numbers
    assert st.paired_p(np.array([0.25, 0.25])) is None
    assert st.equivalence_p(np.zeros(5), 0.05) is None


def test_the_items_noise_is_the_sum_of_the_tasks_variances() -> None:
    rng = np.random.default_rng(4)
    of_seeds = {s: rng.normal(0, 1, (50, 3)) for s in range(6)}
    bases = dict.fromkeys(of_seeds, "one")
    means = np.stack([of_seeds[s].mean(axis=1) for s in range(6)])
    by_hand = sum(np.var(means[:, t], ddof=1) for t in range(50)) / 50**2
    assert st.item_noise(of_seeds, bases) ** 2 == pytest.approx(by_hand)
    # of six seeds two share a base model each, and are averaged
    nested = {s: f"m/{s % 3}" for s in of_seeds}
    assert st.item_noise(of_seeds, nested) ** 2 == pytest.approx(by_hand / 2)
    assert st.item_noise({0: of_seeds[0]}, bases) == 0


def test_a_spread_below_the_items_noise_is_luck() -> None:
    """Three seeds agree to a tenth of a point on tasks that come out now so, now so."""
    rng = np.random.default_rng(0)
    rows = [rng.permutation([1.0] * 40 + [-1.0] * 34 + [0.0] * 54).tolist() for _ in range(3)]
    row = compared(rows)
    assert row.sd == 0
    assert row.item == pytest.approx(np.sqrt(74 / 128 / 128), rel=0.15)
    assert row.p is not None
    assert row.p > 0.2


@pytest.mark.parametrize("right", [0.0, 1.0])
def test_shares_stay_between_0_and_1_and_never_have_no_width(right: float) -> None:
    bases = {0: "one", 1: "one"}
    for n in (2, 3, 8):
        of_seeds = {s: np.full((16, 1), right) for s in range(n)}
        row = conditions.share(of_seeds, dict.fromkeys(of_seeds, "one"))
        assert row.ci_low is not None
        assert row.ci_high is not None
        assert 0 <= row.ci_low <= row.mean <= row.ci_high <= 1
        assert row.ci_high - row.ci_low > 1 / (16 * n)
    # a spread so large that a plain interval would leave the range
    wide = conditions.share({0: np.zeros((4, 1)), 1: np.ones((4, 1))}, bases)
    assert (wide.ci_low, wide.ci_high) == (0.0, 1.0)
    gap = conditions.contrast({0: -np.ones((4, 1)), 1: np.ones((4, 1))}, bases)
    assert (gap.ci_low, gap.ci_high) == (-1.0, 1.0)


def test_seeds_that_agree_on_what_has_no_items_have_no_interval() -> None:
    bases = {0: "one", 1: "one"}
    assert conditions.observed({0: 0.5, 1: 0.5}, bases).ci_low is None
    assert conditions.observed({0: 0.5, 1: 0.6}, bases).ci_low is not None


# -- what is compared with carries its own noise
# ------------------------------------------------------------------------------------------------


def test_one_draw_of_the_untrained_team_is_noise_that_all_seeds_share() -> None:
    """Twelve seeds are compared with one draw of 32 untrained answers. Of 300 experiments 95 % of
    intervals hold the true gain, within four standard errors; those that take the draw for the
    truth hold it in fewer than 85 %. A draw for each seed has no such noise.
    """
    rng = np.random.default_rng(8)
    levels = {("t1", "factual"): 0.6, ("t1", "untrained"): 0.4}
    planned = made_condition("c", "ccpo", range(12)).model_copy(
        update={"decodings": {"t1": 1.0}, "primary": "t1"}
    )
    untrained = Played("arithmetic", "t1", "untrained")
    hits = np.zeros(2)
    for _ in range(300):
        own = {s: drawn_marks(rng, levels, 32) for s in range(12)}
        shared = {s: {**own[s], untrained: own[0][untrained]} for s in own}
        of = Runs(planned, {}, shared)
        gain = conditions.gain(of)
        assert gain is not None
        differences = marks.minus(of.under("t1"), of.under("t1", "untrained"))
        for i, row in enumerate((gain.beyond, conditions.contrast(differences, of.bases))):
            assert row.ci_low is not None
            assert row.ci_high is not None
            hits[i] += row.ci_low <= 0.2 <= row.ci_high
    assert hits[0] / 300 > 0.95 - 4 * np.sqrt(0.95 * 0.05 / 300)
    assert hits[1] / 300 < 0.85
    assert conditions._common(Runs(planned, {}, own).under("t1", "untrained"), 1.0) == 0
    assert conditions._common(of.under("t1", "untrained"), 0.0) == 0  # greedily nothing is drawn


def test_the_noise_of_a_draw_is_that_of_its_samples() -> None:
    rng = np.random.default_rng(1)
    chances = rng.random(40)[:, None]
    draws = rng.random((4000, 40, 5)) < chances
    spread = draws.mean(axis=(1, 2)).std()
    estimates = [st.draw_noise(draw.astype(float)) ** 2 for draw in draws[:400]]
    assert np.sqrt(np.mean(estimates)) == pytest.approx(spread, rel=0.05)
    # of one sample only the most is known that it can be
    assert st.draw_noise(draws[0, :, :1].astype(float)) > draws[:, :, 0].mean(axis=1).std()


# -- verdicts
# ------------------------------------------------------------------------------------------------


def numbers(values: list[list[float]], effect: float = 0.05) -> sentences.Tested:
    row = compared(values, effect)
    return sentences.Tested(row, row.p, row.p_equivalent)


def shifted(by: float, n: int, seed: int = 0) -> list[list[float]]:
    """Differences of 400 tasks of `n` seeds around `by`."""
    rng = np.random.default_rng(seed)
    return rng.normal(by, 0.3, (n, 400)).tolist()


def sentence(of: sentences.Tested, effect: float = 0.05, reserves: tuple[str, ...] = ()) -> str:
    row = of.row
    noise = st.Noise(row.item)
    means = sentences.Means(
        st.detectable(row.sd, row.n, 1, noise), st.seeds_needed(effect, row.sd, 1, noise)
    )
    return sentences.claim(sentences.Declared("a", "b", 1, effect), of, means, reserves)


@pytest.mark.parametrize(
    ("by", "effect", "verdict", "begins"),
    [
        (0.3, 0.05, "above", "Answering greedily, a is above b: +"),
        (-0.3, 0.05, "below", "Answering greedily, a is below b: -"),
        (0.0, 0.1, "equivalent", "Answering greedily, a and b are equivalent within 10 points: "),
        (0.0, 0.005, "not decidable", "Answering greedily, a against b is not decidable with 5 "),
        (0.1, 0.5, "above", "Answering greedily, a is above b, by less than the 50 points that "),
    ],
)
def test_a_claim_is_one_of_four(by: float, effect: float, verdict: str, begins: str) -> None:
    of = numbers(shifted(by, 5), effect)
    assert sentences.verdict(of) == verdict
    assert sentence(of, effect).startswith(begins)


def test_what_is_not_decidable_says_what_would_be() -> None:
    of = numbers(shifted(0.0, 4), 0.01)
    text = sentence(of, 0.01)
    noise = st.Noise(of.row.item)
    detectable = st.detectable(of.row.sd, 4, 1, noise)
    assert detectable is not None
    assert f"so many find {100 * detectable:.1f} points or more" in text
    assert f"and {st.seeds_needed(0.01, of.row.sd, 1, noise)} seeds find 1 points" in text
    assert "observed" not in text


def test_below_three_replicates_nothing_is_claimed() -> None:
    of = numbers(shifted(0.5, 2))
    certain = sentences.Tested(of.row, 1e-9, 1e-9)
    assert sentences.verdict(certain) == "not decidable"
    assert sentence(certain).endswith("a claim needs 3.")
    assert "not decidable with 2 seeds" in sentence(certain)
    one = sentences.Tested(st.compare({0: 0.1}), None, None)
    assert sentence(one) == "a against b: not decidable with 1 seed: a claim needs 3."


def test_reserves_stand_in_the_same_sentence() -> None:
    for of in (numbers(shifted(0.3, 5)), numbers(shifted(0.0, 5)), numbers(shifted(0.3, 2))):
        text = sentence(of, reserves=("not matched in tokens: x",))
        assert text.endswith("; not matched in tokens: x.")
        assert text.count(". ") == 0


def test_equivalence_is_two_one_sided_tests_of_scipys() -> None:
    d = np.array([0.01, -0.02, 0.015, 0.0, 0.01])
    below = scipy_stats.ttest_1samp(d, 0.05, alternative="less").pvalue
    above = scipy_stats.ttest_1samp(d, -0.05, alternative="greater").pvalue
    assert st.equivalence_p(d, 0.05) == pytest.approx(max(below, above))


def test_power_is_the_noncentral_ts_where_items_have_no_noise() -> None:
    """To 1e-5: one is integrated over spreads, the other summed by scipy."""
    for effect, sd, n, family in ((1.0, 1.0, 6, 1), (0.3, 0.5, 8, 4), (0.4, 0.5, 20, 10)):
        critical = scipy_stats.t.ppf(1 - 0.025 / family, n - 1)
        shift = effect / sd * np.sqrt(n)
        theirs = scipy_stats.nct.sf(critical, n - 1, shift)
        theirs += scipy_stats.nct.cdf(-critical, n - 1, shift)
        assert st.power(effect, sd, n, family) == pytest.approx(theirs, abs=1e-5)
    # where items account for all of it, the test has the quantile of few seeds all the same
    whole = st.power(1.0, 1.0, 6, 1, st.Noise(item=1.0))
    limit = scipy_stats.t.ppf(0.975, 5)
    rng = np.random.default_rng(0)
    spreads = np.maximum(1, np.sqrt(rng.chisquare(5, 200_000) / 5))
    found = np.abs(np.sqrt(6) + rng.normal(size=200_000)) > limit * spreads
    assert whole == pytest.approx(found.mean(), abs=0.005)


# -- the whole, simulated (benchmarks/claims.py has 2,000 experiments a line)
# ------------------------------------------------------------------------------------------------

STUDIES = 300


def near(share: float, bound: float) -> bool:
    """Whether a share of STUDIES is at most `bound`, within three standard errors."""
    return share <= bound + 3 * np.sqrt(bound * (1 - bound) / STUDIES)


@pytest.mark.parametrize("n", [3, 5, 8, 20])
def test_an_a_a_comparison_claims_as_seldom_as_it_says(n: int) -> None:
    claims = simulation()
    for line in claims.false_claims(n, STUDIES, 1):
        assert near(line.share, 0.05), line


def test_intervals_hold_the_truth_and_power_is_the_formulas() -> None:
    claims = simulation()
    for noise in ("normal", "skewed"):
        counted = claims.count(claims.Design(5, 200, 8, noise=noise, gap=0.04), STUDIES, 1)
        assert near(1 - counted.covered, 0.05), counted
    design = claims.Design(8, 200, 4, 0.03)
    counted = claims.count(claims.replace(design, gap=0.05), STUDIES, 2)
    assert counted.claims == pytest.approx(counted.formula, abs=3 * np.sqrt(0.25 / STUDIES))
    assert near(counted.equivalent, 0.05)  # the gap is the declared effect


# -- a condition against its repeat
# ------------------------------------------------------------------------------------------------


def repeat(experiment: Path, runs: Path) -> None:
    """Makes `other` of a made-up experiment the repeat of `plain`, with its seeds plus 100."""
    planned = manifest.read_training(experiment)
    plain = planned.condition("plain")
    own = planned.condition("other")
    pairs = {seed + 100: seed for seed in own.runs}
    changed = own.model_copy(
        update={
            "runs": {seed + 100: run for seed, run in own.runs.items()},
            "bases": {seed + 100: base for seed, base in own.bases.items()},
            "repeats": "plain",
            "pairs": pairs,
        }
    )
    planned.model_copy(update={"conditions": (plain, changed), "compare": ()}).write(experiment)


def test_a_repeat_is_paired_with_what_it_repeats_and_in_no_family(tmp_path: Path) -> None:
    """The differences are those of the same runs, had they been compared."""
    experiment, runs = made_up(tmp_path, n_seeds=4)
    [declared] = analysed(tmp_path, experiment, runs).comparisons
    repeat(experiment, runs)
    numbers = analysed(tmp_path, experiment, runs)
    assert numbers.comparisons == ()
    [row] = numbers.repeats
    assert (row.a, row.b) == ("other", "plain")
    assert row.main == declared.main
    assert row.main.seeds == (0, 1, 2, 3)
    assert row.sentence.startswith(
        "other repeats plain with other seeds: answering greedily, chance alone makes them differ "
        f"by {sentences.points(row.main)} points (95 % interval over 4 pairs of "
    )
    assert row.sentence in list(report.sentences(numbers, manifest.read_training(experiment)))
    assert list(
        numbers.conditions["other"].accuracy["arithmetic"]["greedy"]["factual"].by_seed
    ) == [
        100,
        101,
        102,
        103,
    ]
    shutil.rmtree(runs / "plain.s1")
    [partial] = analysed(tmp_path, experiment, runs).repeats
    assert partial.main.seeds == (0, 2, 3)


def test_a_repeat_is_drawn_as_a_band(tmp_path: Path) -> None:
    experiment, runs = made_up(tmp_path, n_seeds=4)
    declared = analysed(tmp_path, experiment, runs)
    repeat(experiment, runs)
    repeated = analysed(tmp_path, experiment, runs)
    both = declared.model_copy(update={"repeats": repeated.repeats})
    frame = figure.load("differences").collect(both)
    assert list(frame["repeat"]) == [False, True]
    assert frame.ci_low[1] == repeated.repeats[0].main.ci_low
    import matplotlib.pyplot as plt

    axes = plt.figure().subplots()
    figure.load("differences").paint(frame, axes, {})
    [band] = axes.patches
    row = repeated.repeats[0].main
    assert band.get_x() == pytest.approx(100 * row.ci_low)
    assert band.get_x() + band.get_width() == pytest.approx(100 * row.ci_high)
    plt.close("all")


# -- inputs
# ------------------------------------------------------------------------------------------------


def analysed(folder: Path, experiment: Path, runs: Path) -> TrainingStatistics:
    analyse(experiment=experiment, runs=runs, stats=folder / "stats.json")
    return statistics.read_training(folder / "stats.json")


def rewrite(path: Path, keep: Callable[[dict[str, object]], bool]) -> None:
    """Keeps some rows of a table of scores."""
    rows = [row for row in schema.read_table(path, "scores").to_pylist() if keep(row)]
    schema.write_table(path, schema.rows_to_table("scores", rows))


def test_a_missing_run_leaves_a_partial_analysis_that_names_it(tmp_path: Path) -> None:
    experiment, runs = made_up(tmp_path, n_seeds=4)
    (runs / "other.s1" / SCORES).unlink()
    numbers = analysed(tmp_path, experiment, runs)
    assert numbers.left_out == ("condition other, seed 1: run other.s1 is not there",)
    [row] = numbers.comparisons
    assert row.main.seeds == (0, 2, 3)
    assert row.unpaired == ("plain alone has seed 1",)
    assert "; plain alone has seed 1" in row.sentence
    assert row.sentence.count(". ") == 0
    assert not [path for path in inputs(experiment, runs) if "other.s1" in str(path)]
    text = list(report.sentences(numbers, manifest.read_training(experiment)))
    assert text[0] == (
        "These statistics are partial: condition other, seed 1: run other.s1 is not there."
    )


def test_a_condition_without_runs_is_left_out_and_named(tmp_path: Path) -> None:
    experiment, runs = made_up(tmp_path, n_seeds=3)
    for run in runs.glob("plain.*"):
        shutil.rmtree(run)
    numbers = analysed(tmp_path, experiment, runs)
    assert list(numbers.conditions) == ["other"]
    assert numbers.comparisons == ()
    assert numbers.left_out[-1] == "other against plain: no seed of both is there"
    assert len(numbers.left_out) == 4
    shutil.rmtree(runs)
    with pytest.raises(ValueError, match=r"made_up: none of its runs is there. Remedy"):
        analysed(tmp_path, experiment, runs)


def test_a_seed_with_fewer_tasks_is_refused(tmp_path: Path) -> None:
    experiment, runs = made_up(tmp_path)
    rewrite(
        runs / "other.s1" / SCORES,
        lambda row: row["intervention"] != "factual" or int(str(row["task_id"])) < 10,
    )
    with pytest.raises(
        ValueError,
        match=r"condition other, run other.s1: factual on arithmetic, greedy has 10 of the 50 "
        r"tasks .* Remedy",
    ):
        analysed(tmp_path, experiment, runs)


def test_a_missing_intervention_is_named_with_run_and_condition(tmp_path: Path) -> None:
    experiment, runs = made_up(tmp_path)
    rewrite(
        runs / "plain.s2" / SCORES,
        lambda row: (row["intervention"], row["decoding"]) != ("solo.1", "t1"),
    )
    with pytest.raises(
        ValueError, match=r"condition plain, run plain.s2: solo.1 on arithmetic, t1 is missing"
    ):
        analysed(tmp_path, experiment, runs)


def test_unequal_samples_and_tasks_of_compared_conditions_are_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    levels = {("greedy", "factual"): 0.5, ("t1", "factual"): 0.5}
    few, many = (
        Runs(
            made_condition(label, "ccpo", range(3)),
            {},
            {s: drawn_marks(rng, levels, tasks) for s in range(3)},
        )
        for label, tasks in (("few", 10), ("many", 128))
    )
    with pytest.raises(
        ValueError, match=r"comparison of few and many, condition few: .* has 10 of the 128 tasks"
    ):
        differences(few, many, 0.05)
    experiment, runs = made_up(tmp_path)
    path = runs / "other.s0" / SCORES
    rows = schema.read_table(path, "scores").to_pylist()
    extra = {**rows[0], "sample": 1}
    schema.write_table(path, schema.rows_to_table("scores", [*rows, extra]))
    with pytest.raises(ValueError, match=r"run other.s0, factual .* has 1 samples, others have 2"):
        analysed(tmp_path, experiment, runs)


def test_marks_are_those_of_the_table_in_any_order(tmp_path: Path) -> None:
    _, runs = made_up(tmp_path, n_seeds=1)
    scores = schema.read_table(runs / "other.s0" / SCORES, "scores").to_pandas()
    shuffled = scores.sample(frac=1, random_state=0)
    own = marks.of_run(scores, "r")
    for played, of_shuffled in marks.of_run(shuffled, "r").items():
        part = scores[
            (scores.decoding == played.decoding) & (scores.intervention == played.intervention)
        ]
        by_hand = part.sort_values("task_id").accuracy.to_numpy()[:, None]
        assert np.array_equal(of_shuffled.values, by_hand)
        assert np.array_equal(of_shuffled.values, own[played].values)
        assert list(of_shuffled.tasks) == sorted(part.task_id)
    assert next(str(played) for played in own) == "factual on arithmetic, greedy"


def test_a_difference_of_unequal_samples_is_that_of_the_tasks() -> None:
    a = {0: np.array([[1.0, 0.0], [1.0, 1.0]])}
    b = {0: np.array([[1.0], [0.0]]), 1: np.zeros((2, 1))}
    assert np.array_equal(marks.minus(a, b)[0], [[-0.5], [1.0]])
    assert list(marks.minus(a, b)) == [0]


def test_collapsed_seeds_are_counted_and_said(tmp_path: Path) -> None:
    """Every answer of plain's seed 2 is wrong; its untrained team is right now and then."""
    experiment, runs = made_up(tmp_path)
    path = runs / "plain.s2" / SCORES
    rows = schema.read_table(path, "scores").to_pylist()
    wrong = [{**r, "accuracy": 0.0} if r["intervention"] == "factual" else r for r in rows]
    schema.write_table(path, schema.rows_to_table("scores", wrong))
    gain = analysed(tmp_path, experiment, runs).conditions["plain"].gain
    assert gain is not None
    assert gain.collapsed == (2,)
    table = tables.frame(statistics.read_training(tmp_path / "stats.json"))
    assert list(table.seeds_below_untrained) == [1, 0]
    assert "Of 3 seeds 1 ended below the untrained team greedily (seed 2)." in gain.sentence


def unmatched(tmp_path: Path) -> Comparison:
    experiment, runs = made_up(tmp_path)
    for seed in range(3):
        path = runs / f"other.s{seed}" / "ledger.parquet"
        rows = schema.read_table(path, "ledger").to_pylist()
        more = [{**row, "generated_tokens": 2 * row["generated_tokens"]} for row in rows]
        schema.write_table(path, schema.rows_to_table("ledger", more))
    return analysed(tmp_path, experiment, runs).comparisons[0]


def test_an_unmatched_comparison_says_so_in_its_sentence(tmp_path: Path) -> None:
    row = unmatched(tmp_path)
    assert not row.matched
    assert "; not matched in tokens: other generated 800 tokens in training" in row.sentence
    assert row.sentence.count(". ") == 0


def test_the_declared_effect_reaches_the_claim(tmp_path: Path) -> None:
    experiment, runs = made_up(tmp_path)
    planned = manifest.read_training(experiment)
    planned.model_copy(update={"effect": 0.9}).write(experiment)
    wide = analysed(tmp_path, experiment, runs)
    assert wide.effect == 0.9
    assert "above plain, by less than the 90 points that matter: " in wide.comparisons[0].sentence
    planned.model_copy(update={"effect": 1e-4}).write(experiment)
    [row] = analysed(tmp_path, experiment, runs).comparisons
    assert row.verdict == "above"
    assert "that matter" not in row.sentence
    assert row.needed is None
    assert "no affordable number finds 0.01 points" in sentence(numbers(shifted(0, 3), 1e-4), 1e-4)


def test_a_comparison_that_could_not_be_made_counts_in_the_family(tmp_path: Path) -> None:
    experiment, runs = made_up(tmp_path)
    change(experiment)
    planned = manifest.read_training(experiment)
    gone = planned.conditions[0].model_copy(update={"label": "gone", "runs": {0: "gone.s0"}})
    both = {
        "conditions": (*planned.conditions, gone),
        "compare": (("other", "plain"), ("gone", "plain")),
    }
    planned.model_copy(update=both).write(experiment)
    [row] = analysed(tmp_path, experiment, runs).comparisons
    assert row.main.p is not None
    assert row.p_holm == pytest.approx(min(1.0, 2 * row.main.p))
