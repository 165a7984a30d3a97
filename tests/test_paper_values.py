"""What the papers print, as data: the reader's refusals, the arithmetic of printed numbers against
counting, deviations of a run, and published values beside reproduced ones."""

from __future__ import annotations

import csv
import inspect
import itertools
import json
import re
import shutil
from decimal import ROUND_HALF_DOWN, ROUND_HALF_UP, Decimal
from pathlib import Path
from statistics import stdev

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from conftest import ROOT
from test_study import FIGURES, made_up

from ccpo import __main__ as main
from ccpo import lineage, manifest, schema
from ccpo.config import Experiment, RunConfig, read_experiment, read_yaml
from ccpo.config import deviations as following
from ccpo.evaluate.analyse import analyse
from ccpo.manifest import Deviation, FollowedPaper, by_deviation
from ccpo.oracle import claims
from ccpo.publish import arithmetic, draw, published, report, reproduced, statistics, tables
from ccpo.publish.published import Published, Value
from ccpo.publish.statistics import Interval

CONFIG = ROOT / "config"
TENTH = Decimal("0.1")


@pytest.fixture(scope="module")
def known() -> Published:
    return published.read(CONFIG / "published")


def value(text: str, **over: object) -> Value:
    """A printed accuracy in per cent; no relation."""
    cells = dict.fromkeys(Value.model_fields, "")
    told = {"key": "a", "paper": "p", "version": "v1", "source": "Table 1", "how": "text"}
    return Value.model_validate(
        {**cells, **told, "metric": "accuracy", "unit": "%", "value": text, **over}
    )


# -- the data


def test_every_row_says_where_it_stands_and_how_it_was_had(known: Published) -> None:
    """Of the files themselves, read by another reader."""
    count = 0
    for path in (CONFIG / "published" / "values").glob("*.csv"):
        rows = pd.read_csv(path, dtype=str, keep_default_na=False)
        assert (rows[["paper", "version", "source", "how"]] != "").all(axis=None), path
        assert (rows.precision[rows.how == "figure"] != "").all(), path
        count += len(rows)
    assert count == len(known.values) > 200
    hyper = pd.read_csv(CONFIG / "published/hyper.csv", dtype=str, keep_default_na=False)
    assert (hyper[["paper", "version", "source", "how", "value"]] != "").all(axis=None)
    assert len(hyper) == len(known.hyper) > 250


def test_what_the_data_names_exists(known: Published) -> None:
    presets = {*read_yaml(CONFIG / "presets.yaml"), "untrained", ""}
    assert {row.preset for row in known.values.values()} <= presets
    teams = {path.stem for path in (ROOT / "ccpo/team").glob("*.py")}
    assert {row.team for row in known.values.values()} <= {*teams, ""}
    # a text that is split over lines of source is one text
    source = re.sub(r'"\s+"', "", inspect.getsource(claims))
    for claim in known.claims:
        assert claim.oracle in source, claim.key
        if claim.comparison:
            name, pair = claim.comparison.split(": ")
            experiment = read_experiment(name, CONFIG)
            assert isinstance(experiment, Experiment)
            assert tuple(pair.split(" - ")) in experiment.compare, claim.key
    assert {"c3 v2", "ccpo v1", "ccpo v5"} <= {f"{c.paper} {c.version}" for c in known.claims}


def test_printed_values_that_cannot_be_what_they_say_are_these(known: Published) -> None:
    """AIME 2025, 30 questions x 5: counted by hand; nothing else fails."""
    failing = {
        key: arithmetic.check(row, known.values).reason
        for key, row in known.values.items()
        if arithmetic.check(row, known.values).possible is False
    }
    assert all("aime25" in key for key in failing)
    values = {str(known.values[key].value) for key, why in failing.items() if "no share" in why}
    assert values == {"7.9", "7.8", "1.7", "0.6", "1.4", "5.4", "6.8"}
    spreads = {key for key, why in failing.items() if "impossible beside" in why}
    assert {str(known.values[key].value) for key in spreads} == {"1.3", "3.3", "6.7", "7.3"}


def test_the_summary_counts_what_the_files_hold(known: Published) -> None:
    lines = list(arithmetic.summary(known, "c3"))
    own = [v for v in known.values.values() if (v.paper, v.version) == ("c3", "v2")]
    assert any(line.startswith(f"c3 v2: {len(own)} values") for line in lines)
    assert sum(line.startswith("impossible: ") for line in lines) == 12
    assert not any("ccpo" in line for line in lines)
    with pytest.raises(
        ValueError, match=r"paper 'cosaq' is not in papers\.csv\. Did you mean 'cosac'"
    ):
        list(arithmetic.summary(known, "cosaq"))
    table = list(csv.DictReader(arithmetic.as_csv(known, "c3").splitlines()))
    assert {row["possible"] for row in table} == {"yes", "no", ""}
    assert {row["key"] for row in table if row["possible"] == "no"} == {
        line.split()[1] for line in lines if line.startswith("impossible")
    }
    assert next(row for row in table if row["key"] == "c3.v1.math500.c3")["value"] == "82.80"


# -- the reader


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(CONFIG / "published", tmp_path / "published"))


def edit(path: Path, line: int, **cells: str) -> None:
    """Changes cells of a line of a CSV file; a new line after the last is a copy of the last."""
    rows = list(csv.reader(path.read_text().splitlines()))
    if line > len(rows):
        rows.append(list(rows[-1]))
    for name, text in cells.items():
        rows[line - 1][rows[0].index(name)] = text
    with path.open("w", newline="") as handle:
        csv.writer(handle, lineterminator="\n").writerows(rows)


CCPO = "values/ccpo.csv"
REFUSED = [
    (CCPO, {"value": "4,6"}, "line 2, value '4,6': Input should be a valid decimal"),
    (CCPO, {"value": "NaN"}, "line 2, value 'NaN': Input should be a finite number"),
    (CCPO, {"source": ""}, "line 2, source '': String should have at least 1 character"),
    (CCPO, {"source": "  "}, "line 2, source '': String should have at least 1 character"),
    (CCPO, {"how": "guess"}, "line 2, how 'guess': Input should be 'text', 'figure'"),
    (CCPO, {"how": "figure"}, "line 2: read off a figure, and precision is empty"),
    (CCPO, {"items": "0"}, "line 2, items '0': Input should be greater than or equal to 1"),
    (CCPO, {"runs": "5.5"}, "line 2, runs '5.5': Input should be a valid integer"),
    (CCPO, {"spread": "1"}, "line 2: spread and spread_kind go together"),
    (CCPO, {"spread": "-1", "spread_kind": "sd"}, "line 2, spread '-1': Input should be greater"),
    (CCPO, {"upper": "4.6"}, "line 2: upper 4.6 is not above value 4.6"),
    (CCPO, {"relation": "mean"}, "line 2: relation and of go together"),
    (CCPO, {"relation": "same", "of": "a b"}, "line 2: relation same is of 1 values"),
    (CCPO, {"relation": "difference", "of": "a"}, "line 2: relation difference is of two"),
    (CCPO, {"relation": "sum", "of": "ccpo.v1.gain.co"}, "line 2: no value has the key"),
    (CCPO, {"key": "ccpo.v1.gain.rema"}, "line 3: 'ccpo.v1.gain.rema' stands in"),
    (CCPO, {"metric": "gain over ReMA"}, "line 3: 'ccpo / v1 / question-and-answer digest"),
    (CCPO, {"version": "v9"}, "line 2: 'ccpo v9' is not in papers.csv. Did you mean 'ccpo v"),
    ("hyper.csv", {"paper": "c4"}, "line 2: 'c4 v2' is not in papers.csv. Did you mean 'c3 v2'"),
    ("hyper.csv", {"setting": "team"}, "line 2, setting 'team': String should match pattern"),
    ("hyper.csv", {"value": ""}, "line 2, value '': String should have at least 1 character"),
    ("hyper.csv", {"part": "else"}, "line 2, part 'else': Input should be 'train'"),
    ("missing.csv", {"reason": ""}, "line 2, reason '': String should have at least 1"),
    ("claims.csv", {"quote": "w " * 16}, "line 2: quote has 16 words, at most 15"),
    ("claims.csv", {"values": "c3.v1.fidelity.c"}, "line 2: no value has the key"),
    ("papers.csv", {"arxiv": "2603.6859"}, "line 2, arxiv '2603.6859': String should match"),
]


@pytest.mark.parametrize(("file", "cells", "complaint"), REFUSED)
def test_a_wrong_row_is_refused_with_file_and_line(
    folder: Path, file: str, cells: dict[str, str], complaint: str
) -> None:
    edit(folder / file, 2, **cells)
    with pytest.raises(ValueError, match=re.escape(complaint)) as error:
        published.read(folder)
    assert str(error.value).startswith(str(folder / file))


def test_columns_are_those_that_are_known(folder: Path) -> None:
    path = folder / "missing.csv"
    text = path.read_text()
    path.write_text(text.replace("reason", "reasons", 1))
    with pytest.raises(
        ValueError, match=r"line 1: unknown column 'reasons'\. Did you mean 'reason'\?"
    ):
        published.read(folder)
    path.write_text(text.replace(",reason", "", 1))
    with pytest.raises(ValueError, match="line 1: column 'reason' stands there 0 times"):
        published.read(folder)
    path.write_text(text + "c3,v1,too,few\n")
    lines = text.count("\n") + 1
    with pytest.raises(ValueError, match=f"line {lines}: 4 cells, 5 columns"):
        published.read(folder)
    path.unlink()
    with pytest.raises(ValueError, match=r"missing\.csv does not exist\. Remedy: git checkout"):
        published.read(folder)


def test_a_setting_stands_once(folder: Path) -> None:
    path = folder / "hyper.csv"
    edit(path, path.read_text().count("\n") + 1)
    with pytest.raises(ValueError, match=r"stands in .* already"):
        published.read_hyper(folder)


# -- arithmetic


@pytest.mark.parametrize(("items", "runs"), [(30, 5), (7, 3), (30, 1), (1, 1)])
def test_a_share_is_possible_if_some_count_rounds_to_it(items: int, runs: int) -> None:
    """Against every count, rounded either way at a tie."""
    total = items * runs
    printed = {
        (Decimal(100 * count) / total).quantize(TENTH, rounding)
        for count in range(total + 1)
        for rounding in (ROUND_HALF_UP, ROUND_HALF_DOWN)
    }
    for tenths in range(1001):
        share = Decimal(tenths) / 10
        share = share.quantize(TENTH)
        assert bool(arithmetic.counts(share, items, runs)) == (share in printed), share


def test_counts_are_those_that_round_to_it() -> None:
    assert list(arithmetic.counts(Decimal("82.80"), 500, 5)) == [2070]
    assert list(arithmetic.counts(Decimal("82.8"), 500, 5)) == [2069, 2070, 2071]
    assert list(arithmetic.counts(Decimal("100.0"), 30, 1)) == [30]


@pytest.mark.parametrize("total", [2, 5, 6, 10])
def test_a_spread_is_possible_if_some_counts_have_it(total: int) -> None:
    """Against all ways to share `total` right answers over 5 runs of 30 questions. What some have
    is never refused; of so few answers nothing else is accepted.
    """
    mean = (Decimal(100 * total) / 150).quantize(TENTH)
    ways = itertools.combinations_with_replacement(range(total + 1), 5)
    printed = {Decimal(100 * stdev(way) / 30).quantize(TENTH) for way in ways if sum(way) == total}
    assert len(printed) > 1
    for tenths in range(201):
        spread = (Decimal(tenths) / 10).quantize(TENTH)
        can = arithmetic.spread_possible(mean, spread, 30, 5)
        if spread in printed:
            assert can, spread
        elif spread < min(printed) + 1:
            assert not can, spread


def test_a_relation_holds_within_rounding() -> None:
    parts = {key: value(text, key=key) for key, text in (("x", "2.0"), ("y", "3.1"), ("z", "0.4"))}
    cases = [
        ("mean", "x y", "2.5", True),  # 2.55 plus or minus 0.05, printed to 0.05
        ("mean", "x y", "2.7", False),
        ("sum", "x y z", "5.7", True),  # 5.5 plus or minus 0.15, printed to 0.05
        ("sum", "x y z", "5.8", False),
        ("difference", "y x", "1.2", True),
        ("difference", "y x", "1.3", False),
        ("difference", "y x z", "2.0", True),  # minus the mean of the others, 1.9
        ("difference", "y x z", "2.1", False),
        ("same", "x", "2", True),
        ("same", "x", "1.96", True),
        ("same", "x", "2.1", True),  # both are 2.05, rounded either way
        ("same", "x", "2.2", False),
        ("ratio", "y x", "1.58", True),  # from 3.05 / 2.05 to 3.15 / 1.95
        ("ratio", "y x", "1.63", False),
    ]
    for relation, of, text, possible in cases:
        checked = arithmetic.check(value(text, relation=relation, of=of), parts)
        assert checked.possible is possible, (relation, of, text, checked)
    assert arithmetic.check(value("2.0"), {}).possible is None


def test_what_is_no_count_is_not_counted() -> None:
    assert arithmetic.check(value("7.9", items="30", runs="5"), {}).possible is False
    assert arithmetic.check(value("8.0", items="30", runs="5"), {}).possible is True
    for over in (
        {"metric": "tests passed"},
        {"unit": "points"},
        {"precision": "about 1"},
        {"items": ""},
        {"runs": ""},
    ):
        checked = arithmetic.check(value("7.9", **{"items": "30", "runs": "5", **over}), {})
        assert checked.possible is None, over


# -- deviations


def run_of(name: str, label: str) -> RunConfig:
    experiment = read_experiment(name, CONFIG)
    assert isinstance(experiment, Experiment)
    return next(iter(experiment.runs[label].values()))


TOY = FollowedPaper(name="toy", version="v1")


def papers(tmp_path: Path, settings: list[tuple[str, str, str]]) -> Path:
    """A configuration folder whose only paper prints these settings: setting, key, value."""
    made = tmp_path / "published"
    made.mkdir(parents=True)
    (made / "papers.csv").write_text(
        "paper,arxiv,version,date,title,note\ntoy,,v1,,A toy,\ntoy,,v2,,A toy,\n"
    )
    with (made / "hyper.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(published.Hyper.model_fields)
        head = list(published.Hyper.model_fields)
        for setting, key, text in settings:
            cells = {"paper": "toy", "version": "v1", "part": "train", "setting": setting}
            cells |= {"key": key, "value": text, "source": "Table 1", "how": "text"}
            writer.writerow([cells.get(name, "") for name in head])
    return tmp_path


def test_a_run_equal_to_its_paper_deviates_nowhere_and_a_changed_key_appears(
    tmp_path: Path,
) -> None:
    run = run_of("ccpo_v5", "gspo_ccpo")
    own = following.settings(run)
    texts = [("", key, as_written(setting)) for key, setting in own.items()]
    folder = papers(tmp_path, texts)
    assert following.deviations(run, following.followed(TOY, folder)) == ()
    for key, changed in {
        "lr": 2e-6,
        "period": 7,
        "steps": 389,
        "dtype": "float32",
        "order": "simultaneous",
        "weight_decay": 0.0,
    }.items():
        other = run.model_copy(update={"train": run.train.model_copy(update={key: changed})})
        (found,) = following.deviations(other, following.followed(TOY, folder))
        assert (found.key, found.ours) == (f"train.{key}", changed)
        assert found.published == as_written(own[f"train.{key}"])
        assert found.source == "Table 1"


def as_written(setting: object) -> str:
    """A setting as hyper.csv writes it."""
    return setting if isinstance(setting, str) else json.dumps(setting)


@pytest.mark.parametrize(
    ("setting", "key", "text", "deviates"),
    [
        ("", "train.lr", "0.000001", False),
        ("", "train.lr", "1e-5", True),
        ("", "train.lr", "1e-5|1e-6", False),
        ("", "sampling.max_tokens", "[4096, 6144]", False),
        ("", "sampling.max_tokens", "[6144, 4096]", True),
        ("", "sampling.max_tokens", "4096", True),
        ("", "train.fanout", "16", True),
        ("", "advantage.per_token", "false", False),
        ("", "advantage.per_token", "0", True),
        ("", "objective.kl_target", "none", False),
        ("", "not.ours", "none", False),
        ("", "not.ours", "1", True),
        ("credit.name=ccpo", "train.period", "9", True),
        ("credit.name=sepo", "train.period", "9", False),
        ("credit.name=ccpo;policy=shared", "train.period", "9", False),
        ("credit.name=ccpo;policy=separate", "train.period", "9", True),
        ("train.period=10", "train.period", "9", True),
        ("", "train.epochs", "5", True),
        ("", "train.warmup_share", "0", False),
        ("", "train.stop", "updates", True),
        ("", "grid.seed", "none", False),
    ],
)
def test_settings_are_compared_by_value_where_they_apply(
    tmp_path: Path, setting: str, key: str, text: str, deviates: bool
) -> None:
    folder = papers(tmp_path, [(setting, key, text)])
    found = following.deviations(run_of("ccpo_v5", "gspo_ccpo"), following.followed(TOY, folder))
    assert [row.key for row in found] == ([key] if deviates else [])
    if key == "not.ours" and deviates:
        assert not found[0].settable


def test_one_number_for_every_message_is_published_as_one(tmp_path: Path) -> None:
    run = run_of("c3_duo_math", "c3")
    folder = papers(tmp_path, [("", "sampling.max_tokens", "512"), ("", "train.fanout", "2")])
    assert [row.key for row in following.deviations(run, following.followed(TOY, folder))] == [
        "train.fanout"
    ]


def test_the_evaluation_and_the_seeds_are_compared_where_they_are_given() -> None:
    experiment = read_experiment("ccpo_v5", CONFIG)
    assert isinstance(experiment, Experiment)
    assert experiment.paper is not None
    run = experiment.runs["gspo_ccpo"][0]
    paper = following.followed(experiment.paper, CONFIG)
    alone = following.deviations(run, paper)
    whole = following.deviations(run, paper, experiment.primary, [0, 1])
    assert {row.key for row in whole} - {row.key for row in alone} == {
        "evaluate.top_p",
        "grid.seed",
    }
    changed = {"primary": "greedy", "tasks": 9, "also": experiment.primary.also[:2]}
    other = following.deviations(run, paper, experiment.primary.model_copy(update=changed))
    assert {row.key for row in other} - {row.key for row in whole} == {
        "evaluate.temperature",
        "evaluate.benchmarks",
        "evaluate.tasks",
    }


def test_a_paper_that_cannot_be_followed_is_refused(tmp_path: Path) -> None:
    folder = papers(tmp_path, [("", "train.lr", "1")])
    with pytest.raises(ValueError, match=r"paper 'toy v3' is not in .* Did you mean 'toy v"):
        following.followed(FollowedPaper(name="toy", version="v3"), folder)
    with pytest.raises(ValueError, match=r"has no settings of it.*Remedy: name one of toy v1"):
        following.followed(FollowedPaper(name="toy", version="v2"), folder)


def config_with(tmp_path: Path, paper: str) -> Path:
    """The configuration folder, whose c3_duo_math says this about its paper."""
    folder = Path(shutil.copytree(CONFIG, tmp_path / "config", ignore=lambda *_: ["base_models"]))
    path = folder / "experiments" / "c3_duo_math.yaml"
    lines = [line for line in path.read_text().splitlines() if not line.startswith("paper:")]
    path.write_text("\n".join([paper, *lines]) + "\n")
    return folder


def test_the_paper_is_no_part_of_what_a_run_is(tmp_path: Path) -> None:
    followed = read_experiment("c3_duo_math", CONFIG)
    free = read_experiment("c3_duo_math", config_with(tmp_path, ""))
    assert isinstance(followed, Experiment)
    assert isinstance(free, Experiment)
    assert followed.runs == free.runs
    assert followed.paper == FollowedPaper(name="c3", version="v2")
    assert free.deviations == {}
    planned = followed.manifest()
    assert planned.paper == followed.paper
    assert planned.condition("mappo").deviations == followed.deviations["mappo"]
    of_mappo = {row.key for row in planned.condition("mappo").deviations}
    assert "critic.context_tokens" in of_mappo
    assert "critic.model" not in of_mappo


@pytest.mark.parametrize(
    ("paper", "complaint"),
    [
        ("paper: {name: c4, version: v2}", r"c3_duo_math.yaml: paper 'c4 v2' is not in"),
        ("paper: {name: c3}", r"c3_duo_math.yaml: paper.version: Field required"),
        ("paper: {name: c3, version: 0.2}", r"paper.version: Input should be a valid string"),
        ("paper: {name: c3, version: v2, table: 4}", r"unknown key 'paper.table'"),
        ("paper: {name: ccpo, version: v2}", r"paper 'ccpo v2': .* has no settings of it"),
    ],
)
def test_a_wrong_paper_is_refused_in_its_experiment(
    tmp_path: Path, paper: str, complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        read_experiment("c3_duo_math", config_with(tmp_path, paper))


def test_a_deviation_is_said_once_with_those_that_have_it() -> None:
    one, two, three = (
        Deviation(
            key=key, ours=1, settable=key != "k3", published="2|3", source="s", how="code", note="n"
        )
        for key in ("k1", "k2", "k3")
    )
    by_label = {"a": (one, two), "b": (two,), "c": (two, three, one)}
    assert by_deviation(by_label) == [(two, ("all",)), (one, ("a", "c")), (three, ("c",))]
    assert following.lines(TOY, by_label) == [
        "follows toy v1, except in 3 settings",
        "  all: k2: 1; published 2 or 3 (s, code; n)",
        "  a, c: k1: 1; published 2 or 3 (s, code; n)",
        "  c: k3: no such setting here; published 2 or 3 (s, code; n)",
    ]


# -- published beside reproduced


def test_the_interval_of_a_difference_is_welchs() -> None:
    """Against scipy's, from samples that have these means and standard deviations."""
    rng = np.random.default_rng(0)
    ours = rng.normal(0.80, 0.02, 8)
    theirs = rng.normal(0, 1, 5)
    theirs = 82.8 + 0.6 * (theirs - theirs.mean()) / theirs.std(ddof=1)
    half = scipy.stats.sem(ours) * scipy.stats.t.ppf(0.975, 7)
    row = Interval(mean=ours.mean(), ci_low=ours.mean() - half, ci_high=ours.mean() + half, n=8)
    printed = value("82.8", spread="0.6", spread_kind="sd over seeds", runs="5")
    gap, low, high = reproduced.difference(row, printed)
    expected = scipy.stats.ttest_ind(100 * ours, theirs, equal_var=False)
    interval = expected.confidence_interval(0.95)
    assert gap == pytest.approx(100 * ours.mean() - 82.8, abs=1e-9)
    assert (low, high) == pytest.approx((interval.low, interval.high), abs=1e-8)


@pytest.mark.parametrize(
    ("row", "over"),
    [
        (Interval(mean=0.5, ci_low=None, ci_high=None, n=1), {}),
        (Interval(mean=0.5, ci_low=0.4, ci_high=0.6, n=3), {"spread": "", "spread_kind": ""}),
        (Interval(mean=0.5, ci_low=0.4, ci_high=0.6, n=3), {"runs": ""}),
        (Interval(mean=0.5, ci_low=0.4, ci_high=0.6, n=3), {"spread_kind": "range"}),
    ],
)
def test_without_a_spread_on_both_sides_there_is_no_interval(
    row: Interval, over: dict[str, str]
) -> None:
    cells = {"spread": "0.6", "spread_kind": "sd over seeds", "runs": "5", **over}
    gap, low, high = reproduced.difference(row, value("82.8", **cells))
    assert gap == pytest.approx(-32.8)
    assert low is None
    assert high is None


def test_an_average_is_over_benchmarks_first_then_over_replicates() -> None:
    rows = [{0: 0.2, 1: 0.4, 2: 0.9}, {0: 0.4, 1: 0.8, 2: 0.1}]
    one = reproduced.average(rows, dict.fromkeys(range(3), "hub"))
    means = [0.3, 0.6, 0.5]
    low, high = scipy.stats.t.interval(0.95, 2, np.mean(means), scipy.stats.sem(means))
    assert (one.mean, one.ci_low, one.ci_high, one.n) == pytest.approx(
        (np.mean(means), low, high, 3)
    )
    two = reproduced.average(rows, {0: "a", 1: "a", 2: "b"})
    assert (two.mean, two.n) == pytest.approx((np.mean([0.45, 0.5]), 2))
    only = reproduced.average([{0: 0.2}], {0: "a"})
    assert (only.mean, only.ci_low, only.n) == (0.2, None, 1)


PRINTED = [
    {"key": "a", "preset": "ccpo@v5", "value": "70.0", "spread": "1.0", "runs": "5"},
    {"key": "b", "preset": "untrained", "value": "30", "method": "SFT"},
    {"key": "c", "preset": "sepo@v5", "value": "1", "method": "SEPO"},
    {"key": "d", "value": "1", "method": "CORY"},
    {"key": "e", "preset": "ccpo@v5", "value": "1", "benchmark": "math500"},
    {"key": "f", "preset": "ccpo@v5", "value": "1", "temperature": "0.3"},
    {"key": "g", "preset": "ccpo@v5", "value": "1", "metric": "fidelity", "unit": "Spearman"},
    {"key": "h", "preset": "ccpo@v5", "value": "1", "team": "vote"},
    {"key": "i", "preset": "ccpo@v5", "value": "1", "model_id": "org/other"},
    {"key": "l", "preset": "ccpo@v5", "value": "1", "model_id": ""},
    {"key": "j", "value": "41", "unit": "points", "relation": "difference", "of": "a b"},
    {"key": "k", "value": "1", "unit": "points", "relation": "difference", "of": "a c"},
]


@pytest.fixture
def follower(tmp_path: Path) -> dict[str, Path]:
    """An experiment of invented numbers (test data) that follows an invented paper: condition
    `other` follows preset ccpo@v5."""
    experiment, runs = made_up(tmp_path)
    planned = manifest.read_training(experiment)
    off = Deviation(
        key="train.lr", ours=0.1, settable=True, published="1|2", source="T1", how="text", note=""
    )
    conditions = [
        c.model_copy(
            update={
                "preset": "ccpo@v5" * (c.label == "other"),
                "deviations": (off,),
                "config": {"model": {"name": "tiny", "spec": {"source": "hub", "id": "org/tiny"}}},
            }
        )
        for c in planned.conditions
    ]
    planned = planned.model_copy(update={"conditions": tuple(conditions), "paper": TOY})
    planned.write(experiment)
    stats = tmp_path / "stats.json"
    analyse(experiment=experiment, runs=runs, stats=stats)
    folder = papers(tmp_path / "config", [("", "train.lr", "1")]) / "published"
    (folder / "values").mkdir()
    defaults = {"paper": "toy", "version": "v1", "source": "T1", "how": "text", "unit": "%"}
    defaults |= {"metric": "accuracy", "benchmark": "arithmetic", "temperature": "0"}
    defaults |= {"team": "think_solve", "model_id": "org/tiny"}
    with (folder / "values" / "toy.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(Value.model_fields)
        for row in PRINTED:
            kind = {"spread_kind": "sd over seeds"} if "spread" in row else {}
            cells = {**defaults, "method": f"m{row['key']}", **kind, **row}
            writer.writerow([cells.get(name, "") for name in Value.model_fields])
    (folder / "missing.csv").write_text(
        "paper,version,what,source,reason\ntoy,v1,Table 9,T9,it was | torn out & lost\n"
    )
    (folder / "claims.csv").write_text(",".join(published.Claim.model_fields) + "\n")
    return {"experiment": experiment, "stats": stats, "folder": folder, "runs": runs}


def test_each_printed_value_is_reproduced_or_it_is_said_why_not(
    follower: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "tables"
    reproduced.write(follower["experiment"], follower["stats"], out, follower["folder"])
    rows = pd.read_csv(out / "published.csv", dtype={"published": str}).set_index("method")
    measured = schema.read_json(follower["stats"])["conditions"]["other"]["accuracy"]["arithmetic"]
    mean = measured["greedy"]["factual"]["mean"]
    assert rows.loc["ma", "reproduced"] == pytest.approx(100 * mean)
    assert rows.loc["ma", "difference"] == pytest.approx(100 * mean - 70)
    assert rows.loc["ma", "difference_low"] < rows.loc["ma", "difference"]
    assert rows.loc["ma", ["published", "status", "condition"]].to_list() == [
        "70.0",
        "reproduced",
        "other",
    ]
    untrained = schema.read_json(follower["stats"])["conditions"]["plain"]["accuracy"]
    assert rows.loc["SFT", "reproduced"] == pytest.approx(
        100 * untrained["arithmetic"]["greedy"]["untrained"]["mean"]
    )
    assert rows.loc["SFT", "status"] == "reproduced, without an interval: not both have a spread"
    why = rows.status.to_dict()
    assert (
        why["SEPO"] == "not run: no condition has preset sepo@v5, team think_solve, model org/tiny"
    )
    assert why["CORY"] == "not run: CORY has no preset"
    assert why["me"] == "not run: not evaluated on math500"
    assert why["mf"] == "not run: not evaluated at temperature 0.3"
    assert why["mg"] == "not run: fidelity is not among what this table compares"
    assert why["mh"] == "not run: no condition has preset ccpo@v5, team vote, model org/tiny"
    assert why["ml"] == "not run: its model is not named"
    assert why["mi"].endswith("team think_solve, model org/other")
    assert rows.reproduced.notna().sum() == 3
    assert why["mk"] == why["SEPO"]
    by_seed = [
        statistics.read_training(follower["stats"]).conditions[label].under("greedy")[kind].by_seed
        for label, kind in (("other", "factual"), ("plain", "untrained"))
    ]
    gaps = [100 * (by_seed[0][seed] - by_seed[1][seed]) for seed in range(3)]
    low, high = scipy.stats.t.interval(0.95, 2, np.mean(gaps), scipy.stats.sem(gaps))
    columns = ["reproduced", "ci_low", "ci_high", "difference"]
    assert rows.loc["mj", columns].to_list() == pytest.approx(
        [np.mean(gaps), low, high, np.mean(gaps) - 41]
    )
    assert rows.loc["mj", "condition"] == "other - plain"
    lost = rows[rows.metric == "Table 9"]
    assert lost.status.to_list() == ["not recovered: it was | torn out & lost"]


def test_the_tables_are_written_in_three_forms_with_passports(
    follower: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "tables"
    reproduced.write(follower["experiment"], follower["stats"], out, follower["folder"])
    lines = (out / "published.md").read_text().splitlines()
    assert len(lines) == 2 + len(PRINTED) + 1
    bars = {len(re.findall(r"(?<!\\)\|", line)) for line in lines}
    assert bars == {len(reproduced.SHOWN) + 1}
    text = (out / "published.tex").read_text()
    assert r"\toprule" in text
    assert r"70.0 ± 1.0 \%" in text
    assert r"torn out \& lost" in text
    (row,) = csv.DictReader((out / "deviations.csv").read_text().splitlines())
    assert (row["conditions"], row["key"], row["ours"]) == ("all", "train.lr", "0.1")
    assert row["published"] == "1 or 2"
    for name in ("published", "deviations"):
        for kind in ("csv", "md", "tex"):
            inputs = lineage.read_passport(out / f"{name}.{kind}").inputs
            assert any(path.endswith("values/toy.csv") for path in inputs)


def test_the_page_links_to_them_if_it_follows_a_paper(
    follower: dict[str, Path], tmp_path: Path
) -> None:
    beside = tmp_path / "tables"
    reproduced.write(follower["experiment"], follower["stats"], beside, follower["folder"])
    drawn = [tmp_path / f"{name}.svg" for name in FIGURES[:1]]
    draw.draw(FIGURES[0], follower["stats"], drawn[0], drawn[0].with_suffix(".csv"))
    table = tmp_path / "main.csv"
    tables.write(follower["stats"], table)
    page = tmp_path / "report.html"
    parts = (follower["stats"], follower["experiment"], drawn, table, follower["runs"], None)
    report.write(report.Files(*parts, beside / "published.csv"), page)
    for target in re.findall(r"href='(tables/[^']+)'", page.read_text()):
        assert (tmp_path / target).is_file()
    assert page.read_text().count("href='tables/") == 2
    assert "tables/published.csv" in lineage.read_passport(page).inputs


def test_an_experiment_that_follows_no_paper_has_no_such_table(tmp_path: Path) -> None:
    experiment, runs = made_up(tmp_path)
    stats = tmp_path / "stats.json"
    analyse(experiment=experiment, runs=runs, stats=stats)
    with pytest.raises(ValueError, match=r"made_up follows no paper\. Remedy: say which"):
        reproduced.write(experiment, stats, tmp_path / "tables", CONFIG / "published")


def test_the_verbs_say_what_is_known_and_how_an_experiment_departs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    main.published("ccpo", tmp_path / "values.csv")
    out = capsys.readouterr().out
    assert "ccpo v1: 11 values" in out
    assert "c3 v2" not in out
    assert len((tmp_path / "values.csv").read_text().splitlines()) == 12
    main.check("c3_duo_math")
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("follows c3 v2, except in ") for line in lines)
    assert "  all: sampling.top_p: 1.0; published 0.8 (Tables 3 and 4)" in lines
    main.check("smoke")
    assert "follows" not in capsys.readouterr().out
