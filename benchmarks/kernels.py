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

from ccpo.evaluate import sentences
from ccpo.evaluate import stats as st
from ccpo.publish.statistics import FACTUAL, TrainingStatistics, read_training


def rows(
    a: TrainingStatistics, b: TrainingStatistics
) -> list[tuple[str, dict[int, float], dict[int, float]]]:
    """Name and values by seed on both sides: accuracies and declared differences, by decoding."""
    out = []
    for label, condition in a.conditions.items():
        for decoding, drawn in condition.decodings.items():
            ours = condition.under(decoding)[FACTUAL].by_seed
            theirs = b.conditions[label].under(decoding)[FACTUAL].by_seed
            out.append((f"{label}, {drawn.words}", ours, theirs))
    for comparison, other in zip(a.comparisons, b.comparisons, strict=True):
        words = a.conditions[comparison.a].decodings
        for decoding, row in comparison.decodings.items():
            name = f"{comparison.a} − {comparison.b}, {words[decoding].words}"
            out.append((name, row.by_seed, other.decodings[decoding].by_seed))
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
    found = rows(read_training(chosen.a), read_training(chosen.b))
    differences = [
        st.compare({seed: a[seed] - b[seed] for seed in set(a) & set(b)}) for _, a, b in found
    ]
    adjusted = st.holm([difference.p for difference in differences])
    print("| | A | B | A − B, paired | p | Holm p |")
    print("|---|---|---|---|---|---|")
    for (name, a, b), difference, p in zip(found, differences, adjusted, strict=True):
        chances = " | ".join("–" if x is None else f"{x:.2g}" for x in (difference.p, p))
        print(f"| {name} | {shown(a)} | {shown(b)} | {sentences.points(difference)} | {chances} |")
    beyond = sum(p is not None and p < 0.05 for p in adjusted)
    alone = sum(d.p is not None and d.p < 0.05 for d in differences)
    print(f"\n{beyond} of {len(found)} rows differ after Holm's adjustment, {alone} without it")
    return 1 if beyond else 0


if __name__ == "__main__":
    sys.exit(main())
