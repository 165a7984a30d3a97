"""Do results hold on another processor? `python benchmarks/kernels.py A/stats.json B/stats.json`

Both are statistics of the same experiment, the one made with this machine's kernels, the other with
those of an older processor (`make reproduce KERNELS=lowest` in a clone of its own). Both started
from the same pinned base models and drew from the same random streams, so that a training seed
differs in rounding alone: each row is a paired difference over seeds. Of so many rows one in twenty
leaves 0 out of its interval by chance; what does so after Holm's adjustment over the table is a
defect.

Prints a table in Markdown; exit code 1 if a row differs so.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from ccpo import schema
from ccpo.evaluate import stats as st


def rows(
    a: dict[str, Any], b: dict[str, Any]
) -> list[tuple[str, dict[int, float], dict[int, float]]]:
    """Name and values by seed on both sides: accuracies and declared differences, by decoding."""
    out = []
    for label, condition in a["conditions"].items():
        other = b["conditions"][label]
        for decoding, words in condition["decodings"].items():
            sides = [c["accuracy"][c["benchmark"]][decoding]["factual"] for c in (condition, other)]
            name = f"{label}, {words['words']}"
            out.append((name, *({int(s): v for s, v in side["by_seed"].items()} for side in sides)))
    for mine, theirs in zip(a["comparisons"], b["comparisons"], strict=True):
        words = a["conditions"][mine["a"]]["decodings"]
        for decoding, row in mine["decodings"].items():
            name = f"{mine['a']} − {mine['b']}, {words[decoding]['words']}"
            sides = [row, theirs["decodings"][decoding]]
            out.append(
                (name, *(dict(zip(s["seeds"], s["differences"], strict=True)) for s in sides))
            )
    return out


def shown(values: dict[int, float]) -> str:
    """A mean over seeds with its interval, in percent or points."""
    row = st.interval(list(values.values()))
    band = (
        "" if row.ci_low is None else f" [{100 * row.ci_low:.1f}, {100 * (row.ci_high or 0):.1f}]"
    )
    return f"{100 * row.mean:.1f}{band}"


def main() -> int:
    """Prints the table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("a", type=Path, help="stats.json of one machine")
    options.add_argument("b", type=Path, help="stats.json of the other")
    chosen = options.parse_args()
    found = rows(schema.read_json(chosen.a), schema.read_json(chosen.b))
    differences = [st.compare(a, b) for _, a, b in found]
    adjusted = st.holm([difference["p"] for difference in differences])  # type: ignore[misc]
    print("| | A | B | A − B, paired | p | Holm p |")
    print("|---|---|---|---|---|---|")
    for (name, a, b), difference, p in zip(found, differences, adjusted, strict=True):
        chances = " | ".join("–" if x is None else f"{x:.2g}" for x in (difference["p"], p))
        print(f"| {name} | {shown(a)} | {shown(b)} | {st.points(difference)} | {chances} |")
    beyond = sum(p is not None and p < 0.05 for p in adjusted)
    alone = sum(d["p"] is not None and d["p"] < 0.05 for d in differences)  # type: ignore[operator]
    print(f"\n{beyond} of {len(found)} rows differ after Holm's adjustment, {alone} without it")
    return 1 if beyond else 0


if __name__ == "__main__":
    sys.exit(main())
