"""Statistics against scipy, brute force and simulation; pages from a small made-up experiment."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from ccpo import lineage, schema
from ccpo.evaluate import analyse as analysing
from ccpo.evaluate import stats as st
from ccpo.evaluate.analyse import analyse
from ccpo.publish import draw, figure, report, tables, track


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
    assert st.interval([0.4]) == st.Interval(0.4, None, None, 1)
    with pytest.raises(ValueError, match="finite"):
        st.interval([0.1, float("nan")])


def test_intervals_cover_as_often_as_they_say() -> None:
    rng = np.random.default_rng(1)
    draws = rng.normal(0.3, 1, (4000, 5))
    hit = np.mean([(i.ci_low <= 0.3 <= i.ci_high) for i in map(st.interval, draws)])
    assert abs(hit - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 4000)


def test_sign_flips_by_brute_force() -> None:
    d = np.array([0.3, -0.1, 0.4, 0.2, 0.5, 0.1, -0.2])
    count = sum(
        abs(sum(s * x for s, x in zip(signs, d, strict=True))) >= abs(d.sum()) - 1e-12
        for signs in itertools.product((1, -1), repeat=7)
    )
    assert st.sign_flip_p(d) == pytest.approx(count / 2**7)
    assert st.sign_flip_p(d[:5]) is None


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


def test_claims_follow_the_numbers() -> None:
    clear = st.compare(
        dict(enumerate([0.8, 0.82, 0.79, 0.81])), dict(enumerate([0.5, 0.53, 0.5, 0.5]))
    )
    assert st.claim("a", "b", clear | {"p_holm": clear["p"]}, 1).startswith(
        "Answering greedily, a is above b: +29."
    )
    vague = st.compare(dict(enumerate([0.5, 0.6, 0.4])), dict(enumerate([0.52, 0.5, 0.45])))
    assert "not decidable with 3 seeds" in st.claim("a", "b", vague | {"p_holm": vague["p"]}, 1)
    one = st.compare({0: 0.5}, {0: 0.4})
    assert (
        st.claim("a", "b", one | {"p_holm": None}, 1) == "a against b: not decidable with 1 seed."
    )


def test_seeds_of_one_base_model_are_averaged_and_seeds_of_one_alone_are_not() -> None:
    values = {0: 0.1, 1: 0.3, 2: 0.5, 3: 0.9}
    assert st.replicates(values, dict.fromkeys(values, "m/0")) == [0.1, 0.3, 0.5, 0.9]
    assert st.replicates(values, {0: "m/0", 1: "m/1", 2: "m/0", 3: "m/1"}) == pytest.approx(
        [0.3, 0.6]
    )
    row = st.compare(values, dict.fromkeys(values, 0.1), {0: "m/0", 1: "m/1", 2: "m/0", 3: "m/1"})
    assert (row["n"], row["unit"]) == (2, "base model")
    assert row["mean"] == pytest.approx(0.35)
    assert row["p"] == pytest.approx(scipy_stats.ttest_1samp([0.2, 0.5], 0.0).pvalue)


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
    assert found["draw"] == pytest.approx(draw, rel=0.05)
    assert found["task"] == pytest.approx(tasks, rel=0.05)
    assert found["base"] == pytest.approx(0.05, rel=0.15)
    # other tasks for each seed, here
    assert found["seed"] == pytest.approx(np.sqrt(0.02**2 + 0.1**2 / 60), rel=0.15)


def test_sources_that_a_design_cannot_tell_are_not_told() -> None:
    answers = [np.array([[1.0], [0.0]]), np.array([[1.0], [1.0]])]
    one = st.sources({0: 0.5, 1: 1.0}, {0: "m/0", 1: "m/1"}, answers)
    assert one["base"] is one["seed"] is one["draw"] is None
    assert one["total"] == pytest.approx(0.5 / np.sqrt(2))
    balanced = {0: 0.1, 1: 0.3, 2: 0.6, 3: 0.6}  # of 0 and 1, of 2 and 3: the anova of a textbook
    found = st.sources(
        balanced, {0: "a", 1: "a", 2: "b", 3: "b"}, [a.repeat(2, 1) for a in [*answers, *answers]]
    )
    within = (2 * 0.1**2) / 2
    between = 2 * (0.2**2 + 0.2**2)
    assert found["base"] == pytest.approx(np.sqrt((between - within) / 2))
    assert found["seed"] == pytest.approx(np.sqrt(within))
    assert found["draw"] == 0.0


def test_a_difference_at_temperature_1_alone_is_called_sureness() -> None:
    rows: dict[str, dict[str, object]] = {
        "greedy": {
            "mean": 0.01,
            "ci_low": -0.02,
            "ci_high": 0.04,
            "apart": {"mean": 0.0, "ci_low": 0.0, "ci_high": 0.0},
        },
        "t1": {
            "mean": 0.08,
            "ci_low": 0.05,
            "ci_high": 0.11,
            "apart": {"mean": 0.07, "ci_low": 0.02, "ci_high": 0.12},
        },
    }
    temperatures = {"greedy": 0.0, "t1": 1.0}
    text = st.elsewhere(rows, "greedy", temperatures)
    assert text.startswith("The same at temperature 1 +8.0 [+5.0, +11.0].")
    assert "how sure the teams are" in text
    rows["t1"]["apart"] = {
        "mean": 0.03,
        "ci_low": -0.01,
        "ci_high": 0.07,
    }  # not decided greedily, and not clearly another
    assert "how sure" not in st.elsewhere(rows, "greedy", temperatures)
    rows["t1"]["apart"] = {"mean": 0.07, "ci_low": 0.02, "ci_high": 0.12}
    rows["greedy"] |= {"mean": 0.06, "ci_low": 0.02, "ci_high": 0.1}
    assert "how sure" not in st.elsewhere(rows, "greedy", temperatures)
    assert st.elsewhere({"greedy": rows["greedy"]}, "greedy", temperatures) == ""


def test_a_gain_that_temperature_alone_gives_is_said_to_be_that(tmp_path: Path) -> None:
    """The untrained team is at 0.3 sampled and 0.9 greedily, the trained one at 0.9 everywhere."""
    rng = np.random.default_rng(9)
    levels = {
        "greedy": {"factual": 0.9, "untrained": 0.9},
        "t1": {"factual": 0.9, "untrained": 0.3},
    }
    accuracy: dict[str, dict[str, dict[str, object]]] = {}
    bases = {s: f"m/{s}" for s in range(6)}
    for decoding, kinds in levels.items():
        values = {
            kind: {s: level + rng.normal(0, 0.01) for s in bases} for kind, level in kinds.items()
        }
        accuracy[decoding] = {kind: analysing._row(row, bases) for kind, row in values.items()}
    gain = analysing._gain(accuracy, "greedy", bases)
    assert gain is not None
    assert gain["best"] == "greedy"
    assert gain["by_decoding"]["t1"]["mean"] == pytest.approx(0.6, abs=0.03)
    by_hand = [
        accuracy["greedy"]["factual"]["by_seed"][str(s)]
        - accuracy["greedy"]["untrained"]["by_seed"][str(s)]
        for s in bases
    ]  # type: ignore[index]
    assert gain["beyond"]["mean"] == pytest.approx(np.mean(by_hand))
    temperatures = {"greedy": 0.0, "t1": 1.0}
    assert "sharpening" in st.gained("c", gain, 0.9, temperatures, "greedy")
    undecided = {
        "mean": 0.5,
        "ci_low": -0.4,
        "ci_high": 1.4,
    }  # of two seeds, say: no sign of sharpening
    vague = {
        **gain,
        "beyond": undecided,
        "by_decoding": {"t1": {**gain["by_decoding"]["t1"], "apart": undecided}},
    }
    assert "sharpening" not in st.gained("c", vague, 0.9, temperatures, "greedy")
    gain["beyond"] |= {"mean": 0.3, "ci_low": 0.2, "ci_high": 0.4}
    assert "sharpening" not in st.gained("c", gain, 0.9, temperatures, "greedy")
    assert (
        analysing._gain({"greedy": {"factual": accuracy["greedy"]["factual"]}}, "greedy", bases)
        is None
    )


def test_the_page_says_what_its_intervals_are_over() -> None:
    two = ["m/0", "m/1"]
    assert st.scope([two, two], 8).startswith(
        "Intervals are over 2 base models of the recipe m, each with a training seed of its own, "
        "and"
    )
    assert "averaged first" in st.scope([["m/0", "m/1", "m/0"]], 8)
    assert st.scope([["m", "m"]], 8).startswith(
        "Intervals are over 2 training seeds of one base model, m"
    )
    assert "no interval over seeds" in st.scope([["m"]], 8)
    mixed = st.scope([two, ["s/0+m/0", "s/1+m/1"]], 8)
    assert "of the recipe m, each" in mixed
    assert "of the recipe s with m, each" in mixed


def test_what_is_drawn_over_time_has_intervals_over_base_models_too() -> None:
    """Four seeds of two base models: rewards 0, 2, 4, 6 are two replicates of mean 2 and 4."""
    columns = {"step": 1, "agent": 0, "generated_tokens": 10, "credit": 0.0, "leakage": 0.0}
    tables = {s: {"train": pd.DataFrame([{**columns, "reward": 2.0 * s}])} for s in range(4)}
    bases = {s: f"m/{s % 2}" for s in range(4)}
    [point] = analysing._curve(tables, bases)
    reward = next(row for row in analysing._agents(tables, bases) if row["quantity"] == "reward")
    for row in (point, reward):
        assert row["n"] == 2
        assert row["mean"] == 3.0
        assert row["ci_high"] - row["mean"] == pytest.approx(
            scipy_stats.t.ppf(0.975, 1) * np.sqrt(2) / np.sqrt(2)
        )


def test_statistics_say_what_is_known_to_be_wrong_and_what_was_not_reached(tmp_path: Path) -> None:
    """Against the tables: accuracy without items of known defects, late verdicts, leakage."""
    experiment, runs = made_up(tmp_path)
    analysing.analyse(experiment=experiment, runs=runs, stats=tmp_path / "stats.json")
    manifest = schema.read_json(experiment)
    conditions = schema.read_json(tmp_path / "stats.json")["conditions"]
    for label, c in conditions.items():
        for seed, run in manifest["conditions"][label]["runs"].items():
            scores = schema.read_table(runs / run / SCORES, "scores").to_pandas()
            clean = scores[
                (scores.intervention == "factual") & (scores.decoding == "greedy") & ~scores.defect
            ]
            assert len(clean) == 40
            [benchmark] = c["clean"]
            assert c["clean"][benchmark]["by_seed"][seed] == pytest.approx(clean.accuracy.mean())
        assert c["clean"][benchmark]["defects"] == 10
        seeds = len(c["seeds"])
        assert c["late"] == {"training": seeds, "evaluation": 6 * seeds}
        assert (c["leakage"], c["leakage_by_chance"]) == (0.0, 0.5)
    table = tables.frame(schema.read_json(tmp_path / "stats.json"))
    assert (table.items_with_defects == 10).all()
    assert (table.late_verdicts == 7 * table.seeds).all()


DECODINGS = {"greedy": 0.0, "t1": 1.0}
PROTOCOL = {
    "id": "made-up",
    "decodings": {name: {"temperature": t} for name, t in DECODINGS.items()},
    "primary": "greedy",
    "also": [],
}
SCORES = Path("eval", "made-up", "scores.parquet")
FIGURES = [name for name in figure.names() if figure.load(name).KIND == "training"]


def made_up(folder: Path, n_seeds: int = 3) -> tuple[Path, Path]:
    """A small experiment folder of invented numbers (test data): `plain` and `other`, a dyad each,
    four updates.
    """
    rng = np.random.default_rng(0)
    runs = folder / "runs"
    conditions = {}
    for label, credit in (("plain", "shared"), ("other", "ccpo")):
        ids = {}
        for seed in range(n_seeds):
            run = ids[str(seed)] = f"{label}.s{seed}"
            write_run(runs / run, rng, better=label == "other")
        config = {
            "team": {"name": "think_solve"},
            "credit": {"name": credit},
            "benchmark": {"name": "arithmetic"},
            "model": [{"name": "small"}, {"name": "big"}],
            "policy": "separate",
            "advantage": {"name": "group_mean" if label == "other" else "none"},
            "train": {"fanout": [2, 1]},
        }
        made = {
            "config": config,
            "preset": "",
            "degenerate": "it is made up" if label == "other" else "",
            "runs": ids,
        }
        conditions[label] = {**made, "bases": {seed: f"small/{seed}" for seed in ids}}
    manifest = {
        "experiment": "made_up",
        "question": "Is <other> better?",
        "note": "Test data.",
        "primary_metric": "accuracy",
        "token_tolerance": 0.1,
        "compare": [["other", "plain"]],
        "protocols": [PROTOCOL],
        "order": list(conditions),
        "conditions": conditions,
    }
    schema.write_json(folder / "experiment.json", manifest)
    return folder / "experiment.json", runs


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
    accuracy = {"factual": 0.8 if better else 0.6, "untrained": 0.3, "solo": 0.4}
    scores = [
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
            "late": int(t == 7),
            "defect": t < 10,
            "n_tokens": 3,
            "logprob": -0.6,
        }
        for decoding in DECODINGS
        for kind, p in accuracy.items()
        for t in range(50)
    ]
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


def publish(folder: Path) -> dict[str, Path]:
    experiment, runs = made_up(folder)
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
    report.write(
        stats=stats, experiment=experiment, figures=drawn, table=table, runs=runs, out=page
    )
    return {"experiment": experiment, "runs": runs, "stats": stats, "page": page, "table": table}


def test_a_benchmark_that_is_only_learnt_leaves_the_primary_metric_to_the_first_evaluated(
    tmp_path: Path,
) -> None:
    """The scores are those of arithmetic; what is trained on has none, and of `also` the second one
    neither.
    """
    experiment, runs = made_up(tmp_path)
    analyse(experiment=experiment, runs=runs, stats=tmp_path / "own.json")
    manifest = schema.read_json(experiment)
    for condition in manifest["conditions"].values():
        condition["config"]["benchmark"] = {"name": "only_train"}
    manifest["protocols"] = [{**PROTOCOL, "also": [{"name": "arithmetic"}, {"name": "none"}]}]
    schema.write_json(experiment, manifest)
    analyse(experiment=experiment, runs=runs, stats=tmp_path / "also.json")
    assert schema.read_json(tmp_path / "also.json") == schema.read_json(tmp_path / "own.json")
    assert (
        schema.read_json(tmp_path / "own.json")["conditions"]["plain"]["benchmark"] == "arithmetic"
    )


def test_from_runs_to_a_page_that_can_be_audited(tmp_path: Path) -> None:
    made = publish(tmp_path / "a")
    numbers = schema.read_json(made["stats"])
    scores = schema.read_table(made["runs"] / "other.s1" / SCORES, "scores").to_pandas()
    found = numbers["conditions"]["other"]["accuracy"]["arithmetic"]
    for decoding in DECODINGS:
        by_hand = scores[
            (scores.intervention == "factual") & (scores.decoding == decoding)
        ].accuracy.mean()
        assert found[decoding]["factual"]["by_seed"]["1"] == pytest.approx(by_hand)
    assert numbers["conditions"]["other"]["nll"]["t1"]["factual"]["mean"] == pytest.approx(0.2)
    assert numbers["conditions"]["other"]["ledger"]["generated_tokens"] == 400
    assert numbers["comparisons"][0]["matched"]
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
    assert len(lineage.audit(made["page"])) > 10
    again = publish(tmp_path / "b")
    for name in FIGURES:
        assert (tmp_path / "a" / f"{name}.svg").read_bytes() == (
            tmp_path / "b" / f"{name}.svg"
        ).read_bytes()
    victim = again["runs"] / "plain.s2" / SCORES
    victim.write_bytes(victim.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match=r"plain.s2/eval/made-up/scores.parquet has sha256 .*"):
        lineage.audit(again["page"])


def test_missing_input_is_an_error_not_a_picture(tmp_path: Path) -> None:
    experiment, runs = made_up(tmp_path)
    shutil.rmtree(runs / "other.s1")
    with pytest.raises(ValueError, match=r"other.s1/train.parquet does not exist"):
        analyse(experiment=experiment, runs=runs, stats=tmp_path / "stats.json")
    assert not (tmp_path / "stats.json").exists()


def test_one_seed_claims_nothing(tmp_path: Path) -> None:
    experiment, runs = made_up(tmp_path, n_seeds=1)
    analyse(experiment=experiment, runs=runs, stats=tmp_path / "stats.json")
    row = schema.read_json(tmp_path / "stats.json")["comparisons"][0]
    assert row["ci_low"] is None
    assert row["sentence"] == "other against plain: not decidable with 1 seed."


@pytest.mark.filterwarnings("ignore")
def test_tracking_twice_imports_once(tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    experiment, runs = made_up(tmp_path, n_seeds=1)
    analyse(experiment=experiment, runs=runs, stats=tmp_path / "stats.json")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    out = tmp_path / "mlflow.json"
    for _ in range(2):
        track.track(
            experiment=experiment, runs=runs, stats=tmp_path / "stats.json", uri=uri, out=out
        )
    client = MlflowClient(uri)
    ids = schema.read_json(out)
    found = client.search_runs([ids["experiment_id"]])
    assert {r.info.run_id for r in found} == set(ids["runs"].values())
    assert len(found) == 2
    history = client.get_metric_history(ids["runs"]["other.s0"], "agent0/reward")
    assert [m.value for m in history] == pytest.approx([0.1, 0.2, 0.3, 0.4])


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


def test_one_run_has_an_interval_over_tasks_several_have_none(tmp_path: Path) -> None:
    made = publish(tmp_path)
    for condition in schema.read_json(made["stats"])["conditions"].values():
        row = condition["accuracy"]["arithmetic"]["greedy"]["factual"]
        assert row["tasks"] is None
        assert condition["graders"]["arithmetic"] == {
            "accuracy": pytest.approx(row["mean"], abs=1),
            "c3": 1.0,
            "ccpo": 0.0,
        }
    answers = pd.DataFrame({0: [1.0, 0.0, 1.0, 1.0]})
    low, high = st.wilson(3, 4)
    assert analysing._over_tasks([answers]) == {"n": 4, "low": low, "high": high}
    assert analysing._over_tasks([answers, answers]) is None
    assert analysing._over_tasks([answers.assign(second=1.0)]) is None
    assert analysing._over_tasks([answers / 2]) is None


def test_the_page_shows_the_papers_graders_beside_ours(tmp_path: Path) -> None:
    text = publish(tmp_path)["page"].read_text()
    assert "under the papers' graders" in text
    assert "<td>100.0</td><td>0.0</td>" in text.replace(" ", "")


def test_role_information_says_nothing_of_a_condition_without_a_baseline(tmp_path: Path) -> None:
    """It takes every group's mean out; without a baseline of the group that mean is taught."""
    experiment, runs = made_up(tmp_path)
    manifest = schema.read_json(experiment)
    for name, expected in (("group_mean", True), ("none", False)):
        condition = manifest["conditions"]["other"]
        condition |= {"degenerate": ""}
        condition["config"]["advantage"] = {"name": name}
        schema.write_json(experiment, manifest)
        analyse(experiment=experiment, runs=runs, stats=tmp_path / "stats.json")
        text = report.sentences(schema.read_json(tmp_path / "stats.json"), manifest)
        assert ("taught nothing that the shared reward does not teach" in text) is expected
