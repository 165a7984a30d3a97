"""MBPP, MBPP+ and HumanEval: gold programs pass, mutated ones get the verdict that running the
published asserts as they stand gives.

The sets' files are read from CCPO_DATA_MIRROR; tests of them are skipped without.
"""

from __future__ import annotations

import ast
import functools
import gzip
import itertools
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ccpo import benchmark
from ccpo.benchmark import Task, mbpp, mbpp_plus
from ccpo.data import door
from ccpo.grade.sandbox import isolation, plain, programs

NAMES = ("mbpp", "mbpp_plus", "humaneval")
MIRROR = os.environ.get("CCPO_DATA_MIRROR", "")
needs_files = pytest.mark.skipif(not MIRROR, reason="needs the sets' files: set CCPO_DATA_MIRROR")


@functools.cache
def raw(name: str) -> dict[str, Path]:
    return {key: Path(MIRROR) / source.path for key, source in benchmark.load(name).SOURCES.items()}


@functools.cache
def tasks(name: str, split: str) -> list[Task]:
    return benchmark.load(name).tasks(split, raw(name))


def rows(name: str) -> list[dict[str, Any]]:
    (path,) = raw(name).values()
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [json.loads(line) for line in text.decode().splitlines()]


def some(name: str, split: str, n: int) -> list[Task]:
    """The same n tasks each time, from the whole split."""
    return random.Random(n).sample(tasks(name, split), n)


@pytest.mark.parametrize("name", NAMES)
def test_examples_and_demonstrations_hold(name: str) -> None:
    module = benchmark.load(name)
    assert module.FORM == benchmark.CODE
    for text, truth, kind, accepted in module.EXAMPLES:
        program = programs.program(text)
        assert kind == "code"
        assert (program is not None and programs.grade(program, truth).passed) is accepted
    for demo in module.demos(2):
        assert programs.program(demo.plan) is None
        shown = [line.strip() for line in demo.question.splitlines()]
        pairs = [mbpp._pair(line) for line in shown if line.startswith("assert ")]
        pairs += [
            (line[4:], ast.literal_eval(after))
            for line, after in itertools.pairwise(shown)
            if line.startswith(">>> ")
        ]
        truth = benchmark.checks([call for call, _ in pairs], [value for _, value in pairs])
        for text in (demo.conclusion, demo.solution):
            assert programs.grade(programs.program(text) or "", truth).passed
    with pytest.raises(ValueError, match=rf"{name}: 3 demonstrations"):
        module.demos(3)


@needs_files
@pytest.mark.parametrize("name", NAMES)
def test_the_pinned_files_hold_what_the_splits_say(name: str, tmp_path: Path) -> None:
    module = benchmark.load(name)
    for source in module.SOURCES.values():
        door.fetch(source, tmp_path)  # the hash
        assert len(rows(name)) == source.rows
    found = [task for split in module.SPLITS for task in tasks(name, split)]
    assert {split: len(tasks(name, split)) for split in module.SPLITS} == module.SPLITS
    assert len({task.task_id for task in found}) == len(found) == len(rows(name))
    assert all(
        task.origin and task.gold and task.question and task.kind == "code" and not task.flaw
        for task in found
    )
    demos = {demo.question for demo in module.demos(2)}
    assert not demos & {task.question for task in found}


@needs_files
def test_origins_match_across_mbpp_and_mbpp_plus() -> None:
    plus = {task.origin for task in tasks("mbpp_plus", "test")}
    shared = {
        split: len(plus & {task.origin for task in tasks("mbpp", split)}) for split in mbpp.SPLITS
    }
    assert shared == {"train": 108, "validation": 39, "test": 224, "prompt": 7}


@needs_files
def test_no_call_of_mbpp_holds_its_answer_and_the_question_shows_the_asserts() -> None:
    """All asserts are read; parsed anew, call == value is the assert."""
    by_id = {f"mbpp/{row['task_id']}": row for row in rows("mbpp")}
    count = 0
    for task in (task for split in mbpp.SPLITS for task in tasks("mbpp", split)):
        truth = json.loads(task.truth)
        asserts = [ast.parse(text.strip()).body[0] for text in by_id[task.task_id]["test_list"]]
        for call, expected, node in zip(truth["calls"], truth["expected"], asserts, strict=True):
            assert isinstance(node, ast.Assert)
            assert isinstance(node.test, ast.Compare)
            assert ast.dump(ast.parse(call, mode="eval").body) == ast.dump(node.test.left)
            if task.task_id != "mbpp/596":
                assert plain.read(expected) == ast.literal_eval(node.test.comparators[0])
            count += 1
        assert all(text.strip() in task.question for text in by_id[task.task_id]["test_list"])
    assert count == 2922


@needs_files
@pytest.mark.parametrize(
    ("name", "split", "n"),
    [
        ("mbpp", "train", 80),
        ("mbpp", "test", 80),
        ("mbpp_plus", "test", 40),
        ("humaneval", "test", 50),
    ],
)
def test_gold_programs_pass_their_tests(name: str, split: str, n: int) -> None:
    wrong = {}
    for task in some(name, split, n):
        graded = programs.grade(task.gold, programs.complete(task.truth, task.gold))
        if not graded.passed:
            wrong[task.task_id] = graded.reason
    assert wrong == {}


def mutants(program: str) -> Iterator[str]:
    """The program with one thing changed: a number, an operator, a comparison, a returned value."""
    swap = {
        ast.Add: ast.Sub,
        ast.Sub: ast.Add,
        ast.Mult: ast.FloorDiv,
        ast.Lt: ast.LtE,
        ast.Gt: ast.GtE,
        ast.LtE: ast.Lt,
        ast.Eq: ast.NotEq,
    }
    for i in range(len(list(ast.walk(ast.parse(program))))):
        tree = ast.parse(program)
        node = list(ast.walk(tree))[i]
        if isinstance(node, ast.Constant) and type(node.value) is int:
            node.value += 1
        elif isinstance(node, ast.BinOp) and type(node.op) in swap:
            node.op = swap[type(node.op)]()
        elif isinstance(node, ast.Compare) and type(node.ops[0]) in swap:
            node.ops[0] = swap[type(node.ops[0])]()
        elif isinstance(node, ast.Return) and node.value:
            node.value = ast.List([node.value], ast.Load())
        else:
            continue
        yield ast.unparse(tree)


def passes_as_published(program: str, tests: str, seconds: float = 3) -> bool:
    """Whether a Python script of the program and the set's own test code ends well."""
    done = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", f"{program}\n{tests}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        return done.wait(seconds) == 0
    except subprocess.TimeoutExpired:
        done.kill()
        done.wait()
        return False


@needs_files
@pytest.mark.parametrize(("name", "n"), [("mbpp", 45), ("humaneval", 30)])
def test_mutants_get_the_verdict_of_the_published_asserts(
    name: str, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation, "SECONDS", 3.0)
    by_id = {str(row["task_id"]): row for row in rows(name)}
    differ = []
    verdicts = []
    for task in some(name, "test", n):
        row = by_id[task.task_id.removeprefix("mbpp/")]
        if name == "mbpp":
            published = "\n".join([row["test_setup_code"], *row["test_list"]])
        else:
            published = f"{row['test']}\ncheck({row['entry_point']})"
        mutant = random.Random(task.task_id).choice([*mutants(task.gold)])
        graded = programs.grade(mutant, task.truth)
        verdicts.append(graded.passed)
        if graded.passed != passes_as_published(mutant, published):
            differ.append((task.task_id, mutant, graded))
    assert differ == []
    assert 0.5 * n < verdicts.count(False) <= n  # few mutants are the same function


@needs_files
@pytest.mark.parametrize("name", NAMES)
def test_a_value_in_a_list_is_another_value(name: str) -> None:
    for task in some(name, "test", 12):
        truth = programs.complete(task.truth, task.gold)
        entry = ast.parse(json.loads(truth)["calls"][0], mode="eval")
        called = next(
            n.func.id
            for n in ast.walk(entry)
            if isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id in task.gold
        )
        wrapped = f"{task.gold}\n_gold = {called}\n{called} = lambda *a: [[_gold(*a)]]\n"
        assert programs.grade(wrapped.replace("[[", "").replace("]]", ""), truth).passed, (
            task.task_id
        )
        assert not programs.grade(wrapped, truth).passed, task.task_id


# MBPP+ gives these other arguments than its own field `assertion` does, lists for tuples but in the
# two dictionaries; so does EvalPlus.
OTHERWISE = {87, 98, 104, 140, 145, 301, 596}


@needs_files
def test_arguments_of_mbpp_plus_are_those_of_its_assertions() -> None:
    """The table of conversions against the text of the asserts that came with the base inputs."""
    other = set()
    for row, task in zip(rows("mbpp_plus"), tasks("mbpp_plus", "test"), strict=True):

        def arguments(text: str, entry: str = row["entry_point"]) -> list[Any]:
            calls = [
                n
                for n in ast.walk(ast.parse(text))
                if isinstance(n, ast.Call) and getattr(n.func, "id", "") == entry
            ]
            return [number(a) for a in calls[0].args]

        asserts = [s for s in ast.parse(row["assertion"]).body if isinstance(s, ast.Assert)]
        if len(asserts) != len(row["base_input"]):
            continue
        for statement, call in zip(asserts, json.loads(task.truth)["calls"], strict=False):
            if arguments(ast.unparse(statement)) != arguments(call):
                other.add(int(task.task_id.removeprefix("mbpp/")))
    assert other == OTHERWISE


def number(node: ast.expr) -> Any:
    """A literal; 14 * 14 and its like too."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        return number(node.left) * number(node.right)
    return ast.literal_eval(node)


@needs_files
def test_mbpp_plus_reads_every_input_but_the_costly() -> None:
    left_out = {}
    for row, task in zip(rows("mbpp_plus"), tasks("mbpp_plus", "test"), strict=True):
        assert "expected" not in json.loads(task.truth)
        fewer = (
            len(row["base_input"]) + len(row["plus_input"]) - len(json.loads(task.truth)["calls"])
        )
        if fewer:
            left_out[int(task.task_id.removeprefix("mbpp/"))] = fewer
    assert left_out == {123: 10, 255: 5, 271: 17, 392: 15, 592: 18, 599: 16, 603: 17, 630: 10}


# Answers other than the gold program's that EvalPlus' oracles accept, and some that they do not.
ORACLES = [
    (
        558,
        "def digit_distance_nums(a, b): return sum(abs(int(x) - int(y)) for x, y in "
        "zip(f'{a:0400}', f'{b:0400}'))",
        True,
    ),
    (558, "def digit_distance_nums(a, b): return abs(a - b)", False),
    (
        581,
        "import math\ndef surface_Area(b, h): return round(b * b + 2 * b * math.sqrt((b / 2) ** "
        "2 + h * h))",
        True,
    ),
    (581, "def surface_Area(b, h): return b * b", False),
    (2, "def similar_elements(a, b): return [*reversed([x for x in a if x in b])] * 2", True),
    (2, "def similar_elements(a, b): return [x for x in a if x in b] + [None]", False),
    (769, "def Diff(a, b): return [*set(a) ^ set(b)][::-1]", True),
]


@needs_files
@pytest.mark.parametrize(("number", "program", "right"), ORACLES, ids=lambda x: str(x)[:30])
def test_other_answers_that_are_right(number: int, program: str, right: bool) -> None:
    task = next(t for t in tasks("mbpp_plus", "test") if t.task_id == f"mbpp/{number}")
    assert programs.grade(program, programs.complete(task.truth, task.gold)).passed is right


@needs_files
def test_a_function_alone_completes_a_humaneval_prompt() -> None:
    """What else the prompt holds (imports, helpers) need not be repeated; without it 22 of 26 such
    items would fail.
    """
    alone = {}
    for row in rows("humaneval"):
        body = ast.parse(row["prompt"] + row["canonical_solution"]).body
        own = [n for n in body if isinstance(n, ast.FunctionDef) and n.name == row["entry_point"]]
        if len(body) > len(own):
            alone[row["task_id"]] = ast.unparse(own[0])
    assert len(alone) == 26
    bare = 0
    for task in tasks("humaneval", "test"):
        if task.task_id in alone:
            assert programs.grade(alone[task.task_id], task.truth).passed, task.task_id
            nothing = json.dumps({**json.loads(task.truth), "preamble": ""})
            bare += not programs.grade(alone[task.task_id], nothing).passed
        else:
            assert json.loads(task.truth)["preamble"] == ""
    assert bare == 22


EXACT = {
    14: "def find_Volume(a, b, c): return a * b * c // 2 if a * b * c % 2 == 0 else a * b * c / 2",
    267: "def square_Sum(n): return n * (4 * n * n - 1) // 3",
    287: "def square_Sum(n): return 2 * n * (n + 1) * (2 * n + 1) // 3",
}


@needs_files
@pytest.mark.parametrize("number", EXACT)
def test_an_exact_whole_number_is_right_where_the_key_is_a_quotient_of_floats(number: int) -> None:
    task = next(t for t in tasks("mbpp_plus", "test") if t.task_id == f"mbpp/{number}")
    truth = programs.complete(task.truth, task.gold)
    assert programs.grade(EXACT[number], truth).passed
    assert programs.grade(task.gold, truth).passed
    assert not programs.grade(EXACT[number].replace("return ", "return 1 + "), truth).passed
    only_key = json.dumps({k: v for k, v in json.loads(truth).items() if k != "also"})
    assert not programs.grade(EXACT[number], only_key).passed


@needs_files
@pytest.mark.parametrize("number", mbpp_plus._AS_PRESENCE)
def test_presence_is_what_counts(number: int) -> None:
    """The gold program may answer with a match object; a bool, or anything but None in its place,
    is right.
    """
    entry = next(
        row["entry_point"] for row in rows("mbpp_plus") if row["task_id"] == f"Mbpp/{number}"
    )
    task = next(t for t in tasks("mbpp_plus", "test") if t.task_id == f"mbpp/{number}")
    truth = programs.complete(task.truth, task.gold)
    expected = json.loads(truth)["expected"]
    assert {"true"} <= set(expected) <= {"true", "false"}
    flipped = ["false" if e == "true" else "true" for e in expected]
    for shown in ("found", "'yes' if found else None", "re.match('', '') if found else None"):
        program = (
            f"import re\ndef {entry}(*a):\n    found = answers.pop(0) == 'true'\n    "
            f"return {shown}\nanswers = "
        )
        assert programs.grade(f"{program}{expected!r}", truth).passed
        assert programs.grade(f"{program}{flipped!r}", truth).fraction == 0.0


def test_source_is_python_of_the_same_value() -> None:
    values = [
        1,
        -2.5,
        1e300,
        "a'\"\n",
        None,
        True,
        1j,
        (1,),
        (),
        [(2, 3)],
        {"k": (1, 2)},
        {3: [None]},
    ]
    assert eval(mbpp_plus.source(values)) == values
    assert eval(mbpp_plus.source([float("inf"), float("-inf")])) == [float("inf"), float("-inf")]


@pytest.mark.parametrize(
    "text",
    [
        "assert f(1)",
        "assert f(1) != 2",
        "assert f(1) == 2 == 2",
        "f(1)",
        "assert f(1) == 2\nassert f(2) == 2",
    ],
)
def test_asserts_of_another_form_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not 'assert call == value'"):
        mbpp._pair(text)
