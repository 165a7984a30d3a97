"""Why two runs, or two experiments, differ: config, seed, data, base models, code, environment,
machine; and whether what came out differs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ccpo import files, lineage, source
from ccpo.audit.contents import ExperimentFolder, of_folder
from ccpo.lineage import Provenance
from ccpo.source import Source

SHOWN = 8  # files of code


def lines(a: Path, b: Path) -> Iterator[str]:
    """What differs between two runs' folders, or two experiments', a line each.

    Raises:
        ValueError: one is neither, or they are of two kinds.
    """
    kinds = [_kind(path) for path in (a, b)]
    if kinds[0] != kinds[1]:
        raise ValueError(
            f"audit --diff: {a} is {kinds[0]}, {b} is {kinds[1]}. Remedy: name two runs, or two "
            "experiments."
        )
    yield f"a: {a}"
    yield f"b: {b}"
    differing = list(
        _runs(a, b) if kinds[0] == "a run" else _experiments(of_folder(a), of_folder(b))
    )
    yield from differing or ["they do not differ"]


def _kind(path: Path) -> str:
    """What lies in a folder.

    Raises:
        ValueError: neither a run nor an experiment.
    """
    if (path / "experiment.json").is_file():
        return "an experiment"
    if (path / lineage.PROVENANCE).is_file():
        return "a run"
    raise ValueError(
        f"audit --diff: {path} is the folder of no finished run (no {lineage.PROVENANCE}) and of "
        "no experiment (no experiment.json). Remedy: name two folders of results/runs, or two of "
        "results/experiments."
    )


def _runs(a: Path, b: Path) -> Iterator[str]:
    one = lineage.read_provenance(a)
    two = lineage.read_provenance(b)
    configs = [files.read_json(folder / "config.json") for folder in (a, b)]
    for key, (was, now) in _leaves(configs).items():
        part = "seed" if key == "seed" else "config"
        yield f"{part:11} {key}: {was} | {now}"
    yield from _inputs(one, two)
    yield from _code(one.machine.source, two.machine.source)
    yield from _environment(one.machine.source, two.machine.source)
    machines = [record.machine.hardware.model_dump(mode="json") for record in (one, two)]
    for key, (was, now) in _leaves(machines).items():
        yield f"{'machine':11} {key}: {was} | {now}"
    reports = [record.trained.model_dump(mode="json") for record in (one, two)]
    for key, (was, now) in _leaves(reports).items():
        if key != "run":
            yield f"{'training':11} {key}: {was} | {now}"
    for name in sorted({*one.outputs, *two.outputs}):
        if one.outputs.get(name) != two.outputs.get(name):
            yield f"{'outcome':11} {name} is another"


def _inputs(one: Provenance, two: Provenance) -> Iterator[str]:
    """Data and base models, by the names of their files."""
    named = [{Path(k).name: v for k, v in record.inputs.items()} for record in (one, two)]
    for name in sorted({*named[0], *named[1]} - {"config.json"}):
        was, now = (inputs.get(name) for inputs in named)
        if was != now:
            part = "data" if name.endswith((".parquet", ".json")) else "base model"
            yield f"{part:11} {name}: {_short(was)} | {_short(now)}"


def _code(one: Source, two: Source) -> Iterator[str]:
    """Commit and patch; where this repository has both commits, the files that differ."""
    if one.name != two.name:
        yield f"{'code':11} {one.name} | {two.name}"
    if one.code is not None and one.code == two.code:
        if one.name != two.name:
            yield f"{'code':11} the package is the same in both"
        return
    if one.commit and two.commit and one.commit != two.commit:
        words = ("diff", "--name-only", one.commit, two.commit, "--", ".")
        listed = source.git(source.PACKAGE, *words)
        names = listed.decode().split() if listed else []
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        if names:
            yield f"{'code':11} files: {', '.join(names[:SHOWN])}{more}"


def _environment(one: Source, two: Source) -> Iterator[str]:
    sides = [
        {
            "Python": each.python,
            **each.versions,
            "lock": _short(each.lock),
            "not as locked": each.unlocked,
            "torch's build": each.torch,
        }
        for each in (one, two)
    ]
    for key, (was, now) in _leaves(sides).items():
        yield f"{'environment':11} {key}: {was} | {now}"


def _experiments(one: ExperimentFolder, two: ExperimentFolder) -> Iterator[str]:
    """What was asked, runs that only one has, and what made those that both have."""
    asked = [each.planned.model_dump(mode="json") for each in (one, two)]
    for key, (was, now) in _leaves(asked).items():
        yield f"{'asked':11} {key}: {_cut(was)} | {_cut(now)}"
    runs = [{folder.name: folder for _, _, folder in each.run_folders()} for each in (one, two)]
    for name in sorted({*runs[0]} & {*runs[1]}):
        if all((of[name] / lineage.PROVENANCE).is_file() for of in runs):
            yield from (f"{name}: {line}" for line in _runs(runs[0][name], runs[1][name]))
    for name in ("stats.json", "report.html"):
        pair = [each.folder / name for each in (one, two)]
        if all(path.is_file() for path in pair) and len({files.sha256(p) for p in pair}) > 1:
            yield f"{'outcome':11} {name} is another"
    records = [lineage.passport_of(each.folder / "stats.json") for each in (one, two)]
    if all(path.is_file() for path in records):
        made = [lineage.read_passport(each.folder / "stats.json").source for each in (one, two)]
        yield from _code(*made)
        yield from _environment(*made)


def _leaves(pair: Sequence[Any], prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """The leaves of two JSON values that differ, by their place."""
    a, b = pair
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        out: dict[str, tuple[Any, Any]] = {}
        for key in [*a, *(k for k in b if k not in a)]:
            place = f"{prefix}.{key}" if prefix else str(key)
            out |= _leaves((a.get(key), b.get(key)), place)
        return out
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        pairs = enumerate(zip(a, b, strict=True))
        return {k: v for i, two in pairs for k, v in _leaves(two, f"{prefix}[{i}]").items()}
    return {} if a == b else {prefix: (a, b)}


def _short(digest: str | None) -> str:
    return digest[:12] if digest else "none"


def _cut(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
