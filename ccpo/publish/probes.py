"""The part of a report that says what credit is worth on the experiment's own runs."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence

from ccpo.publish import page
from ccpo.publish.probe_statistics import ProbeRow, Probes

MESSAGES = (
    "condition",
    "share of training",
    "turn, agent",
    "outcome, mean",
    "contexts with mixed outcomes, %",
    "reliability of the target",
    "influence, nats",
    "of the answer's entropy",
    "influence of shuffled messages, at most",
    "counted without correction",
    "the same of shuffled messages",
    "published, texts",
    "published, outcomes",
)
CREDIT = (
    "condition",
    "share of training",
    "turn, agent",
    "method",
    "calls",
    "fidelity",
    "of shuffled credit, at most",
    "variance over the exact advantage's",
    "slope of the target",
    "published fidelity, candidate 0",
    "all candidates",
    "published variance",
)
NOTE = (
    "Credit of one half of the candidates and replays against a target from the other ones, on "
    "frozen contexts of test tasks; 1 is the exact advantage, as far as the target's own "
    "reliability allows to tell. A dash: the target has no spread that can be told from noise, or "
    "nothing follows the message. The published definitions take both sides from the same draws "
    "(fidelity) and correct nothing (influence). Means over seeds with 95 % intervals."
)


def part(probes: Probes) -> str:
    """The section, less its heading."""
    turns = list(dict.fromkeys((r.condition, r.at, r.turn, r.agent) for r in probes.rows))
    index = {(r.condition, r.at, r.turn, r.method, r.quantity): r for r in probes.rows}
    partial = [html.escape(f"Missing: {text}.") for text in probes.missing]
    sentences = [html.escape(sentence) for sentence in probes.sentences]
    left_out = [
        html.escape(f"{row.method} in {row.condition}: {row.reason}") for row in probes.left_out
    ]
    messages = page.table(MESSAGES, (_message(index, *turn) for turn in turns))
    credit = page.table(CREDIT, (row for turn in turns for row in _credit(probes, index, *turn)))
    return (
        f"<p>{NOTE}</p>"
        + page.listed([*partial, *sentences])
        + page.wide(messages)
        + page.wide(page.folded("By method", credit))
        + page.folded("Methods that a probe cannot measure", page.listed(left_out))
    )


Index = dict[tuple[str, float, int, str, str], ProbeRow]


def _message(index: Index, condition: str, at: float, turn: int, agent: int) -> list[str]:
    def cell(quantity: str, interval: bool = False) -> str:
        return _number(index.get((condition, at, turn, "", quantity)), interval)

    mixed = index.get((condition, at, turn, "", "mixed"))
    return [
        html.escape(condition),
        f"{at:.0%}",
        f"{turn}, {agent}",
        cell("reward", interval=True),
        f"{100 * mixed.mean:.0f}" if mixed else "–",
        cell("reliability"),
        cell("influence", interval=True),
        cell("entropy of the answer"),
        cell("influence floor"),
        cell("influence, uncorrected"),
        cell("influence, uncorrected, shuffled"),
        cell("published influence, texts"),
        cell("published influence, outcomes"),
    ]


def _credit(
    probes: Probes, index: Index, condition: str, at: float, turn: int, agent: int
) -> Iterator[Sequence[str]]:
    methods = [
        row.method
        for row in probes.of("correlation")
        if (row.condition, row.at, row.turn) == (condition, at, turn)
    ]
    for method in methods:
        rows = {
            quantity: index.get((condition, at, turn, method, quantity))
            for quantity in (
                *("calls", "fidelity", "floor", "variance", "slope"),
                *("published fidelity, real_only", "published fidelity, all_candidates"),
                "published variance, ddof 0",
            )
        }
        calls = rows.pop("calls")
        yield [
            html.escape(condition),
            f"{at:.0%}",
            f"{turn}, {agent}",
            html.escape(method),
            f"{calls.mean:.0f}" if calls else "–",
            *(_number(row, quantity == "fidelity") for quantity, row in rows.items()),
        ]


def _number(row: ProbeRow | None, interval: bool = False) -> str:
    """A mean, with its interval if asked for and the seeds that could tell; a dash for none."""
    if row is None:
        return "–"
    if not interval or row.ci_low is None:
        return f"{row.mean:.3f}"
    return f"{row.mean:.3f} <small>[{row.ci_low:.3f}, {row.ci_high:.3f}], n = {row.n}</small>"
