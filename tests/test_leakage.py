"""Whether a thought gives the answer away, against cases given by hand, and how often by chance."""

from __future__ import annotations

import random
import time

import pytest

from ccpo.benchmark import checks
from ccpo.grade.leakage import MOST, leaks, leaks_many
from ccpo.team import guard

GIVES = [
    ("3+4=7 then 5", "7", "number"),  # not the last number alone
    ("first \\boxed{7}, then 5", "7", "number"),
    ("1,200 dollars in all", "1200", "number"),
    ("which is \\frac{1}{2} of it", "0.5", "number"),
    ("that is 50% of it", "\\frac{1}{2}", "number"),
    ("so we have \\boxed{\\sqrt{8}} and then 5", "2\\sqrt{2}", "expression"),
    ("The answer is x+1.\nPass it on.", "1+x", "expression"),
    ("I think the answer is B.\nCheck it.", "B", "choice"),
    ("A. cat\nB. dog\nThe answer is (A).", "A", "choice"),
    ("Use\n```python\ndef f(x): return x + 1\n```", checks(["f(1)"], [2]), "code"),
]
KEEPS = [
    ("3+4=7 then 5", "8", "number"),
    ("17 and 70", "7", "number"),
    ("x7 and 0.7", "7", "number"),
    ("", "7", "number"),
    ("compare 2.828 and 3", "2\\sqrt{2}", "expression"),
    ("first 1, then 2", "(1,2)", "tuple"),
    ("A. cat\nB. dog\nC. mouse", "B", "choice"),
    ("B", "A", "choice"),
    ("add one to x", checks(["f(1)"], [2]), "code"),
    ("```python\ndef f(x): return x\n```", checks(["f(1)"], [2]), "code"),
]


@pytest.mark.parametrize(("thought", "truth", "kind"), GIVES)
def test_a_thought_that_holds_the_answer_leaks(thought: str, truth: str, kind: str) -> None:
    assert leaks(thought, truth, kind)


@pytest.mark.parametrize(("thought", "truth", "kind"), KEEPS)
def test_a_thought_that_does_not_hold_it_does_not(thought: str, truth: str, kind: str) -> None:
    assert not leaks(thought, truth, kind)


def test_what_the_guard_takes_out_does_not_leak() -> None:
    assert leaks("plan \\boxed{7}", "7", "number")
    assert not leaks(guard("plan \\boxed{7}"), "7", "number")


def test_chance_meets_small_truths_and_not_large_ones() -> None:
    """Thoughts of ten random numbers below 20 hold another below 20 with 1 - (19/20)^10 = 0.40,
    one below 10^6 hardly ever.
    """
    draw = random.Random(0)
    thoughts = [" ".join(str(draw.randrange(20)) for _ in range(10)) for _ in range(400)]
    small = [(t, str(draw.randrange(20)), "number", 0.0) for t in thoughts]
    large = [(t, str(draw.randrange(10**6)), "number", 0.0) for t in thoughts]
    assert abs(sum(leaks_many(small)) / 400 - 0.4013) < 0.1  # four standard errors
    assert sum(leaks_many(large)) <= 2
    assert list(leaks_many(small[:50], 2)) == [leaks(*item) for item in small[:50]]


def test_a_long_thought_takes_little_time() -> None:
    long = " ".join(str(k) for k in range(10**5))
    start = time.process_time()
    assert not leaks(long, "2\\sqrt{2}", "expression")
    assert leaks(long, str(10**5 - MOST), "number")  # the last ones are looked at
    assert time.process_time() - start < 3
