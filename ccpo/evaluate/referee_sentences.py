"""Sentences on where numbers come from, generated from the statistics: in which agent a gain lives,
what a variance is made of, on which choices a claim hangs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ccpo.evaluate.sentences import clear, points
from ccpo.publish.referee_statistics import HalfWidths, Matching, Specification, Variances
from ccpo.publish.statistics import Row


@dataclass(frozen=True)
class Lives:
    """Where a gain lives: its total, what each agent adds alone, and their fit; their roles."""

    total: Row
    agents: Sequence[Row]
    fit: Row
    roles: Sequence[str]


def lives(a: str, b: str, gain: Lives) -> str:
    """Where the gain of b's team over a's lives."""
    one_role = len(set(gain.roles)) < len(gain.roles)
    names = [f"agent {i}" if one_role else role for i, role in enumerate(gain.roles)]
    first = names[0] if one_role else f"the {names[0]}"
    parts = ", ".join(
        f"{points(row)} come with {first} of {b} in the company of {a}"
        if i == 0
        else f"{points(row)} with its {name}"
        for i, (name, row) in enumerate(zip(names, gain.agents, strict=True))
    )
    text = (
        f"Of the {points(gain.total)} points of {b} over {a}, {parts}, and {points(gain.fit)} only "
        "when they come together."
    )
    alone = [name for name, row in zip(names, gain.agents, strict=True) if clear(row)]
    if not clear(gain.total):
        return f"{text} The gain itself is not clear."
    if not alone and clear(gain.fit):
        return f"{text} It lives in their fit."
    return text


SOURCES = {
    "base": "the base model",
    "seed": "the training seed",
    "item": "which tasks are asked",
    "seed_item": "which tasks which seed learns",
    "draw": "which answers are drawn",
    "grader": "the grader",
    "tie": "the tie rule",
}


def spent(number: str, unit: str, parts: Variances, half: HalfWidths) -> str:
    """Where the variance of a number comes from, the largest part first, and what more effort makes
    of its interval.
    """
    known = {name: value for name in SOURCES if (value := getattr(parts, name)) is not None}
    total = sum(known.values())
    if parts.seed is None:
        return f"{number}: one seed cannot tell what its variance is made of."
    if not total:
        return f"{number}: nothing varies."
    names = dict(SOURCES)
    if parts.base is None and unit == "base model":
        names["seed"] = "the training seed with its base model"
    shares = sorted(known.items(), key=lambda item: -item[1])
    listed = ", ".join(
        f"{100 * value / total:.0f} % from {names[name]}"
        for name, value in shares
        if value >= 0.005 * total
    )
    text = f"{number}: of its variance {listed}."
    if half.now is None:
        return text
    more = {
        f"one {unit} more": half.replicate,
        "one more sample a task": half.sample,
        "100 more tasks": half.tasks,
    }
    bought = ", ".join(f"{100 * value:.1f} with {what}" for what, value in more.items() if value)
    return (
        f"{text} Its interval over {unit}s is ± {100 * half.now:.1f} points; predicted: {bought}."
    )


@dataclass(frozen=True)
class Compared:
    """A comparison under every choice, and how far its training was apart in each resource."""

    a: str
    b: str
    specifications: Sequence[Specification]
    matchings: Sequence[Matching]


def hangs(compared: Compared) -> str:
    """Whether a claim hangs on a choice: under how many it stands, how far estimates go, and which
    choice moves them most.
    """
    rows = compared.specifications
    declared = next(row for row in rows if row.declared)
    counts = Counter(row.verdict for row in rows)
    low = min(row.mean for row in rows)
    high = max(row.mean for row in rows)
    text = (
        f"{compared.a} against {compared.b}, {points(declared)} points as declared: above under "
        f"{counts['above']} of {len(rows)} choices, below under {counts['below']}, not clear under "
        f"{counts['not clear']}; estimates go from {100 * low:+.1f} to {100 * high:+.1f}"
    )
    if (most := moves(rows)) and most.high.mean > most.low.mean:
        text += (
            f". The {most.choice} moves answers most: from {100 * most.low.mean:+.1f} "
            f"({most.low.level}) to {100 * most.high.mean:+.1f} ({most.high.level})"
        )
    if rewards := [row for row in rows if not row.tasks]:
        each = [f"{points(row)} {row.choices['compared']}" for row in rewards]
        text += f". In the reward of training: {', '.join(each)}"
    apart = [
        f"{row.resource} {'' if row.matched else 'do not '}match ({100 * row.apart:.0f} % apart)"
        for row in compared.matchings
    ]
    return f"{text}. What training took: {', '.join(apart)}." if apart else f"{text}."


@dataclass(frozen=True)
class Level:
    """A value of a choice, and the mean estimate under it."""

    level: str
    mean: float


@dataclass(frozen=True)
class Moved:
    """How far a choice moves estimates: its lowest and its highest level."""

    choice: str
    low: Level
    high: Level


def moves(rows: Sequence[Specification]) -> Moved | None:
    """The choice whose levels' mean estimates are furthest apart, of those that answers are read
    by; None where nothing is chosen.
    """
    answered = [row for row in rows if row.tasks]
    out = []
    for choice in dict.fromkeys(name for row in answered for name in row.choices):
        levels: dict[str, list[float]] = {}
        for row in answered:
            if choice in row.choices:
                levels.setdefault(row.choices[choice], []).append(row.mean)
        means = [Level(name, sum(values) / len(values)) for name, values in levels.items()]
        if len(means) > 1:
            ordered = sorted(means, key=lambda level: level.mean)
            out.append(Moved(choice, ordered[0], ordered[-1]))
    return max(out, key=lambda moved: moved.high.mean - moved.low.mean, default=None)
