"""The papers' graders, held to the verdicts that were observed of their official code."""

from __future__ import annotations

import pytest

from ccpo.grade import paper_graders, verifier

BOX = "\\boxed{%s}"
C3 = [
    *[
        (BOX % a, t, True)
        for a, t in [
            ("12.4", "12"),
            ("100.4", "100"),
            ("3.2", "3.14159"),
            ("0.34", "1/3"),
            ("1.4", "\\sqrt{2}"),
        ]
    ],
    *[
        (BOX % a, t, True)
        for a, t in [("1.45", "\\sqrt{2}"), ("x=5", "5"), ("50%", "50"), ("50\\%", "50")]
    ],
    *[
        (BOX % a, t, False)
        for a, t in [("0.5", "50\\%"), ("3,4", "4,3"), ("13", "12"), ("1.6", "\\sqrt{2}")]
    ],
    ("The answer is 7", "7", False),
    ("The answer: 7", "7", True),
    ("\\boxed{8} #### 7", "8", True),
    ("\\boxed{8}\n#### 7", "7", True),
    ("Error is \\boxed{5}", "5", False),
]
CCPO = [
    (BOX % "x=5, y=3", "3", True),
    (BOX % "y=2x+3", "y=2x+3", False),
    (BOX % "4.5 \\times 10^{33}", "4.5e33", False),
    (BOX % "1.58", "1.6", False),
    (BOX % "4,3", "3,4", False),
    (BOX % "3,4", "3,4", True),
    (BOX % "a+b+c", "c+b+a", False),
    (BOX % "b+a", "a+b", True),
    (BOX % "2/6", "1/3", False),
    ("the value must be 7", "7", True),
    ("The answer is 7.", "7", True),
    (BOX % "8", "7", False),
]


@pytest.mark.parametrize(("text", "truth", "says"), C3)
def test_c3(text: str, truth: str, says: bool) -> None:
    assert paper_graders.verdict("c3", text, truth, "set" if "," in truth else "number") is says


@pytest.mark.parametrize(("text", "truth", "says"), CCPO)
def test_ccpo(text: str, truth: str, says: bool) -> None:
    kind = (
        "equation"
        if "=" in truth
        else "set"
        if "," in truth
        else "expression"
        if "b" in truth
        else "number"
    )
    assert paper_graders.verdict("ccpo", text, truth, kind) is says


def test_they_differ_from_us_where_they_are_wrong() -> None:
    """Of the observed verdicts, these many are errors of theirs by our trials."""
    wrong = [
        (x, t)
        for x, t, says in C3[:7]
        if "x=" not in x and says and not verifier.verify(x, t, "number").correct
    ]
    assert len(wrong) == 6
    assert paper_graders.verdict("c3", "A", "B", "choice") is None
    with pytest.raises(ValueError, match="unknown grader"):
        paper_graders.verdict("c4", "A", "B", "number")
