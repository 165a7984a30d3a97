"""Every published set: its bytes, its rows, and truths that the verifier finds in a box, alone, and
in a sentence.

The sets' files are read from CCPO_DATA_MIRROR; tests of them are skipped without.
"""

from __future__ import annotations

import itertools
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ccpo import benchmark, schema
from ccpo.benchmark import Task, _math, logic
from ccpo.data import door
from ccpo.grade import numbers, typeset, verifier

MIRROR = os.environ.get("CCPO_DATA_MIRROR", "")
pytestmark = pytest.mark.skipif(not MIRROR, reason="needs the sets' files: set CCPO_DATA_MIRROR")
MIXED = {"math_cmath": {"math": "math_train", "cmath": "cmath"}}  # of items tested as their own
SETS = [name for name in benchmark.names() if benchmark.load(name).SOURCES and name not in MIXED]
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


def found_equal(answer: str, truth: str, kind: str) -> bool:
    """Whether the verifier says so, and never late."""
    verdict = verifier.verify(f"\\boxed{{{answer}}}", truth, kind)
    assert not verdict.late, (answer, truth)
    return verdict.correct


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
        alike = [(a, b) for (a, kind), (b, _) in pairs if found_equal(a, b, kind)]
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


def logiqa_blocks(split: str) -> list[list[str]]:
    """Of each item: key, passage, question, four options, as they lie in the file."""
    text = raw("logiqa")[split].read_text(encoding="utf-8")
    return [
        [line.strip() for line in block.split("\n")][-7:]
        for block in re.findall(r"\n?((?:[^\n]*\n){7}[^\n]+)(?:\n|\Z)", text)
    ]


@pytest.mark.parametrize("split", ["test", "validation"])
def test_logiqa_keys_name_the_labels_of_all_651(split: str) -> None:
    """The option that stands under the key's letter is the one that the file labels so; where the
    file does not label all four, the one in that place.
    """
    found = benchmark.load("logiqa").tasks(split, raw("logiqa"))
    blocks = logiqa_blocks(split)
    assert len(blocks) == len(found) == 651
    reordered = []
    for task, (key, _, question, *options) in zip(found, blocks, strict=True):
        starts = [option[0] for option in options]
        place = starts.index(key.upper()) if sorted(starts) == list("ABCD") else "abcd".index(key)
        if starts == list("ACBD"):
            reordered.append(task.task_id)
        elif sorted(starts) == list("ABCD"):
            assert starts == list("ABCD")
        assert task.truth == key.upper()
        lines = task.question.splitlines()
        assert lines[-6] == question
        shown = dict(line.split(". ", 1) for line in lines[-5:-1])
        assert list(shown) == list("ABCD")
        bare = options[place].replace(f"{task.truth}.", "", 1).lstrip("abcdABCD? .")
        assert shown[task.truth].lstrip("abcdABCD? .") == bare
    assert len(reordered) == (19 if split == "test" else 0)
    if split == "test":
        asked = {task.task_id: task.question for task in found}
        assert {"test-108", "test-114", "test-140", "test-145", "test-147"} <= set(reordered)
        moved = [t for t in reordered if blocks[int(t.split("-")[1])][0] in "bc"]
        assert len(moved) == 12
        # J first, F third, G before lunch: G is second, which the key calls b
        assert "\nB. G\nC. L\n" in asked["test-192"]
        assert found[192].truth == "B"


def test_logiqa_options_hold_no_stray_label() -> None:
    """Not at the beginning (options that name people or answers by a letter apart), and not where
    the translation put one inside of a sentence.
    """
    people = {"test-4", "test-133", "validation-232", "validation-423", "validation-450"}
    people |= {"validation-458", "validation-460"}
    shown = {}
    for split in ("test", "validation"):
        for task in benchmark.load("logiqa").tasks(split, raw("logiqa")):
            for line in task.question.splitlines()[-5:-1]:
                letter, option = line.split(". ", 1)
                shown[task.task_id, letter] = option
                assert option == option.strip() != ""
                label = re.match(r"[A-D]\s*[.,:)、?？]|[a-d]\.", option)
                assert not label or task.task_id in people, (task.task_id, line)
    inside = {
        ("test-2", "A"): "No dangshen",
        ("test-352", "A"): "All American athletes, such as",
        ("test-524", "D"): "When the land in City B was listed",
        ("test-544", "B"): "Storehouse 3",
        ("test-594", "D"): "fifth",
        ("validation-27", "D"): "The economic income of S City mainly",
        ("validation-39", "D"): "The fertility rate is not",
        ("validation-225", "B"): "City S has launched",
        ("validation-529", "A"): "Mr.P wrote a letter",
        ("validation-532", "C"): "A small amount of cultivated land in A area",
        ("validation-591", "C"): "Mr.X's work",
    }
    for place, start in inside.items():
        assert shown[place].startswith(start), (place, shown[place])


MARKED = {
    ("gsm8k", "test"): {"test-368", "test-454"},
    ("gaokao2023en", "test"): {"test-116", "test-149", "test-190", "test-278", "test-305"},
    ("cmath", "test"): {"test-583", "test-640", "test-1023"},
    ("cmath", "train"): {"train-552", "train-593"},
    ("mbpp_plus", "test"): {"mbpp/98", "mbpp/300"},
}


@pytest.mark.parametrize(("name", "split"), MARKED)
def test_known_defects_are_marked_and_left_out_on_request(name: str, split: str) -> None:
    module = benchmark.load(name)
    every = module.tasks(split, raw(name))
    clean = module.tasks(split, raw(name), only="clean")
    assert {t.task_id for t in every if t.defect} == MARKED[name, split]
    assert [t.task_id for t in every] == [t.task_id for t in clean]  # the door drops, and says why
    assert {t.task_id for t in clean if t.flaw and t.flaw == t.defect} == MARKED[name, split]
    assert [t.flaw for t in clean if not t.defect] == [t.flaw for t in every if not t.defect]
    module.demos(1, only="clean")


def test_figures_that_are_given_as_code_or_not_at_all_are_marked() -> None:
    marked = [t for t in benchmark.load("math500").tasks("test", raw("math500")) if t.defect]
    assert len(marked) == 43
    assert [t.task_id for t in marked if "[asy]" not in t.question] == ["test/geometry/817.json"]
    module = benchmark.load("math_train")
    for subset, code, others in (("full", 707, 4), ("level3to5", 802, 4)):
        found = module.tasks("train", raw("math_train"), subset=subset)
        marks = [t for t in found if t.defect]
        assert sum("[asy]" in t.question for t in marks) == code
        assert len(marks) == code + others
        texts = [t for t in marks if "inequality" in t.defect]
        assert all(t.kind == "text" and re.search(r"\\le|<", t.truth) for t in texts)
        assert len(texts) == sum(
            t.kind == "text" and bool(re.search(r"\\le|<", t.truth)) for t in found
        )


@pytest.mark.parametrize(
    ("truth", "question", "kind"),
    [
        ("(4,25)", "If $a+c=29$ and $a<c$ find the ordered pair $(a,c)$.", "tuple"),
        ("(4,1)", "every $n \\ge 2$ satisfies ... Find $(a,b)$.", "tuple"),
        ("(1,16)", "The solution of $y \\le 0$ is ... Find the vertex of the parabola.", "tuple"),
        ("(-\\frac53,0)", "One intercept is $\\left(-\\frac73,0\\right)$. The other?", "tuple"),
        ("(2,3)", "It is $\\left(1,2\\right)$ turned. Where?", "tuple"),
        ("(2,4)", "Find all $x$ with $5x - 1 < (x + 1)^2$.", "interval"),
        ("(2,4)", "Solve $x \\ge 2$.", "interval"),
        ("(-4,4)", "For what values of $b$ is it not in the range of $f$?", "interval"),
        ("(1,2)", "Of the points $x<3$: answer in interval notation.", "interval"),
    ],
)
def test_a_pair_is_an_interval_only_where_one_is_asked_for(
    truth: str, question: str, kind: str
) -> None:
    assert _math.kind_of(truth, question) == kind


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


@pytest.mark.parametrize("name", MIXED)
def test_a_mixed_set_holds_every_training_item_of_its_sets_once(name: str) -> None:
    held = {task.task_id: task for task in benchmark.load(name).tasks("train", raw(name))}
    count = 0
    for prefix, source in MIXED[name].items():
        module = benchmark.load(source)
        for task in module.tasks("train", raw(source)):
            own = held[f"{prefix}-{task.task_id}"]
            assert replace(own, task_id=task.task_id) == task
            count += 1
    assert count == len(held) == benchmark.load(name).SPLITS["train"]
