"""Every published set: its bytes, its rows, and truths that the verifier finds in a box, alone, and
in a sentence.

The sets' files are read from CCPO_DATA_MIRROR; tests of them are skipped without.
"""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path

import numpy as np
import pytest

from ccpo import benchmark, schema
from ccpo.benchmark import Task, _math, logic
from ccpo.data import door
from ccpo.grade import numbers, typeset, verifier

MIRROR = os.environ.get("CCPO_DATA_MIRROR", "")
pytestmark = pytest.mark.skipif(not MIRROR, reason="needs the sets' files: set CCPO_DATA_MIRROR")
SETS = [name for name in benchmark.names() if benchmark.load(name).SOURCES]
SPOKEN = [name for name in SETS if benchmark.load(name).FORM == benchmark.BOXED]
EDITIONS = {
    "gaokao2023en": [{"edition": "ccpo"}, {"edition": "qwen"}],
    "math_train": [{"subset": "full"}, {"subset": "level3to5"}],
}
NO_KEY = {
    "gaokao2023en": {"test-167", "test-192"},
    "math_train": {
        "full-5341",
        "full-5343",
        "level3to5-3380",
        "level3to5-5054",
        "level3to5-5158",
        "level3to5-7997",
    },
}


def raw(name: str) -> dict[str, Path]:
    return {key: Path(MIRROR) / source.path for key, source in benchmark.load(name).SOURCES.items()}


def every(name: str) -> list[tuple[str, list[Task]]]:
    module = benchmark.load(name)
    return [
        (split, module.tasks(split, raw(name), **more))
        for split in module.SPLITS
        for more in EDITIONS.get(name, [{}])
    ]


@pytest.mark.parametrize("name", SETS)
def test_bytes_and_rows_are_the_pinned_ones(name: str) -> None:
    module = benchmark.load(name)
    for key, source in module.SOURCES.items():
        assert schema.sha256(raw(name)[key]) == source.sha256
        assert door.rows_of(raw(name)[key]) == source.rows
        assert source.licence
        assert re.fullmatch(r"https://\S+/[0-9a-f]{40}/\S+", source.url)  # a commit, never a branch
    for split, found in every(name):
        assert len(found) == (module.SPLITS[split] or len(found)) > 0
        assert len({t.task_id for t in found}) == len(found)


def test_published_numbers_of_items() -> None:
    """As the sets' papers and users give them, apart from what our files say."""
    known = {
        "math500": 500,
        "amc23": 40,
        "aime24": 30,
        "aime25": 30,
        "gaokao2023en": 385,
        "minerva_math": 272,
        "cmath": 1098,
        "gsm8k": 1319,
    }
    known |= {"logiqa": 651, "mbpp": 500, "mbpp_plus": 378, "humaneval": 164}
    assert {n: benchmark.load(n).SPLITS["test"] for n in known} == known
    assert [len(found) for _, found in every("math_train")] == [7500, 8523]
    assert {n: benchmark.load(n).SPLITS["train"] for n in ("gsm8k", "cmath", "mbpp")} == {
        "gsm8k": 7473,
        "cmath": 600,
        "mbpp": 374,
    }


@pytest.mark.parametrize("name", SPOKEN)
def test_every_truth_verifies_against_itself(name: str) -> None:
    """In a box, alone, in a sentence, between dollar signs, in <answer>, after a thought; what
    has no key is named above.
    """
    missing = set()
    failed = []
    for _, found in every(name):
        for task in found:
            if not task.truth or task.flaw:
                missing.add(task.task_id)
                continue
            said = [
                f"so \\boxed{{{task.truth}}}.",
                task.truth,
                f"The answer is {task.truth}.",
                f"The answer is ${task.truth.strip('$')}$.",
                f"Let me see.\n<answer>{task.truth}</answer>",
                f"<think>Or \\boxed{{0}}? no.</think>\nSo it is \\boxed{{{task.truth}}}",
            ]
            failed += [
                (task.task_id, text)
                for text in said
                if not verifier.verify(text, task.truth, task.kind, task.tolerance).correct
            ]
    assert failed == []
    assert missing == NO_KEY.get(name, set())


@pytest.mark.parametrize("name", ["math500", "gaokao2023en", "minerva_math", "cmath", "aime24"])
def test_truths_are_read_and_not_only_spelt(name: str) -> None:
    """Written otherwise they are still right, and no truth is that of the next task unless it is
    the same: equality is no string match.
    """
    for _, found in every(name):
        usable = [t for t in found if t.truth and not t.flaw]
        for task in usable:
            other = (
                task.truth.replace("\\frac", "\\dfrac")
                .replace("(", "\\left( ")
                .replace(")", " \\right)")
                .replace("+", " + ")
            )
            assert verifier.equal(other, task.truth, task.kind, task.tolerance), (
                task.task_id,
                other,
            )
            value = numbers.number(typeset.tidy(task.truth))
            if value or task.kind == "expression":
                wrong = f"{value.value + 1}" if value else f"{typeset.tidy(task.truth)}+1"
                assert not verifier.equal(wrong, task.truth, task.kind), (
                    task.task_id,
                    wrong,
                    task.truth,
                )
        # the unit that is asked for may be left out: without it they differ
        spelt = {
            (t.truth[:3] if t.kind == "choice" else t.truth.split(" \\text{")[0], t.kind)
            for t in usable
        }
        pairs = [(a, b) for a, b in itertools.pairwise(sorted(spelt)) if a[1] == b[1]]
        alike = [(a, b) for (a, kind), (b, _) in pairs if verifier.equal(a, b, kind)]
        assert len(alike) <= len(pairs) // 10  # "0.5" and "\\frac12" may well follow each other


def test_kinds_of_known_truths() -> None:
    known = {
        "number": [
            "42",
            "-3",
            "4.5e33",
            "1,200",
            "\\frac{3}{4}",
            "-3./2",
            "90^\\circ",
            "40%",
            "52_8",
            "10,\\!080",
            "864 \\mbox{ inches}^2",
        ],
        "expression": ["\\sqrt{51}", "2k+2", "1+2i", "(a+5)(b+2)", "\\pi"],
        "set": ["1,-2", "3 \\pm 2 \\sqrt{2}", "\\{1,2\\}", "$5$ or $9$"],
        "tuple": [
            "(3, \\frac{\\pi}{2})",
            "\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}",
            "(1,-16,-4,43)",
        ],
        "interval": [
            "[0,1)",
            "(2,\\infty)",
            "x \\in [-2,7]",
            "(0,9) \\cup (9,36)",
            "\\{x|-2 \\le x < 1\\}",
            "(3,4]",
        ],
        "equation": ["y = 2x + 3", "x=5", "5x - 7y + 11z + 4 = 0"],
        "choice": ["\\text{(C)}", "B"],
        "text": ["\\text{Evelyn}", "\\text{even}", "1:58 am"],
    }
    assert {kind: [_math.kind_of(t) for t in truths] for kind, truths in known.items()} == {
        k: [k] * len(v) for k, v in known.items()
    }
    assert _math.kind_of("(1,3)", "For which values of x is it positive?") == "interval"
    assert _math.kind_of("(1,3)", "At which point do they meet?") == "tuple"


def test_the_last_box_is_the_key() -> None:
    texts = ("\\boxed{1} and \\boxed{\\frac{2}{3}}", "\\boxed 9.", "none", "\\boxed{open")
    assert [_math.boxed(text) for text in texts] == ["\\frac{2}{3}", "9", "", ""]


def test_logiqa_blocks_are_read_by_their_lines() -> None:
    found = benchmark.load("logiqa").tasks("test", raw("logiqa"))
    counts = {c: sum(t.truth == c for t in found) for c in "ABCD"}
    assert counts == {"A": 132, "B": 159, "C": 179, "D": 181}
    for task in found:
        assert [line[:3] for line in task.question.splitlines()[-5:-1]] == [
            "A. ",
            "B. ",
            "C. ",
            "D. ",
        ]
    assert "A. Civic Park is north" in found[0].question


def test_knights_and_knaves_have_one_solution() -> None:
    """Solved again from the words alone."""
    for task in logic.tasks("test", {}, n_test=60):
        said = re.findall(r'(\w+) says: "(.*?)\."', task.question)
        names = [name for name, _ in said]

        def true(text: str, knight: dict[str, bool]) -> bool:
            if match := re.fullmatch(r"(\w+) is a (knight|knave)", text):
                return knight[match[1]] == (match[2] == "knight")
            if match := re.fullmatch(r"(\w+) and (\w+) are both knights", text):
                return knight[match[1]] and knight[match[2]]
            if match := re.fullmatch(r"at least one of (\w+) and (\w+) is a knave", text):
                return not knight[match[1]] or not knight[match[2]]
            if match := re.fullmatch(r"(\w+) and (\w+) are of the same kind", text):
                return knight[match[1]] is knight[match[2]]
            match = re.fullmatch(r"if (\w+) is a knight, so is (\w+)", text)
            assert match
            return knight[match[2]] if knight[match[1]] else True

        fits = []
        for bits in np.ndindex(*[2] * len(names)):
            knight = {name: bool(bit) for name, bit in zip(names, bits, strict=True)}
            if all(true(text, knight) == knight[name] for name, text in said):
                fits.append(", ".join(name for name in names if knight[name]))
        assert fits == [task.truth]
    with pytest.raises(ValueError, match="at most"):
        logic.tasks("train", {}, people=3, n_train=1000)


@pytest.mark.parametrize(
    ("name", "dropped"), [("gaokao2023en", 2), ("cmath", 1), ("aime25", 0), ("logiqa", None)]
)
def test_the_gate_drops_what_cannot_be_used_and_says_so(
    name: str, dropped: int | None, tmp_path: Path
) -> None:
    from ccpo.config import Choice
    from ccpo.config.choice import resolve

    door.tasks(Choice(**resolve("benchmark", name)), tmp_path / "t.parquet", tmp_path / "raw")
    report = schema.read_json(tmp_path / "t.dropped.json")
    assert all(row["reason"] for row in report["dropped"])
    assert sum(s["items"] - s["usable"] for s in report["splits"].values()) == len(
        report["dropped"]
    )
    if dropped is not None:
        assert len(report["dropped"]) == dropped
