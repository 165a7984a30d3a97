"""Test items among training items: what must be found, what must not, known truths of public sets,
and the gate before training.
"""

from __future__ import annotations

import csv
import gzip
import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, make_files, run_data
from pydantic import ValidationError

from ccpo import benchmark, lineage, schema
from ccpo.audit import audit
from ccpo.benchmark import Task
from ccpo.config import Choice, RunConfig, canonical, read_run
from ccpo.data import door, overlap
from ccpo.data.overlap import Overlap, normalised, overlaps
from ccpo.data.tables import read_tasks

MIRROR = os.environ.get("CCPO_DATA_MIRROR")
real = pytest.mark.skipif(
    not MIRROR, reason="needs the raw files: set CCPO_DATA_MIRROR to a folder that has them"
)


def asked(*questions: str, origin: str = "", name: str = "") -> list[Task]:
    return [Task(f"{name}{i}", q, "1", "number", origin=origin) for i, q in enumerate(questions)]


def how(a: str, b: str) -> str:
    """The way in which two questions are one, "" if they are not."""
    [*found] = {o.how for o in overlaps(asked(a), asked(b))}
    return found[0] if found else ""


def test_normalising_takes_typesetting_away_and_nothing_else() -> None:
    """The rule as the list of known overlaps words it, by hand."""
    assert (
        normalised("Find  $\\left( x\\,+\\;1 \\right)$\n\\quad for ~ $x=\\dfrac{1}{2}$.")
        == "find(x+1)forx=\\frac{1}{2}"
    )
    assert normalised("ＡＢ　＝ ２？") == "ab=2"  # full-width forms: NFKC
    # commands that only begin alike
    assert (
        normalised("\\leftarrow \\rightarrow \\quadratic") == "\\leftarrow\\rightarrow\\quadratic"
    )
    assert normalised("What is $5!$") == "whatis5!"  # a factorial is an operator
    assert normalised("x \u2212 1") == "x-1"


HITS = [
    ("exact", "Tom has 3 pens.", "Tom has 3 pens."),
    ("normalised", "Factor $z^4+z^2+1$.", "factor z^4 + z^2 + 1"),
    ("normalised", "Find $\\dfrac{1}{2}+x$", "Find $\\frac{1}{2} + x$."),
    ("normalised", "今有3只鸡，5只鸭。一共多少只？", "今有 3 只鸡，5 只鸭。一共多少只?"),
    (
        "near",
        "How many integers are there in the solution set of $|x-2| \\leq 5.6$?",
        "How many integers are in the solution set of $|x-2|\\leq5.6$ ?",
    ),
    ("near", "What is the value of $\\frac{1}{2}+\\sqrt{3}$?", "Compute $\\frac12+\\sqrt3$."),
    (
        "near",
        "Amanda received $50 as a gift. She buys two tapes that cost $9 each and a headphone "
        "that costs $25. How much will she have left?",
        "Josie was given $50 as a gift. She buys two tapes that cost $9 each and a headphone "
        "that costs $25. How much will she have left?",
    ),
    (
        "near",
        "小明有30元，买一本书用去12元，又买一支笔用去5元。他还剩多少元？",
        "小红有30元，买一本书用去12元，又买一支笔用去5元。他还剩多少元？",
    ),
]
MISSES = [
    ("Factor z^4+z^2+1", "Factor z^4-z^2+1"),
    (
        "Tom has 3 boxes with 4 pens each. How many pens?",
        "Tom has 3 boxes with 5 pens each. How many pens?",
    ),
    (
        "If $(x+2)(x-3)=14$, find the product of the possible values of $x$.",
        "If $(x+2)(x-3)=14$, find the sum of the possible values of $x$.",
    ),
    ("Solve $2(x+3)=7$ for $x$.", "Solve $2x+3=7$ for $x$."),
    ("Simplify $\\sqrt{2}x$.", "Simplify $\\sqrt{2x}$."),
    ("Compute $\\sin 30$.", "Compute $\\cos 30$."),
    (
        "In triangle $PQR$, $PR = 6$. What is the area?",
        "In triangle $PQR$, $QR = 6$. What is the area?",
    ),
    (
        "王叔叔家有白兔70只，黑兔20只，灰兔40只。白兔和黑兔共有多少只？",
        "王叔叔家有白兔70只，黑兔20只，灰兔40只。黑兔比白兔少多少只？",
    ),
    (
        "苗苗家里有50个苹果，有30个梨。梨比苹果少多少个？",
        "苗苗家里有50个苹果，有30个梨。苹果比梨少多少个？",
    ),
    (
        "How many ways are there to put 5 balls in 2 boxes if the balls are distinguishable but "
        "the boxes are not?",
        "How many ways are there to put 5 balls in 2 boxes if the balls are not distinguishable "
        "and neither are the boxes?",
    ),
    (
        "Write a function to find the largest number in a list.",
        "Write a function to find the smallest number in a list.",
    ),
    ("Compute $5!$", "Compute $5$"),
    ("Compute $a b+c d$.", "Compute $a+b c d$."),
    (
        "Let $y=\\sin x$ for real numbers between zero and seven, and plot the curve on squared "
        "paper. What is $y$ at $3$?",
        "Let $y=\\cos x$ for real numbers between zero and seven, and plot the curve on squared "
        "paper. What is $y$ at $3$?",
    ),
    (
        "In right triangle $PQR$, we have $\\angle Q = \\angle R$ and $PR = 6\\sqrt{2}$.  What "
        "is the area of $\\triangle PQR$?",
        "In right triangle $PQR$, we have $\\angle Q = \\angle R$ and $QR = 6\\sqrt{2}$.  What "
        "is the area of $\\triangle PQR$?",
    ),
    (  # no number, no symbol: nothing but words, and one of them turns the question
        "All bakers of the old town by the river are rich and own a white house with a garden. "
        "Some teachers bake. Who owns a garden?",
        "No bakers of the old town by the river are rich and own a white house with a garden. "
        "Some teachers bake. Who owns a garden?",
    ),
    ("", "x"),
]


@pytest.mark.parametrize(("way", "a", "b"), HITS)
def test_one_item_in_two_wordings_is_found(way: str, a: str, b: str) -> None:
    assert how(a, b) == how(b, a) == way


@pytest.mark.parametrize(("a", "b"), MISSES)
def test_another_item_in_the_same_words_is_not(a: str, b: str) -> None:
    assert how(a, b) == how(b, a) == ""


def test_questions_on_one_passage_are_neighbours_not_copies() -> None:
    """Even if both ask "which of these is true": their options, at the end, differ. And one end
    does not make two passages one.
    """
    passage = (
        "In 1998 the town of Ember had 3 mills. "
        + "Every baker bought flour from the mill that was nearest to his own house. " * 12
    )
    ask = "\nWhich of these is true?\n"
    first = (
        passage
        + ask
        + "Some bakers share one mill. No mill was ever closed. Flour had become cheap. Roads "
        "were dry in autumn."
    )
    second = (
        passage
        + ask
        + "A mill had burnt down. Bakers own horses. Houses were sold each spring. Bread tastes "
        "of salt."
    )
    assert how(first, second) == ""
    assert how(first, first.replace("Every baker bought", "Each baker bought")) == "near"
    other = (
        "In 1998 the town of Ember had 3 mills. "
        + "Later a flood came down and swept across the fields where sheep grazed. " * 12
    )
    end = (
        "Years afterwards an old miller told this story to travellers, who wrote all of it down, "
        "word after word, line by line " * 2
    )
    assert how(passage + end + ask, other + end + ask) == ""


def test_origins_are_found_beside_the_text() -> None:
    train = [
        Task("a", "Old text of 7", "1", "code", origin="mbpp/7"),
        Task("b", "Text of 8", "1", "code", origin="mbpp/8"),
        Task("c", "X", "1", "code"),
    ]
    test = [
        Task("p", "New words", "1", "code", origin="mbpp/7"),
        Task("q", "Text of 8", "1", "code", origin="mbpp/8"),
        Task("r", "Y", "1", "code"),
    ]
    assert overlaps(train, test) == [
        Overlap("a", "p", "origin"),
        Overlap("b", "q", "origin"),
        Overlap("b", "q", "exact"),
    ]
    assert overlaps(train, [Task("r", "Z", "1", "code")]) == []  # no origin is no common origin


def test_a_join_finds_what_comparing_every_pair_finds() -> None:
    """Small alphabets, so that all four ways occur; an independent pass over all pairs."""
    rng = np.random.default_rng(0)
    parts = (
        ["Ann", "Bob", "Ann Bob"],
        [" has ", "  HAS "],
        ["2", "3"],
        [" red pens and blue cups on a small old table"],
        [".", ""],
    )
    train, test = (
        [
            Task(
                str(i),
                "".join(map(str, map(rng.choice, parts))),
                "1",
                "number",
                origin=str(rng.choice(["", "x", "y"])),
            )
            for i in range(60)
        ]
        for _ in range(2)
    )
    wanted = set()
    for a in train:
        for b in test:
            if a.origin and a.origin == b.origin:
                wanted.add((a.task_id, b.task_id, "origin"))
            if found := how(a.question, b.question):
                wanted.add((a.task_id, b.task_id, found))
    got = [(o.train_id, o.test_id, o.how) for o in overlaps(train, test)]
    assert set(got) == wanted
    assert len(got) == len(set(got))
    assert {w for _, _, w in wanted} == {
        "origin",
        "exact",
        "normalised",
    }  # who has the pens is what is asked: no near one


def test_a_whole_set_against_a_whole_set_takes_seconds() -> None:
    rng = np.random.default_rng(0)
    words = [f"word{chr(97 + i)}{chr(97 + j)}" for i in range(20) for j in range(20)]

    def made(n: int, name: str) -> list[Task]:
        texts = (
            " ".join(rng.choice(words, 45)) + f" {rng.integers(9)} and {rng.integers(9)}. How many?"
            for _ in range(n)
        )
        return asked(*texts, name=name)

    train = made(7500, "a")
    test = made(1319, "b")
    start = time.process_time()
    assert overlaps(train, test) == []
    assert time.process_time() - start < 30  # 2 s on a processor of 2023


# ------------------------------------------------------------------------------------------------
# the public sets


def lines(path: str, key: str) -> list[Task]:
    rows = (Path(str(MIRROR)) / path).read_text().split("\n")
    return asked(*(json.loads(row)[key] for row in rows if row.strip()))


@real
def test_known_overlaps_of_public_sets() -> None:
    """Counts and rows as found once by exact matching of normalised questions; what `near` adds was
    read by a person.
    """
    gsm8k = {
        split: benchmark.load("gsm8k").tasks(
            split, {split: Path(str(MIRROR)) / f"gsm8k/{split}.jsonl"}
        )
        for split in ("train", "test")
    }
    assert overlaps(gsm8k["train"], gsm8k["test"]) == []
    found = overlaps(lines("cmath/cmath_dev.jsonl", "input"), lines("cmath/test.jsonl", "question"))
    assert sorted(int(o.test_id) for o in found) == [318, 798, 989]
    mbpp = [
        json.loads(row)
        for row in (Path(str(MIRROR)) / "mbpp/mbpp.jsonl").read_text().split("\n")
        if row.strip()
    ]
    train, test = (
        [
            Task(str(r["task_id"]), r["text"], "1", "code")
            for r in mbpp
            if low <= r["task_id"] <= high
        ]
        for low, high in ((601, 974), (11, 510))
    )
    assert {(o.train_id, o.test_id) for o in overlaps(train, test)} == {
        ("872", "216"),
        ("602", "217"),
        ("704", "248"),
    }


@real
def test_math_against_math500_and_mbpp_against_its_edited_copy() -> None:
    prompts = pd.read_parquet(Path(str(MIRROR)) / "math_train" / "train.parquet").prompt
    suffix = " Let's think step by step and output the final answer within \\boxed{}."
    train = asked(*(p[0]["content"].removesuffix(suffix) for p in prompts))
    found = overlaps(train, lines("math500/test.jsonl", "problem"))
    # "How many integers are [there] in the solution set of |x-2| <= 5.6"; "xy=24, xz=48, yz=72:
    # what is the value of [find] x+y+z"
    assert found == [Overlap("1509", "237", "near"), Overlap("304", "386", "near")]
    mbpp = [
        json.loads(row)
        for row in (Path(str(MIRROR)) / "mbpp/mbpp.jsonl").read_text().split("\n")
        if row.strip()
    ]
    learnt = [
        Task(str(r["task_id"]), r["text"], "1", "code", origin=f"mbpp/{r['task_id']}")
        for r in mbpp
        if r["task_id"] >= 601
    ]
    text = gzip.decompress(
        (Path(str(MIRROR)) / "mbpp_plus" / "MbppPlus.jsonl.gz").read_bytes()
    ).decode()
    plus = [json.loads(row) for row in text.split("\n") if row.strip()]
    copies = [
        Task(
            r["task_id"],
            r["prompt"].strip().strip('"').split("\nassert")[0].strip(),
            "1",
            "code",
            origin=r["task_id"].lower(),
        )
        for r in plus
    ]
    both = overlaps(learnt, copies)
    assert len({o.test_id for o in both if o.how == "origin"}) == 108
    assert len({o.test_id for o in both if o.how in ("exact", "normalised")}) == 55


# ------------------------------------------------------------------------------------------------
# the gate


@pytest.fixture
def dirty(tmp_path: Path, tiny: Path) -> dict[str, Path]:
    """A training run whose table has three training items among its test items."""
    files = make_files(tmp_path, tiny)
    train, test = (read_tasks(files["tasks"], split) for split in ("train", "test"))
    moved = [Task(f"test-{t.task_id}", f"{t.question} ", t.truth, t.kind) for t in train[:3]]
    rows = [
        {"split": split, **{c: getattr(t, c) for c in schema.TABLES["tasks"][1] if c != "split"}}
        for split, tasks in (("train", train), ("test", [*test, *moved]))
        for t in tasks
    ]
    schema.write_table(files["tasks"], schema.rows_to_table("tasks", rows))
    lineage.write_passport(files["tasks"], lineage.begin([]))
    return files


def configured(files: dict[str, Path], **over: Any) -> RunConfig:
    run = RunConfig.model_validate(run_data(**over))
    schema.write_text(files["config"], canonical(run.model_dump(mode="json")))
    return read_run(files["config"])


def held_out(files: dict[str, Path], *others: Path) -> Path:
    """What is found of the own test split, and of others', among the training items."""
    out = files["tasks"].with_suffix(".held_out.json")
    overlap.hold_out(files["tasks"], [files["tasks"], *others], out)
    return out


def verb(files: dict[str, Path]) -> subprocess.CompletedProcess[str]:
    named = {**files, "held-out": held_out(files)}
    command = [
        sys.executable,
        "-m",
        "ccpo",
        "train",
        *(x for k, v in named.items() for x in (f"--{k}", str(v))),
    ]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_training_stops_before_any_model_is_loaded(dirty: dict[str, Path]) -> None:
    run = configured(dirty)
    ids = [t.task_id for t in read_tasks(dirty["tasks"], "train")[:3]]
    empty = dirty["config"].parent / "no model"
    empty.mkdir()
    done = verb({**dirty, "model": empty})
    assert done.returncode == 1
    assert done.stderr == (
        f"ccpo train: {run.id}: 3 of 32 training items of arithmetic are test items: tasks 3 "
        "normalised. "
        + ", ".join(f"{i} = tasks test-{i} (normalised)" for i in ids)
        + ". Remedy: `overlap: drop` in the run leaves these training items out; "
        '`overlap: {accept: "<why, in words>"}` trains on them.\n'
    )


def test_dropped_items_are_not_trained_on_and_accepted_ones_are(
    dirty: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    ids = {t.task_id for t in read_tasks(dirty["tasks"], "train")[:3]}
    over: dict[str, Any] = {
        "train": {"steps": 2, "tasks": 29, "minibatches": 1}
    }  # every item that is left, in each update
    configured(dirty, overlap="drop", **over)
    done = verb(dirty)
    assert done.returncode == 0, done.stderr
    assert "They are left out, 29 remain" in done.stderr
    seen = {
        r["task_id"]
        for r in schema.read_table(dirty["out"] / "credit.parquet", "credit").to_pylist()
    }
    assert seen == {t.task_id for t in read_tasks(dirty["tasks"], "train")} - ids
    assert set(lineage.read_provenance(dirty["out"]).trained.left_out) == ids
    run = configured(dirty, overlap={"accept": "these sums are trivial"})
    with caplog.at_level(logging.WARNING, "ccpo"):
        assert overlap.gate(run, held_out(dirty)) == frozenset()
    assert "3 of 32 training items" in caplog.text
    assert "Accepted: these sums are trivial" in caplog.text
    # learns nothing
    assert (
        overlap.gate(configured(dirty, train={"steps": 0}, credit="none"), held_out(dirty))
        == frozenset()
    )


def test_too_few_items_after_dropping_say_so(dirty: dict[str, Path]) -> None:
    configured(dirty, overlap="drop", train={"tasks": 30})
    done = verb(dirty)
    assert done.returncode == 1
    assert (
        "has 29 train tasks (3 are left out as test items), an update needs train.tasks=30"
        in done.stderr
    )


def one_test_task(path: Path, question: str) -> Path:
    """A task table with a single test task."""
    row = {
        "split": "test",
        "task_id": "x",
        "question": question,
        "truth": "1",
        "kind": "number",
        "tolerance": 0.0,
        "origin": "",
        "defect": "",
    }
    schema.write_table(path, schema.rows_to_table("tasks", [row]))
    return path


def test_every_test_set_that_is_known_is_held_out(files: dict[str, Path], tmp_path: Path) -> None:
    """The own test split is clean here; that of a further set is not."""
    run = configured(files)
    first = read_tasks(files["tasks"], "train")[5]
    other = one_test_task(tmp_path / "other.parquet", first.question)
    with pytest.raises(ValueError, match=r"1 of 32 training items .* other 1 exact\. \S+ = other"):
        overlap.gate(run, held_out(files, other))
    assert overlap.gate(run, held_out(files)) == frozenset()
    passport = lineage.read_passport(held_out(files, other))
    assert set(passport.inputs) == {"tasks.parquet", "other.parquet"}


def test_test_sets_do_not_depend_on_what_is_evaluated() -> None:
    """Published ones that answer in the same form; of a procedural benchmark its own alone."""
    own = RunConfig.model_validate(run_data()).benchmark
    assert overlap.test_sets(own) == [own]
    of = {
        name: [c.name for c in overlap.test_sets(Choice(name=name))]
        for name in ("gsm8k", "math_train", "mbpp")
    }
    published = {
        "aime24",
        "aime25",
        "amc23",
        "cmath",
        "gaokao2023en",
        "gsm8k",
        "logiqa",
        "math500",
        "minerva_math",
    }
    assert of["gsm8k"][0] == "gsm8k"
    assert set(of["gsm8k"]) == set(of["math_train"]) == published
    assert set(of["mbpp"]) == {"mbpp", "mbpp_plus", "humaneval"}


def test_a_test_set_that_is_younger_than_the_training_is_refused(
    files: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What it left out is no reason; nor what it accepts, nor where it learnt nothing."""
    run = configured(files)
    question = read_tasks(files["tasks"], "train")[5]
    other = one_test_task(tmp_path / "other.parquet", question.question)
    with pytest.raises(ValueError, match=r"1 of the items it was trained on .* other 1 exact"):
        overlap.refuse_trained_on(run, files["tasks"], [], [other])
    overlap.refuse_trained_on(run, files["tasks"], [question.task_id], [other])
    overlap.refuse_trained_on(run, files["tasks"], [], [files["tasks"]])
    untrained = configured(files, train={"steps": 0}, credit="none")
    overlap.refuse_trained_on(untrained, files["tasks"], [], [other])
    accepting = configured(files, overlap={"accept": "these sums are trivial"})
    with caplog.at_level(logging.WARNING, "ccpo"):
        overlap.refuse_trained_on(accepting, files["tasks"], [], [other])
    assert "Accepted: these sums are trivial" in caplog.text


@pytest.mark.parametrize(
    "value",
    ["ignore", {"accept": "because"}, {"accept": ""}, {}, {"accept": "a good reason", "by": "me"}],
)
def test_a_reason_is_given_in_words(value: object) -> None:
    with pytest.raises(ValidationError, match="overlap"):
        RunConfig.model_validate(run_data(overlap=value))


def test_what_is_done_about_overlaps_is_part_of_the_identity() -> None:
    ids = {
        RunConfig.model_validate(run_data(**over)).id
        for over in ({}, {"overlap": "drop"}, {"overlap": {"accept": "we want it so"}})
    }
    assert len(ids) == 3
    assert (
        RunConfig.model_validate(run_data(overlap="stop")).id
        == RunConfig.model_validate(run_data()).id
    )


# ------------------------------------------------------------------------------------------------
# the table


def test_the_table_counts_pairs_by_way_and_items_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = {"a": asked("Q 1.", "q 1", "Q 2.")}
    test = {"b": asked("Q 1.", "Q 9."), "c": asked("Z 7")}
    rows = overlap.table(train, test)
    assert rows[0] == {
        "train": "a",
        "test": "b",
        "train items": 3,
        "test items": 2,
        "origin": 0,
        "exact": 1,
        "normalised": 1,
        "near": 0,
        "test items found": 1,
        "examples": "0 = 0 (exact); 1 = 0 (normalised)",
    }
    assert rows[1]["test items found"] == 0
    overlap.write(rows, tmp_path / "t.csv")
    with open(tmp_path / "t.csv") as file:
        assert list(csv.DictReader(file)) == [{k: str(v) for k, v in row.items()} for row in rows]
    assert "normalised" in capsys.readouterr().out


def test_the_verb_writes_a_table_with_a_passport(tmp_path: Path) -> None:
    out = tmp_path / "overlap.csv"
    command = [
        sys.executable,
        "-m",
        "ccpo",
        "overlap",
        "--train",
        "arithmetic",
        "--test",
        "arithmetic",
        "--out",
        str(out),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    [row] = pd.read_csv(out).to_dict("records")
    assert (row["train items"], row["test items"], row["test items found"]) == (4096, 256, 0)
    assert not audit.artefact(out).failures


def test_items_are_those_of_the_splits_that_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(door.items(["arithmetic"], "test")["arithmetic"]) == 256
    with pytest.raises(ValueError, match="benchmark arithmetic has no split validation"):
        door.items(["arithmetic"], "validation")
    monkeypatch.setattr(benchmark, "names", lambda: ["arithmetic"])
    assert door.items([], "validation") == {}
    with pytest.raises(ValueError, match="benchmark 'arithmetics' is not a file"):
        door.items(["arithmetics"], "test")
