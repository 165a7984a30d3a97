"""The verifier against verdicts given by hand, its time limits, threads, bulk, and the command that
explains it.
"""

from __future__ import annotations

import subprocess
import sys

import pytest
import trials

from ccpo.grade import answers, verifier

PAIRS = [
    (a, t, k, want)
    for want, table in ((True, trials.ACCEPT), (False, trials.REJECT))
    for k, rows in table.items()
    for a, t in rows
]


def test_there_are_enough_trials_of_every_kind_and_half_are_wrong() -> None:
    assert len(PAIRS) >= 400
    assert sum(not want for *_, want in PAIRS) >= len(PAIRS) / 2
    assert set(trials.ACCEPT) == set(trials.REJECT) == set(answers.KINDS)
    assert len(set(PAIRS)) == len(PAIRS)


def test_no_wrong_answer_is_accepted_and_no_right_one_refused() -> None:
    got = {p: verifier.equal(*p[:3]) for p in PAIRS}
    assert [p for p in PAIRS if got[p] and not p[3]] == []
    assert [p for p in PAIRS if p[3] and not got[p]] == []


@pytest.mark.parametrize("want", [True, False])
def test_a_tolerance_is_declared_or_there_is_none(want: bool) -> None:
    pairs = trials.ACCEPT_CLOSE if want else trials.REJECT_CLOSE
    assert [p for p in pairs if verifier.equal(*p, "number", trials.TOLERANCE) is not want] == []
    near = [p for p in trials.ACCEPT_CLOSE if not verifier.equal(*p, "number")]
    assert len(near) >= 5  # what only the tolerance accepts


@pytest.mark.parametrize(("text", "truth", "kind", "correct"), trials.MESSAGES)
def test_an_answer_is_found_in_a_message(text: str, truth: str, kind: str, correct: bool) -> None:
    assert verifier.verify(text, truth, kind).correct is correct


def test_order_of_arguments_and_repetition_change_nothing() -> None:
    """Equality of two plain answers is symmetric: truths that are no more than their value, both
    ways.
    """
    for answer, truth, kind, want in PAIRS:
        if kind in ("set", "tuple", "interval", "text") or (
            kind == "expression" and "=" not in answer
        ):
            assert verifier.equal(truth, answer, kind) is want, (answer, truth)


def test_an_unknown_kind_is_an_error() -> None:
    with pytest.raises(ValueError, match="unknown kind of answer 'numbr'"):
        verifier.verify("\\boxed{1}", "1", "numbr")


def test_bulk_gives_what_one_by_one_gives_in_order_and_streams() -> None:
    items = [(f"\\boxed{{{a}}}", t, k, 0.0) for a, t, k, _ in PAIRS if a and k != "code"] * 2
    drawn = 0

    def source() -> object:
        nonlocal drawn
        for item in items:
            drawn += 1
            yield item

    verdicts = verifier.verify_many(source(), workers=2)
    first = next(verdicts)
    assert drawn <= verifier.WAITING + 2  # no more is read than is under way
    assert [first.correct, *(v.correct for v in verdicts)] == [
        verifier.verify(*item[:3]).correct for item in items
    ]


def test_the_command_explains_a_verdict() -> None:
    said = subprocess.run(
        [sys.executable, "-m", "ccpo", "verify", "so \\boxed{\\frac{1}{2}}", "50\\%"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "from the last box" in said
    assert "= 1/2" in said
    assert "= 50 %" in said
    assert said.rstrip().endswith("verdict: correct")
