"""Verdicts against right verdicts: `python benchmarks/graders.py CASES.jsonl` lists what is wrongly
accepted and what is wrongly refused, each by its number; without a file every truth of every set is
said in five ways (a box, bare, a sentence, <answer>, behind a thought) and must be accepted.

A line of the file has `id`, `prediction`, `truth`, `kind` ("": as a benchmark would type the
truth), `correct` and `why`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from mutated_keys import keys

from ccpo.benchmark import _math
from ccpo.grade import verifier

WAYS = (
    "so \\boxed{%s}.",
    "%s",
    "The answer is %s.",
    "Let me see.\n<answer>%s</answer>",
    "<think>Or \\boxed{0}? no.</think>\nSo it is \\boxed{%s}",
)


def cases(path: Path) -> Iterator[str]:
    """What the verifier says otherwise than the file, and the counts."""
    wrong = {True: 0, False: 0}
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        kind = row["kind"] or _math.kind_of(row["truth"])
        verdict = verifier.verify(row["prediction"], row["truth"], kind)
        if verdict.correct is not row["correct"]:
            wrong[verdict.correct] += 1
            what = "wrong accept" if verdict.correct else "wrong reject"
            yield f"{what} {row['id']}: {verdict.answer!r} for {row['truth']!r} ({row['why']})"
    yield f"{len(rows)} replies, {wrong[True]} wrong accepts, {wrong[False]} wrong rejects"


def truths() -> Iterator[str]:
    """Truths that are not accepted when they are said, and the counts by set."""
    counts: dict[str, int] = {}
    refused = 0
    for name, task in keys():
        counts[name] = counts.get(name, 0) + 1
        for way in WAYS:
            text = way % task.truth
            if not verifier.verify(text, task.truth, task.kind, task.tolerance).correct:
                refused += 1
                yield f"refused: {name} {task.task_id} ({task.kind}), {text!r}"
    yield f"{counts}: {len(WAYS)} ways each, {refused} refused"


def main() -> None:
    """Prints both."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", type=Path, nargs="?")
    path = parser.parse_args().cases
    for line in cases(path) if path else truths():
        print(line)


if __name__ == "__main__":
    main()
