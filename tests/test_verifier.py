"""The verifier against verdicts given by hand, its time limits, threads, bulk, and the command that
explains it.
"""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import threading

import pytest
import trials

from ccpo.grade import answers, process, verifier

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


HUGE = "\\binom{9999999}{4999999}"  # written out in C, where no signal reaches


def test_an_answer_that_never_ends_is_wrong_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifier, "SECONDS", 1.0)
    verifier.equal("\\sqrt{8}", "2\\sqrt{2}", "expression")  # the worker is up
    reply = process.mine().ask(
        [
            {"do": "sleep"},
            *[{"do": "equal", "answer": "1", "truth": "1", "kind": "number", "tolerance": 0}] * 2,
        ],
        [1.0] * 3,
    )
    assert [r and r["correct"] for r in reply] == [
        None,
        True,
        True,
    ]  # what came after it is answered all the same
    assert verifier.equal("\\sqrt{18}", "3\\sqrt{2}", "expression")


def test_threads_get_right_verdicts_side_by_side() -> None:
    hard = [(f"\\sqrt{{{8 * k * k}}}", f"{2 * k}\\sqrt{{2}}", k) for k in range(1, 13)]
    out: dict[int, bool] = {}

    def work(rows: list[tuple[str, str, int]]) -> None:
        for a, t, k in rows:
            out[k] = verifier.equal(a, t, "expression")
            out[-k] = verifier.equal(a, t + "+1", "expression")
        process.mine().stop()

    threads = [threading.Thread(target=work, args=(hard[i::2],)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert out == {s * k: s > 0 for k in range(1, 13) for s in (1, -1)}


def _forked(queue: multiprocessing.Queue) -> None:  # type: ignore[type-arg]
    queue.put(verifier.equal("\\sqrt{50}", "5\\sqrt{2}", "expression"))
    process.mine().stop()


def test_a_forked_daemon_worker_gets_its_own_judge() -> None:
    """Where a process pool would refuse to have children, and where two processes would read one
    pipe.
    """
    assert verifier.equal("\\sqrt{32}", "4\\sqrt{2}", "expression")
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=_forked, args=(queue,), daemon=True)
    process.start()
    assert queue.get(timeout=60) is True
    process.join()
    assert verifier.equal("\\sqrt{72}", "6\\sqrt{2}", "expression")


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
    assert drawn <= verifier.CHUNK * 6  # no more is read than is under way
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
