"""What the page says of the numbers behind its claims: on which choices they hang, what their
variance is made of, and in which agent a gain lives.
"""

from __future__ import annotations

import html
from collections.abc import Iterator

from ccpo.publish import page
from ccpo.publish.cross_statistics import CrossPlay
from ccpo.publish.statistics import TrainingStatistics


def parts(numbers: TrainingStatistics) -> Iterator[str]:
    """The parts of the page, where there is something to say."""
    if numbers.curves:
        lines = [html.escape(curve.sentence) for curve in numbers.curves]
        yield f"<h2>What the claims hang on</h2>{page.listed(lines)}"
    if numbers.budgets:
        lines = [html.escape(row.sentence) for row in numbers.budgets]
        yield (
            "<h2>What the variance is made of</h2>"
            + page.folded("By condition and comparison", page.listed(lines))
        )
    for play in numbers.cross:
        yield _crossed(play, {(c.b, c.a) for c in numbers.comparisons})


def _crossed(play: CrossPlay, declared: set[tuple[str, str]]) -> str:
    """Sentences of the declared comparisons in full, of the other pairs folded."""
    missing = [f"These statistics are partial: {html.escape(text)}." for text in play.left_out]
    claimed = [html.escape(g.sentence) for g in play.gains if (g.a, g.b) in declared]
    others = [html.escape(g.sentence) for g in play.gains if (g.a, g.b) not in declared]
    scope = (
        f"Agents of different conditions together on {play.tasks} tasks of {play.benchmark}, "
        f"answering {play.decoding}, each training seed with itself ({len(play.seeds)} seeds)."
    )
    title = f"Where gains live: {html.escape(play.team)}"
    listed = page.listed([scope, *missing, *claimed])
    return f"<h2>{title}</h2>{listed}" + page.folded("All pairs", page.listed(others))
