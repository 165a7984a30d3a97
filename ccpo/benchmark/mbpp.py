"""MBPP: short Python functions from a sentence and three asserts (Austin et al. 2021, arXiv
2108.07732).

The asserts are shown, as is usual for this set, since they alone name the function; the same three
are the tests.
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ccpo.benchmark import CODE, Demo, Source, Task, checks, github

VERSION = 2
SOURCES = {
    "all": Source(
        github(
            "deepseek-ai/DeepSeek-Coder",
            "2f9fd85927c669dae3c0fbb2d607274023af243e",
            "Evaluation/MBPP/data/mbpp.jsonl",
        ),
        "ccf64ceae9c5403bf50a044cb6d505bfd2a2963ee58338ba268fd65beab92a9f",
        "mbpp/mbpp.jsonl",
        974,
        "CC BY 4.0",
    )
}
_RANGES = {"train": (601, 974), "validation": (511, 600), "test": (11, 510), "prompt": (1, 10)}
SPLITS = {split: last - first + 1 for split, (first, last) in _RANGES.items()}
FORM = CODE
DEFECTS = (
    "The tests are shown in the question, so a program may hold their answers. Equal texts: 76 "
    "and 347, 216 and 872, 217 and 602, 248 and "
    "704, so that three test items are train items too. Six asserts of 313, 362 and 436 read "
    "`f(x) == 1,2`, which compares with 1 alone. "
    "596 compares with sys.getsizeof, which depends on the build of Python. 367 and 927 need a "
    "class Node that only their setup code names."
)
_TRUTH = checks(["double(2)", "double('a')"], [4, "aa"])
EXAMPLES = [
    (
        "Twice is the sum with itself.\n```python\ndef double(x):\n    return x + x\n```",
        _TRUTH,
        "code",
        True,
    ),
    ("```python\ndef double(x):\n    return 4\n```", _TRUTH, "code", False),
    ("It doubles its argument: 4 and 'aa'.", _TRUTH, "code", False),
]


def ask(text: str, tests: str) -> str:
    """The question as the field asks it: the task, then its tests."""
    return f"{text.strip()}\nYour code should pass these tests:\n\n{tests.strip()}\n"


_DEMOS = [
    Demo(
        ask(
            "Write a function that counts how many words of a sentence have more than n letters.",
            'assert count_long("a small red house", 3) == 2\nassert count_long("", 1) == 0',
        ),
        "Split the sentence at white space, then count the words whose length is greater than n. "
        "An empty sentence has no words: 0.",
        "```python\ndef count_long(sentence, n):\n    return sum(len(word) > n for word in "
        "sentence.split())\n```",
        "Split at white space and count the words longer than n.\n"
        "```python\ndef count_long(sentence, n):\n    return sum(len(word) > n for word in "
        "sentence.split())\n```",
    ),
    Demo(
        ask(
            "Write a function to give each key of a dictionary the place its value has among all "
            "values, the smallest first.",
            "assert places({'a': 30, 'b': 10, 'c': 20}) == {'a': 3, 'b': 1, 'c': 2}\nassert "
            "places({}) == {}",
        ),
        "Order the keys by their values, then number them from 1 and build a dictionary of the "
        "numbers.",
        "```python\ndef places(values):\n    ordered = sorted(values, key=values.get)\n"
        "    return {key: place for place, key in enumerate(ordered, 1)}\n```",
        "Order the keys by value and number them from 1.\n"
        "```python\ndef places(values):\n    ordered = sorted(values, key=values.get)\n"
        "    return {key: place for place, key in enumerate(ordered, 1)}\n```",
    ),
]


def tasks(split: str, raw: Mapping[str, Path]) -> list[Task]:
    """All tasks of a split, in the order of the file."""
    first, last = _RANGES[split]
    items = [json.loads(line) for line in raw["all"].read_text(encoding="utf-8").splitlines()]
    return [_task(item) for item in items if first <= item["task_id"] <= last]


def _task(item: dict[str, Any]) -> Task:
    setup = item["test_setup_code"].replace("\r\n", "\n")
    pairs = [_pair(text) for text in item["test_list"]]
    name = f"mbpp/{item['task_id']}"
    shown = "\n".join([setup, *item["test_list"]])
    truth = checks([call for call, _ in pairs], [value for _, value in pairs], setup=setup)
    return Task(
        name,
        ask(item["text"], shown),
        truth,
        "code",
        origin=name,
        gold=item["code"].replace("\r\n", "\n"),
    )


def _pair(text: str) -> tuple[str, object]:
    """The call and the expected value of `assert call == value`; a message after it is no part of
    the comparison.

    Raises:
        ValueError: it is not of this form.
    """
    match ast.parse(text.strip()).body:
        case [ast.Assert(test=ast.Compare(left=left, ops=[ast.Eq()], comparators=[right]))]:
            pass
        case _:
            raise ValueError(f"mbpp: '{text}' is not 'assert call == value'")
    if isinstance(right, ast.Call) and ast.unparse(right.func) == "sys.getsizeof":
        return ast.unparse(left), sys.getsizeof(ast.literal_eval(right.args[0]))
    return ast.unparse(left), ast.literal_eval(right)


def demos(n: int) -> list[Demo]:
    """At most two demonstrations, written for this project: none is an item of the set."""
    if n > len(_DEMOS):
        raise ValueError(f"mbpp: {n} demonstrations asked for, {len(_DEMOS)} exist")
    return _DEMOS[:n]
