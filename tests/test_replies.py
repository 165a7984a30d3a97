"""Replies by the kind of difficulty: our own (replies.py), and the shared cases where they are at
hand; votes by value; boxes that extract finds and the guard removes; hostile messages.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path

import more_replies
import pytest
import replies
from hypothesis import given, settings
from hypothesis import strategies as st

from ccpo import team
from ccpo.benchmark import _keys, _math
from ccpo.grade import process, verifier
from ccpo.grade.boxes import boxes
from ccpo.grade.message import LONGEST, extract

MIRROR = os.environ.get("CCPO_DATA_MIRROR", "")
CASES = Path(MIRROR).parent / "cases" / "graders.jsonl" if MIRROR else None


EVERY = {**replies.REPLIES, **more_replies.MORE}


@pytest.mark.parametrize("name", EVERY)
def test_replies_get_the_verdict_of_an_examiner(name: str) -> None:
    rows = [
        (text, truth, kind or _math.kind_of(truth), right)
        for text, truth, kind, right in EVERY[name]
    ]
    assert len(rows) >= 5
    assert {right for *_, right in rows} == {True, False}
    assert [row for row in rows if verifier.verify(*row[:3]).correct is not row[3]] == []


@pytest.mark.skipif(
    CASES is None or not CASES.exists(),
    reason="needs cases/graders.jsonl beside the folder named by CCPO_DATA_MIRROR",
)
def test_the_shared_cases() -> None:
    assert CASES
    rows = [json.loads(line) for line in CASES.read_text(encoding="utf-8").splitlines()]
    got = {
        row["id"]: verifier.verify(
            row["prediction"], row["truth"], row["kind"] or _math.kind_of(row["truth"])
        ).correct
        for row in rows
    }
    assert [row["id"] for row in rows if got[row["id"]] and not row["correct"]] == []
    assert [row["id"] for row in rows if row["correct"] and not got[row["id"]]] == []


def test_formulas_with_rounded_coefficients_have_the_declared_tolerance() -> None:
    truth = "X_{d}=125-1.25 P"
    for answer, right in [("X_d = 125 - 1.256P", True), ("X_d = 125 - 1.5P", False)]:
        assert verifier.equal(answer, truth, "equation", 0.01) is right
    assert not verifier.equal("X_d = 124.5 - 1.25P", truth, "equation", 0.01)  # 125 is exact
    assert not verifier.equal("X_d = 125 - 1.256P", truth, "equation")
    assert verifier.equal("3.141 t^2 + 2", "3.14 t^2 + 2", "expression", 0.01)
    assert not verifier.equal("3.141 t^3 + 2", "3.14 t^2 + 2", "expression", 0.01)


# ---- votes ------------------------------------------------------------------------------------


def ballots(answers: list[str], truth: str, kind: str = "number") -> list[int]:
    return verifier.ballots([verifier.verify(a, truth, kind) for a in answers], kind).codes


def test_votes_are_counted_by_value() -> None:
    messages = [
        "\\boxed{0.5}",
        "\\boxed{\\frac12}",
        "\\boxed{1/2}",
        "\\boxed{3}",
        "\\boxed{3}",
        "?",
    ]
    assert ballots(messages, "3") == [1, 1, 1, 0, 0, -1]
    assert ballots(messages, "0.5") == [0, 0, 0, 1, 1, -1]
    assert ballots(["\\boxed{B}", "\\boxed{(B) x}", "The answer is C."], "A", "choice") == [1, 1, 2]
    assert ballots(["\\boxed{1,2}", "\\boxed{2,1}"], "3,4", "set") == [1, 1]
    assert ballots(["\\boxed{1,2}", "\\boxed{2,1}"], "3,4", "tuple") == [1, 2]


def test_a_comparison_of_votes_that_is_not_reached_is_late_and_spelling_decides() -> None:
    """Three wrong answers: the first and the third are not told apart in time."""

    def same(answer: str, other: str, kind: str, tolerance: float) -> bool:
        if {answer, other} == {"a", "c"}:
            raise process.Late("busy")
        return {answer, other} == {"a", "b"}

    verdicts = [verifier.Verdict(answer, False) for answer in "abca"]
    assert verifier.ballots(verdicts, "number", same=same) == verifier.Ballots([1, 1, 2, 1], 1)


@given(
    st.lists(st.integers(0, 6), max_size=8),
    st.sets(st.tuples(st.integers(0, 6), st.integers(0, 6))),
)
def test_classes_are_the_connected_parts_of_equality(
    messages: list[int], pairs: set[tuple[int, int]]
) -> None:
    """Against reachability by brute force, for an equality that is neither symmetric nor
    transitive.
    """
    verdicts = [verifier.Verdict(str(n) if n else None, n == 1) for n in messages]
    codes = verifier.ballots(
        verdicts, "number", same=lambda a, b, *_: (int(a), int(b)) in pairs or a == b
    ).codes
    wrong = {n for n in messages if n > 1}
    reach = {n: {n} for n in wrong}
    for _ in wrong:
        for a, b in pairs:
            if a in wrong and b in wrong:
                reach[a] = reach[b] = reach[a] | reach[b]
                for n in reach[a]:
                    reach[n] = reach[a]
    assert [c for c in codes if c < 1] == [-1 if n == 0 else 0 for n in messages if n < 2]
    for n, code in zip(messages, codes, strict=True):
        for m, other in zip(messages, codes, strict=True):
            if n > 1 and m > 1:
                assert (code == other) is (m in reach[n])


# ---- boxes ------------------------------------------------------------------------------------

PARTS = [
    "\\boxed{",
    "\\fbox{",
    "\\framebox{",
    "\\boxed ",
    "}",
    "{",
    "42",
    "7",
    " ",
    "$",
    "\\{",
    "\\}",
]
PARTS += ["\\bo", "xed{", "\\frac{1}{2}", ".", "x", "\n", "\\\\", "\\boxed", "\\boxedx"]


@given(st.lists(st.sampled_from(PARTS), max_size=14).map("".join))
@settings(max_examples=500)
def test_what_is_found_in_a_box_is_removed_by_the_guard(text: str) -> None:
    kept = team.guard(text)
    assert boxes(kept) == []
    secret = text.replace("42", "SECRET")
    for box in boxes(secret):
        content = box.content(secret)
        assert content is None or content in secret[box.start : box.end]
    held = sum(secret[b.start : b.end].count("SECRET") for b in boxes(secret))
    assert team.guard(secret).count("SECRET") == secret.count("SECRET") - held


def test_a_box_made_by_taking_one_out_is_taken_out_too() -> None:
    assert "7" not in team.guard("a \\bo\\boxed{}xed{7} b")
    assert not boxes(team.guard("\\box\\bo\\fbox{1}xed{}ed{7}"))


def test_boxes_by_hand() -> None:
    known = {
        "\\fbox{42} and \\boxed 7, so": ["42", "7"],
        "\\boxed{\\boxed{8}}": ["8"],
        "\\boxed{x = \\fbox{\\frac{1}{2}}}": ["\\frac{1}{2}"],
        "\\boxed{\\{1,2\\}}": ["\\{1,2\\}"],
        "\\\\boxed{7}": ["7"],
        "\\boxed{7": [None],
        "{{{\\boxed{7}": ["7"],
        "\\boxed\\frac{1}{2} x": ["\\frac{1}{2}"],
        "\\boxed{}\\boxed.": ["", ""],
    }
    for text, contents in known.items():
        assert [box.content(text) for box in boxes(text)] == contents


# ---- hostile messages -------------------------------------------------------------------------

N = 200_000
NASTY = [
    "\\boxed{" * (N // 7),
    "\\boxed{" * 25_000 + "12" + "}" * 25_000,
    "\\boxed{12}" * (N // 10),
    "{" * N + "\\boxed{12}",
    "\\boxed{" + "9" * N + "}",
    "\\boxed{" + "9" * 290 + "!}",
    "\\boxed{" + "9^" * 100 + "9}",
    "\\boxed{" + "(" * 290 + "}",
    "\\boxed{" + "\\frac{" * 40 + "}",
    "\\boxed{" + "\\sqrt{" * 40 + "2" + "}" * 40 + "}",
    "\\boxed{" + "1," * 140 + "}",
    "\\boxed{" + "$" * 290 + "}",
    "\\boxed{\ud800}",
    "\ud800" * 1000 + "The answer is \ud800 12",
    "answer is " * (N // 10),
    "answer:" + " " * N,
    "answer is " + " " * N + "\n" + "*" * 1000,
    "<think>" * (N // 7),
    "<think></think>" * (N // 15),
    "<answer>" * (N // 8),
    "#" * N,
    "\n" * N,
    "```" * (N // 3),
    "#### " + "1" * N,
    "The answer is " + "1+" * (N // 2),
    "The answer is " + ", x" * (N // 3),
    "**" * (N // 2),
    "\\text{" * (N // 6),
    "\x00" * 1000,
]


@pytest.mark.parametrize("index", range(len(NASTY)))
@pytest.mark.parametrize("kind", ["number", "set", "tuple", "interval", "choice", "text"])
def test_no_message_stalls_or_raises(index: int, kind: str) -> None:
    """At most a second of processor time; what the algebra needs has its own limit and process."""
    start = time.process_time()
    verdict = verifier.verify(NASTY[index], "12", kind)
    assert time.process_time() - start < 1.0
    assert verdict.answer is None or len(verdict.answer) <= LONGEST


MONSTERS = [
    "\\binom{99999999}{49999999}",
    "\\sum_{k=1}^{100000}\\frac{1}{k}",
    "\\sum_{k=1}^{10^9}k^2",
    "\\prod_{k=1}^{100000}k",
    "(x+1)^{9999}",
    "(x+y+z)^{500}",
    "\\int_0^1\\frac{\\sin(x^2)}{1+x^5}dx",
    "\\int_0^1\\int_0^1\\frac{1}{1-xy}dxdy",
    "\\int\\sqrt{\\tan x}dx",
    "((2^{9999})^{9999})^{9999}",
    "9999!^{9999}",
    "9" * 66 + "!",
    "\\Gamma(99999)",
    "(" * 40 + "x" + "+1)^2" * 40,
    "\\frac{1}{1+" * 20 + "x" + "}" * 20,
    "\\sqrt{" * 25 + "x" + "}" * 25,
    "\\lim_{x\\to 0}\\frac{\\sin(\\tan x)-\\tan(\\sin x)}{x^7}",
    "\\frac{g}{4\\pi^2}\\left(\\frac{n_1}{n_2}\\right)^{9999}",
    "\\frac{d^{50}}{dx^{50}}\\tan x",
    "(" * 90 + "x" + ")" * 90,
    "(" * 290,
    "x_" * 20 + "x",
    "\\int x dx" * 12,
]


@pytest.mark.parametrize("index", range(len(MONSTERS)))
def test_the_algebra_gives_up_by_its_own_measure(
    index: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never by its time, which would be late: the verdict is "wrong" on any machine, at once."""
    monkeypatch.setattr(process, "TRIES", (1.0,))
    for truth in ("12", "x+\\sqrt{2}"):
        assert verifier.verify(f"\\boxed{{{MONSTERS[index]}}}", truth, "expression") == (
            verifier.Verdict(MONSTERS[index], False)
        )


HOSTILE = st.lists(
    st.sampled_from(
        [*PARTS, "answer is ", "####", "<think>", "</think>", "<answer>", "^{", "\\text{"]
    )
    | st.text(st.characters(), max_size=8),
    max_size=30,
).map("".join)


@given(
    HOSTILE, st.sampled_from(["number", "set", "tuple", "interval", "equation", "choice", "text"])
)
@settings(max_examples=400, deadline=2000)
def test_any_text_is_read_without_an_error(text: str, kind: str) -> None:
    answer = extract(text, kind)
    assert answer is None or 0 < len(answer) <= LONGEST
    if answer is not None and kind != "choice":
        with contextlib.suppress(verifier.answers.Undecided):
            verifier.answers.same(answer, "12", kind, leaf=verifier.answers.undecided)


# ---- keys with their questions ----------------------------------------------------------------


def test_the_question_decides_between_set_tuple_and_multiset() -> None:
    known = [
        ("b, a, c", "Put a,b,c in decreasing order and separated by commas.", "tuple"),
        ("2, 1", "Numbers in increasing order are given. Find all roots.", "set"),
        ("1, 1, -2", "Find the three roots.", "multiset"),
        ("1, -2", "Enter the roots, counting multiplicity.", "multiset"),
        ("48,384", "What is $a_7$? What is the sum?", "tuple"),
        ("48,384", "How many people live there?", "number"),
        ("0.05, 0.6", "What is the first probability? What is the second?", "tuple"),
        ("-2,1", "Enter all integer roots, separated by commas.", "set"),
        ("0,100", "", "set"),
        ("(4,25)", "If $a<c$, find the ordered pair $(a,c)$.", "tuple"),
        ("(4,25)", "Solve $x^2 < 4$. For what values of $x$ is it so?", "interval"),
        ("(5,1)", "For what values of x?", "tuple"),
        ("\\{-1\\} \\cup [0,7)", "Solve the inequality.", "interval"),
        ("-80\\leq g(x)\\leq 82", "Compute the range of $g$.", "interval"),
        ("\\text{A, C}", "Enter the letters of the correct options.", "set"),
    ]
    got = [(t, q, _keys.kind_of(t, q)) for t, q, _ in known]
    assert got == known
    assert _keys.key("48,384", "What is $a_7$? What is the sum?") == ("48, 384", "tuple")


def test_the_unit_that_is_asked_for_is_part_of_the_truth() -> None:
    known = [
        ("How many hours will it take?", "hours"),
        ("How tall is it in inches?", "inches"),
        ("What is the area, in square centimeters?", "square centimeters"),
        ("这块地的面积是多少平方米？", "平方米"),
        ("还差多少元钱？", "元"),
        ("How many dozen eggs are left?", "dozen"),
        ("How many gray wolves are there?", ""),
        ("How many hours a week does each of them work?", ""),
        ("How many miles per hour does it go?", ""),
        ("How many apples are left?", ""),
        ("多少人？", ""),
    ]
    assert [(q, _keys.asked_unit(q)) for q, _ in known] == known
    truth, kind = _keys.key("12", "How many hours will it take?")
    for answer, right in [
        ("12", 1),
        ("12 hours", 1),
        ("12 minutes", 0),
        ("12 dollars", 0),
        ("720", 0),
    ]:
        assert verifier.equal(answer, truth, kind) is bool(right)
    truth, kind = _keys.key("5", "How many dozen eggs are left?")
    for answer, right in [("5", 1), ("5 dozen", 1), ("60", 0), ("5 eggs", 1), ("6", 0)]:
        assert verifier.equal(answer, truth, kind) is bool(right), answer


def test_options_of_the_question_are_read() -> None:
    question = (
        "What is it? $\\textbf{(A)}\\ 10 \\qquad \\textbf{(B)}\\ 12 \\qquad \\textbf{(C)}\\ 14$"
    )
    assert _keys.options(question) == {"A": "10", "B": "12", "C": "14"}
    assert _keys.key("12", question) == ("(B) 12", "number")
    assert _keys.key("\\text{(C)}", question) == ("(C) 14", "choice")
    assert _keys.key("13", question) == ("13", "number")
    assert _keys.options("Let (A) be a set and (B) another.") == {}


@pytest.mark.parametrize("name", ["think", "thinking", "seed:think", "THINK"])
def test_thinking_is_no_answer_whatever_its_marks_are(name: str) -> None:
    """Those that the gate of models knows; a block that never ends holds no answer."""
    left, right = ("[", "]") if name.isupper() else ("<", ">")
    thought = f"{left}{name}{right}\\boxed{{3}}"
    closed = f"{thought}{left}/{name}{right}"
    assert verifier.extract(f"{closed} The answer is 4.") == "4"
    assert verifier.extract(f"\\boxed{{3}}{left}/{name}{right} The answer is 4.") == "4"
    assert verifier.extract(closed) is None
    assert verifier.extract(f"\\boxed{{4}} {thought}") is None
