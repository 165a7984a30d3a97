"""What a paper printed beside what an experiment that follows it measured, value by value: the
difference with its interval, or why there is none. And in which settings the experiment is not as
the paper has it. As CSV, Markdown and LaTeX.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.stats
from tabulate import tabulate

from ccpo import lineage, manifest, schema
from ccpo.manifest import FollowedPaper, PlannedCondition, TrainingManifest, by_deviation
from ccpo.publish import arithmetic, published, statistics
from ccpo.publish.published import Missing, Published, Value
from ccpo.publish.statistics import FACTUAL, UNTRAINED, Condition, Interval, TrainingStatistics

LEVEL = 0.95
ANY_TEAM = "untrained"  # what a value's preset says where it is of the untrained team
SCALES = {"%": 100.0, "points": 100.0, "share": 1.0}


@dataclass(frozen=True)
class Line:
    """One printed value. Printed and measured numbers are in its unit."""

    key: str = ""
    source: str = ""
    how: str = ""
    method: str = ""
    team: str = ""
    model: str = ""
    benchmark: str = ""
    metric: str = ""
    unit: str = ""
    items: int | None = None
    runs: int | None = None
    published: str = ""  # with the digits as printed; "" where it could not be recovered
    spread: str = ""
    spread_kind: str = ""
    possible: str = (
        ""  # whether it can be what it says: yes, no, or "" where nothing can be checked
    )
    arithmetic: str = ""  # what was checked
    condition: str = ""
    reproduced: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    seeds: int | None = None
    difference: float | None = None  # reproduced minus published
    difference_low: float | None = None
    difference_high: float | None = None
    status: str = ""
    caveat: str = ""


def beside(planned: TrainingManifest, numbers: TrainingStatistics, known: Published) -> list[Line]:
    """A line for each value of the paper that an experiment follows, printed or known to be
    missing.

    Raises:
        ValueError: the experiment follows no paper.
    """
    paper = _paper(planned)
    printed = [
        _line(value, known.values, _measured(value, known.values, planned, numbers))
        for value in known.of(paper.name, paper.version)
    ]
    lost = [
        _lost(row)
        for row in known.missing
        if (row.paper, row.version) == (paper.name, paper.version)
    ]
    return [*printed, *lost]


@dataclass(frozen=True)
class Measured:
    """What an experiment has of a printed value: a condition's interval and what it is of by seed,
    or why there is none.
    """

    condition: str = ""
    row: Interval | None = None
    by_seed: Mapping[int, float] = field(default_factory=dict)
    bases: Mapping[int, str] = field(default_factory=dict)
    why: str = ""


def _measured(
    value: Value,
    values: Mapping[str, Value],
    planned: TrainingManifest,
    numbers: TrainingStatistics,
) -> Measured:
    """What an experiment has of an accuracy, or of the difference of two."""
    if value.unit == "points" and value.relation == "difference" and len(value.of) == 2:
        a, b = (_accuracy(values[key], planned, numbers) for key in value.of)
        return _paired(a, b)
    return _accuracy(value, planned, numbers)


def _paired(a: Measured, b: Measured) -> Measured:
    """a - b over the seeds that both have."""
    if a.row is None or b.row is None:
        return Measured(why=a.why or b.why)
    seeds = [seed for seed in a.by_seed if seed in b.by_seed]
    if not seeds:
        return Measured(why=f"{a.condition} and {b.condition} have no seed in common")
    gaps = {seed: a.by_seed[seed] - b.by_seed[seed] for seed in seeds}
    label = f"{a.condition} - {b.condition}"
    return Measured(label, average([gaps], a.bases), gaps, a.bases)


def _accuracy(value: Value, planned: TrainingManifest, numbers: TrainingStatistics) -> Measured:
    """The condition that measured it, of the same method, team, model, benchmark and
    temperature."""
    if value.metric != "accuracy" or value.unit not in SCALES or value.temperature is None:
        return Measured(why=f"{value.metric} is not among what this table compares")
    if not value.preset:
        return Measured(why=f"{value.method} has no preset")
    if not value.model_id:
        return Measured(why="its model is not named")
    same = [c for c in planned.conditions if _follows(c, value)]
    if not same:
        return Measured(why=f"no condition has {_wanted(value)}")
    finished = [c.label for c in same if c.label in numbers.conditions]
    if not finished:
        return Measured(why=f"no run of {same[0].label} is evaluated")
    return _in_condition(value, finished[0], numbers.conditions[finished[0]])


def _follows(condition: PlannedCondition, value: Value) -> bool:
    return (
        (value.preset == ANY_TEAM or condition.preset == value.preset)
        and (not value.team or condition.team == value.team)
        and model_ids(condition) == {value.model_id}
        and not condition.repeats
    )


def _wanted(value: Value) -> str:
    parts = {
        "preset": "" if value.preset == ANY_TEAM else value.preset,
        "team": value.team,
        "model": value.model_id,
    }
    return ", ".join(f"{name} {what}" for name, what in parts.items() if what)


def model_ids(condition: PlannedCondition) -> set[str]:
    """Ids on the hub of the models that a condition starts from; of others their names."""
    models = condition.config.get("model")
    ids = set()
    for model in models if isinstance(models, list) else [models]:
        if isinstance(model, Mapping):
            spec = model.get("spec")
            own = spec.get("id") if isinstance(spec, Mapping) else None
            ids.add(str(own or model.get("name")))
    return ids


def _in_condition(value: Value, label: str, condition: Condition) -> Measured:
    """A condition's accuracy, on several benchmarks their mean; or why there is none."""
    kind = UNTRAINED if value.preset == ANY_TEAM else FACTUAL
    names = value.benchmark.split()
    if absent := [name for name in names if name not in condition.accuracy]:
        return Measured(why=f"not evaluated on {' and '.join(absent)}")
    assert value.temperature is not None
    temperature = float(value.temperature)
    decoding = next(
        (name for name, d in condition.decodings.items() if d.temperature == temperature), ""
    )
    rows = [condition.accuracy[name].get(decoding, {}).get(kind) for name in names]
    played = [row for row in rows if row is not None]
    if len(played) < len(names):
        team = "" if kind == FACTUAL else f"the {kind} team is "
        return Measured(why=f"{team}not evaluated at temperature {temperature:g}")
    if len(played) == 1:
        return Measured(label, played[0], played[0].by_seed, condition.bases)
    by_seed = [row.by_seed for row in played]
    whole = average(by_seed, condition.bases)
    return Measured(label, whole, means(by_seed), condition.bases)


def means(by_seed: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """Unweighted means by seed, of the seeds that all have."""
    seeds = sorted(set.intersection(*(set(values) for values in by_seed)))
    return {seed: float(np.mean([values[seed] for values in by_seed])) for seed in seeds}


def average(by_seed: Sequence[Mapping[int, float]], bases: Mapping[int, str]) -> Interval:
    """Unweighted mean of several benchmarks and its t-interval over replicates: seeds, or base
    models where the seeds start from several.
    """
    of_seed = means(by_seed)
    of_base: dict[str, list[float]] = {}
    for seed, value in of_seed.items():
        of_base.setdefault(bases.get(seed, ""), []).append(value)
    several = len(of_base) > 1
    replicates = (
        [float(np.mean(values)) for values in of_base.values()]
        if several
        else list(of_seed.values())
    )
    mean = float(np.mean(replicates))
    n = len(replicates)
    if n < 2:
        return Interval(mean=mean, ci_low=None, ci_high=None, n=n)
    half = float(np.std(replicates, ddof=1)) / math.sqrt(n) * _quantile(n - 1)
    return Interval(mean=mean, ci_low=mean - half, ci_high=mean + half, n=n)


def _quantile(degrees: float) -> float:
    return float(scipy.stats.t.ppf((1 + LEVEL) / 2, degrees))


def difference(row: Interval, value: Value) -> tuple[float, float | None, float | None]:
    """Reproduced minus published in the value's unit, and its 95 % interval by Welch: the noise of
    both sides counts. No interval where either side has no spread over runs.
    """
    scale = SCALES[value.unit]
    gap = scale * row.mean - float(value.value)
    printed = value.spread_kind == "sd over seeds" and value.runs is not None and value.runs > 1
    if not printed or row.ci_low is None or row.ci_high is None or row.n < 2:
        return gap, None, None
    assert value.spread is not None
    assert value.runs is not None
    # an interval that ends at 0 or 1 is cut there on that side
    half = scale * max(row.mean - row.ci_low, row.ci_high - row.mean)
    ours = (half / _quantile(row.n - 1)) ** 2
    theirs = float(value.spread) ** 2 / value.runs
    if ours + theirs == 0:
        return gap, gap, gap
    degrees = (ours + theirs) ** 2 / (ours**2 / (row.n - 1) + theirs**2 / (value.runs - 1))
    wide = math.sqrt(ours + theirs) * _quantile(degrees)
    return gap, gap - wide, gap + wide


def _line(value: Value, values: Mapping[str, Value], measured: Measured) -> Line:
    checked = arithmetic.check(value, values)
    row = measured.row
    scale = SCALES.get(value.unit, 1.0)
    gap, low, high = difference(row, value) if row else (None, None, None)
    upper = f" to {value.upper}" if value.upper is not None else ""
    return Line(
        key=value.key,
        source=value.source,
        how=value.how,
        method=value.method,
        team=value.team,
        model=value.model,
        benchmark=value.benchmark,
        metric=value.metric,
        unit=value.unit,
        items=value.items,
        runs=value.runs,
        published=f"{value.value}{upper}",
        spread="" if value.spread is None else str(value.spread),
        spread_kind=value.spread_kind,
        possible=arithmetic.POSSIBLE[checked.possible],
        arithmetic=checked.reason,
        condition=measured.condition,
        reproduced=scale * row.mean if row else None,
        ci_low=scale * row.ci_low if row and row.ci_low is not None else None,
        ci_high=scale * row.ci_high if row and row.ci_high is not None else None,
        seeds=row.n if row else None,
        difference=gap,
        difference_low=low,
        difference_high=high,
        status=_status(row, low, measured.why),
        caveat=value.caveat,
    )


def _status(row: Interval | None, low: float | None, why: str) -> str:
    if row is None:
        return f"not run: {why}"
    return (
        "reproduced"
        if low is not None
        else "reproduced, without an interval: not both have a spread"
    )


def _lost(row: Missing) -> Line:
    return Line(source=row.source, metric=row.what, status=f"not recovered: {row.reason}")


# -- files

SHOWN: dict[str, Callable[[Line], str]] = {
    "where": lambda line: line.source,
    "method": lambda line: line.method,
    "team": lambda line: line.team,
    "model": lambda line: line.model,
    "what": lambda line: f"{line.benchmark} {line.metric}".strip(),
    "published": lambda line: _printed(line),
    "possible": lambda line: line.possible,
    "reproduced": lambda line: _with_interval(line.reproduced, line.ci_low, line.ci_high),
    "difference": lambda line: _with_interval(
        line.difference, line.difference_low, line.difference_high, "+"
    ),
    "status": lambda line: line.status,
}


def _printed(line: Line) -> str:
    spread = f" ± {line.spread}" if line.spread else ""
    return f"{line.published}{spread} {line.unit}".strip()


def _with_interval(
    number: float | None, low: float | None, high: float | None, sign: str = ""
) -> str:
    if number is None:
        return ""
    band = "" if low is None or high is None else f" [{low:{sign}.1f}, {high:{sign}.1f}]"
    return f"{number:{sign}.1f}{band}"


def write(experiment: Path, stats: Path, out: Path, folder: Path = published.FOLDER) -> None:
    """Writes `published` and `deviations` of an experiment that follows a paper into the folder
    `out`, each as CSV, Markdown and LaTeX, with their passports.

    Raises:
        ValueError: a file is missing or not what it should be, or the experiment follows no paper.
    """
    begun = lineage.begin([experiment, stats, *published.files(folder)])
    for name, text in texts(experiment, stats, folder).items():
        schema.write_text(out / name, text)
        lineage.write_passport(out / name, begun)


def texts(experiment: Path, stats: Path, folder: Path = published.FOLDER) -> dict[str, str]:
    """What `write` writes, by file name. ValueError as there."""
    planned = manifest.read_training(experiment)
    lines = beside(planned, statistics.read_training(stats), published.read(folder))
    shown = [[show(line) for show in SHOWN.values()] for line in lines]
    rows = deviation_rows(planned)
    names = ["conditions", "key", "ours", "published", "source", "how", "note"]
    return {
        "published.csv": pd.DataFrame([asdict(line) for line in lines]).to_csv(index=False),
        **_shown("published", list(SHOWN), shown),
        "deviations.csv": pd.DataFrame(rows, columns=names).to_csv(index=False),
        **_shown("deviations", names, rows),
    }


def deviation_rows(planned: TrainingManifest) -> list[list[str]]:
    """In what an experiment's conditions are not as its paper has it."""
    _paper(planned)
    by_label = {c.label: c.deviations for c in planned.conditions}
    return [
        [
            " ".join(labels),
            row.key,
            str(row.ours) if row.settable else "no such setting",
            row.published.replace("|", " or "),
            row.source,
            row.how,
            row.note,
        ]
        for row, labels in by_deviation(by_label)
    ]


def _paper(planned: TrainingManifest) -> FollowedPaper:
    if planned.paper is None:
        raise ValueError(
            f"experiment {planned.experiment} follows no paper. Remedy: say which in its file, as "
            "`paper: {name: c3, version: v2}`"
        )
    return planned.paper


def _shown(name: str, head: list[str], rows: Sequence[Sequence[str]]) -> dict[str, str]:
    """A table as Markdown and LaTeX (booktabs), by file name."""
    # a bar would end a cell of Markdown
    plain = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    made = {
        "md": tabulate(plain, head, tablefmt="github", disable_numparse=True),
        "tex": tabulate(rows, head, tablefmt="latex_booktabs", disable_numparse=True),
    }
    return {f"{name}.{kind}": f"{text}\n" for kind, text in made.items()}
