"""Sentences, generated from the statistics, never typed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ccpo.evaluate.stats import LEAST, LEVEL
from ccpo.publish.panel_statistics import Alarm
from ccpo.publish.statistics import (
    DecodedDifference,
    Difference,
    GainRow,
    Interval,
    Row,
    Verdict,
)


def decoded(temperature: float) -> str:
    """How a decoding is called in a sentence."""
    return "greedily" if temperature == 0 else f"at temperature {temperature:g}"


def counted(row: Difference) -> str:
    """What an interval is over, in words."""
    if row.unit == "base model":
        return f"{row.n} base models, each with a training seed or more of its own"
    return f"{row.n} paired seeds of one base model" if row.n > 1 else "1 seed"


def points(row: Interval) -> str:
    """A difference in percentage points with its interval."""
    return signed(row.mean, row.ci_low, row.ci_high)


def signed(mean: float, low: float | None, high: float | None) -> str:
    """A difference in percentage points with its interval, where there is one."""
    if low is None or high is None:
        return f"{100 * mean:+.1f}"
    return f"{100 * mean:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def percent(row: Interval) -> str:
    """A share in per cent with its interval."""
    if row.ci_low is None or row.ci_high is None:
        return f"{100 * row.mean:.1f}"
    return f"{100 * row.mean:.1f} [{100 * row.ci_low:.1f}, {100 * row.ci_high:.1f}]"


def seeds(numbers: Sequence[int]) -> str:
    """Seeds as they are listed in a sentence."""
    word = "seed" if len(numbers) == 1 else "seeds"
    return f"{word} {', '.join(map(str, numbers))}"


@dataclass(frozen=True)
class Declared:
    """A declared comparison: what is compared, in a family of how many, and the smallest effect
    that matters; `temperature` of the primary decoding.
    """

    a: str
    b: str
    family: int
    effect: float
    temperature: float = 0.0


@dataclass(frozen=True)
class Tested:
    """Its numbers, and the p of a difference and of equivalence after Holm's adjustment."""

    row: Difference
    p_holm: float | None
    p_equivalent_holm: float | None


@dataclass(frozen=True)
class Means:
    """What a design can find: the smallest true difference with 80 % power, and the replicates that
    find the declared effect so.
    """

    detectable: float | None
    needed: int | None


def verdict(tested: Tested) -> Verdict:
    """What the numbers of a comparison allow to say: nothing below LEAST replicates."""
    if tested.row.n < LEAST:
        return "not decidable"
    if tested.p_holm is not None and tested.p_holm < 1 - LEVEL:
        return "above" if tested.row.mean > 0 else "below"
    if tested.p_equivalent_holm is not None and tested.p_equivalent_holm < 1 - LEVEL:
        return "equivalent"
    return "not decidable"


def claim(declared: Declared, tested: Tested, means: Means, reserves: Sequence[str] = ()) -> str:
    """The sentence that the numbers of a comparison allow, with what must be said beside it
    (`reserves`) in the same sentence.
    """
    row = tested.row
    pair = f"{declared.a} against {declared.b}"
    beside = "".join(f"; {reserve}" for reserve in reserves)
    if row.n < LEAST:
        few = f"{row.n} {row.unit}" + ("s" if row.n > 1 else "")
        numbers = f"{points(row)} points; " if row.n > 1 else ""
        return f"{pair}: not decidable with {few}: {numbers}a claim needs {LEAST}{beside}."
    how = f"Answering {decoded(declared.temperature)}"
    over = f"{points(row)} points (95 % interval over {counted(row)}"
    effect = f"{100 * declared.effect:g} points"
    verdict_of_it = verdict(tested)
    if verdict_of_it == "equivalent":
        return (
            f"{how}, {declared.a} and {declared.b} are equivalent within {effect}: {over}; Holm p "
            f"of equivalence = {tested.p_equivalent_holm:.3g}){beside}."
        )
    numbers = f"{over}; Holm p = {_p(tested.p_holm)})"
    if verdict_of_it == "not decidable":
        return (
            f"{how}, {pair} is not decidable with {row.n} {row.unit}s: {numbers}; "
            f"{_decidable(means, effect, row)}{beside}."
        )
    small = tested.p_equivalent_holm is not None and tested.p_equivalent_holm < 1 - LEVEL
    less = f", by less than the {effect} that matter" if small else ""
    return f"{how}, {declared.a} is {verdict_of_it} {declared.b}{less}: {numbers}{beside}."


def repeated(repeat: str, of: str, row: Difference, temperature: float) -> str:
    """What a condition and its repeat with other seeds differ by. It is no claim."""
    over = "1 pair of seeds"
    if row.n > 1:
        over = f"95 % interval over {row.n} pairs of {row.unit}s"
    text = (
        f"{repeat} repeats {of} with other seeds: answering {decoded(temperature)}, chance alone "
        f"makes them differ by {points(row)} points ({over})"
    )
    if row.n >= LEAST and row.p is not None and row.p < 1 - LEVEL:
        text += f", more than it does in one of twenty such pairs (p = {_p(row.p)})"
    return f"{text}."


def _p(value: float | None) -> str:
    """p = 0 is never true."""
    if value is None:
        return "unknown"
    return f"{value:.3g}" if value > 0 else "0 to machine precision"


def _decidable(means: Means, effect: str, row: Difference) -> str:
    """What would be decided."""
    if means.detectable is None:
        return "no spread is known, so nothing is known of what they could find"
    needs = (
        f"{means.needed} {row.unit}s find {effect}"
        if means.needed
        else f"no affordable number finds {effect}"
    )
    return f"with 80 % power so many find {100 * means.detectable:.1f} points or more, and {needs}"


@dataclass(frozen=True)
class Gained:
    """What training added to the untrained team: under each decoding, and beyond what the
    untrained team has at its best decoding, where it is right as often as `untrained`.
    """

    by_decoding: Mapping[str, GainRow]
    beyond: Row
    best: str
    untrained: Row


def gained(label: str, gain: Gained, temperatures: Mapping[str, float], primary: str) -> str:
    """What training added under each decoding, and how much of it a lower temperature gives the
    untrained team, too; seeds that lost.
    """
    each = "; ".join(
        f"{decoded(temperatures[name])} {points(row)}" for name, row in gain.by_decoding.items()
    )
    text = (
        f"{label} gained over its own untrained team, in points: {each}. The untrained team is "
        f"best {decoded(temperatures[gain.best])}, {percent(gain.untrained)} % right; beyond what "
        f"temperature alone gives, training added {points(gain.beyond)} "
        f"({decoded(temperatures[primary])})."
    )
    sampled = [row for name, row in gain.by_decoding.items() if temperatures[name] == 1]
    if _only_surer([(row, row.apart) for row in sampled], gain.beyond):
        text += (
            " Its gain at temperature 1 is no more than temperature alone gives: sharpening, "
            "as far as these seeds tell."
        )
    by_seed = gain.by_decoding[primary].by_seed if primary in gain.by_decoding else {}
    if lost := [seed for seed, added in by_seed.items() if added < 0]:
        text += (
            f" Of {len(by_seed)} seeds {len(lost)} ended below the untrained team "
            f"{decoded(temperatures[primary])} ({seeds(lost)})."
        )
    return text


def gained_by_leak(sentence: str, alarms: Sequence[Alarm]) -> str:
    """The sentence of a gain, and beside it the alarms of answers that are given away."""
    leaks = [alarm.sentence for alarm in alarms if alarm.name == "leaks the answer"]
    if not leaks:
        return sentence
    return f"{sentence} It is no gain of working together: {' '.join(leaks)}"


def leaking(label: str, alarms: Sequence[Alarm]) -> list[str]:
    """What must be said beside a claim about a condition whose agents give the answer away."""
    leaks = [str(alarm.agent) for alarm in alarms if alarm.name == "leaks the answer"]
    return [f"in {label} agent {agent} leaks the answer" for agent in leaks]


def scope(bases: Sequence[Sequence[str]], tasks: int) -> str:
    """What the intervals of an experiment are over, and what they say nothing about. `bases`: of
    each condition the base model of each seed; conditions with other designs are said one by one.
    """
    units = "; ".join(dict.fromkeys(_unit(of_seeds) for of_seeds in bases))
    return (
        f"{units}, and over the answers drawn for {tasks} test tasks. They say nothing of other "
        "recipes, other tasks, or of a machine "
        "whose kernels round otherwise, unless such results stand beside these."
    )


def _unit(bases: Sequence[str]) -> str:
    n = len(set(bases))
    if n == 1 and len(bases) == 1:
        return f"One training seed of one base model, {bases[0]}: no interval over seeds"
    if n == 1:
        return f"Intervals are over {len(bases)} training seeds of one base model, {bases[0]}"
    recipes = " with ".join(
        dict.fromkeys(part.split("/")[0] for base in bases for part in base.split("+"))
    )
    own = (
        "a training seed of its own"
        if n == len(bases)
        else "training seeds of its own, which are averaged first"
    )
    return f"Intervals are over {n} base models of the recipe {recipes}, each with {own}"


def elsewhere(
    rows: Mapping[str, DecodedDifference], primary: str, temperatures: Mapping[str, float]
) -> str:
    """The same difference under the other decodings, unadjusted; and where it is there at
    temperature 1, not greedily, and clearly larger than greedily (`apart`), what that means. That
    it is not decided greedily alone means nothing.
    """
    others = [
        f"{decoded(temperatures[name])} {points(row)}"
        for name, row in rows.items()
        if name != primary
    ]
    if not others:
        return ""
    sampled = [(row, row.apart) for name, row in rows.items() if temperatures[name] == 1]
    surer = temperatures[primary] == 0 and _only_surer(sampled, rows[primary])
    tail = (
        " What differs at temperature 1 and not greedily is how sure the teams are, not what "
        "they know."
        if surer
        else ""
    )
    return f"The same {'; '.join(others)}.{tail}"


def _only_surer(sampled: Sequence[tuple[Interval, Interval]], greedy: Interval) -> bool:
    """Whether something is there at temperature 1, is not there greedily, and is clearly (paired)
    larger sampled than greedily. Not being decided greedily is alone no sign of it.

    sampled: what there is at temperature 1, and how far it is from what there is greedily.
    """
    return not clear(greedy) and any(clear(row) and clear(apart) for row, apart in sampled)


def side(row: Interval) -> Literal["above", "below", "not clear"]:
    """On which side of 0 an unadjusted interval lies."""
    if not clear(row):
        return "not clear"
    return "above" if row.mean > 0 else "below"


def clear(row: Interval) -> bool:
    """Whether an interval over enough replicates for a claim leaves 0 out."""
    if row.n < LEAST or row.ci_low is None or row.ci_high is None:
        return False
    return row.ci_low > 0 or row.ci_high < 0
