"""In what two compared conditions differ beside what their methods are: what else could explain
the difference of their results."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ccpo.config.run import RunConfig, flat

if TYPE_CHECKING:
    from ccpo.config.experiment import Experiment

# What a method is: how it assigns credit, and what that is compared with. Policies, objective,
# fan-out, sizes are no part of it, even where its paper has its own.
METHOD = ("credit", "advantage")


def differences(a: RunConfig, b: RunConfig) -> dict[str, tuple[object, object]]:
    """Keys of a run in which two conditions differ, as `train.order`, with both values; without
    those of METHOD, the seed, and a critic that only one of the methods asks for. None: not set.
    """
    omitted = {*METHOD, "seed", "model"}
    if a.critic is None or b.critic is None:
        omitted.add("critic")
    one = {**flat(a.model_dump(mode="json", exclude=omitted)), "model": a.base}
    other = {**flat(b.model_dump(mode="json", exclude=omitted)), "model": b.base}
    keys = dict.fromkeys([*one, *other])
    pairs = {key: (one.get(key), other.get(key)) for key in keys}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def compared(experiment: Experiment) -> list[str]:
    """A line for each comparison of an experiment that is not of methods alone."""
    lines = []
    for a, b in experiment.compare:
        one, other = (next(iter(experiment.runs[label].values())) for label in (a, b))
        pairs = differences(one, other).items()
        if pairs:
            settings = "; ".join(
                f"{key} {_shown(left)} and {_shown(right)}" for key, (left, right) in pairs
            )
            lines.append(f"{a} and {b} differ beside their methods in {settings}")
    return lines


def _shown(value: object) -> str:
    return "not set" if value is None else str(value)
