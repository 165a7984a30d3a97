"""An experiment's conditions: `grid.condition` (label -> block) times every other axis (key -> list
of values) but the seeds."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ccpo.config.choice import near
from ccpo.config.names import check_case, check_label, check_name
from ccpo.config.run import RunConfig

Block = Mapping[str, object]
Path = tuple[str, ...]  # keys from an axis down to one of its settings


@dataclass(frozen=True)
class Condition:
    """A condition before validation: the preset it names, its settings with those of preset and
    base below them, and the label of the condition that it repeats with other seeds."""

    label: str
    preset: str | None
    settings: dict[str, object]
    repeats: str = ""


def conditions(where: str, raw: Block, presets: Block) -> list[Condition]:
    """The conditions of an experiment file; labels are unique and say what differs.

    Raises:
        ValueError: a block has the wrong form, a label does not fit, or two conditions share one.
    """
    grid = _mapping(f"{where}: grid", raw.get("grid"))
    axes = _axes(where, grid)
    base = _mapping(f"{where}: base", raw.get("base", {}))
    blocks = _mapping(f"{where}: grid.condition", grid.get("condition") or {"": {}})
    for label in blocks:
        if label or len(blocks) > 1:
            _checked(where, label)
    values = [list(zip(axis, labels(axis), strict=True)) for axis in axes.values()]
    made: dict[str, Condition] = {}
    origin: dict[str, str] = {}
    for name, block in blocks.items():
        at = f"{where}, condition {name}"
        repeated = _repeated(at, name, _mapping(at, block), blocks)
        own = blocks[repeated] if repeated else block
        condition = _with_preset(at, base, _mapping(at, own), presets)
        for cell in itertools.product(*values):
            over = dict(zip(axes, (value for value, _ in cell), strict=True))
            label = _label(name, [text for _, text in cell])
            cells = _described(name, over)
            if label in made:
                raise ValueError(
                    f"{where}: two conditions have the label '{label}': {origin[label]}; and "
                    f"{cells}. Remedy: name them in grid.condition, or remove one"
                )
            origin[label] = cells
            of = _label(repeated, [text for _, text in cell]) if repeated else ""
            settings = merge(condition, over)
            preset = settings.pop("preset", None)
            named = str(preset) if preset else None
            made[label] = Condition(_fitting(where, label), named, settings, of)
    check_case(f"{where}: conditions", made)
    return list(made.values())


def _label(name: str, cell: Sequence[str]) -> str:
    return ",".join(part for part in [name, *cell] if part) or "all"


def _repeated(where: str, name: str, block: Block, blocks: Block) -> str:
    """The condition that a block repeats with other seeds; "" of none."""
    if "repeat_of" not in block:
        return ""
    named = block["repeat_of"]
    if len(block) > 1:
        others = ", ".join(str(key) for key in block if key != "repeat_of")
        raise ValueError(
            f"{where}: repeat_of stands beside {others}. A repeat differs in its seeds alone. "
            "Remedy: remove either"
        )
    if named == name or not isinstance(named, str) or named not in blocks:
        known = [other for other in blocks if other != name]
        raise ValueError(f"{where}: repeat_of names {named!r}. {near(str(named), known)}")
    repeated = blocks[named]
    if isinstance(repeated, Mapping) and "repeat_of" in repeated:
        raise ValueError(
            f"{where}: repeat_of names '{named}', which is a repeat itself. Remedy: name "
            f"{repeated['repeat_of']!r}"
        )
    return named


def _axes(where: str, grid: Block) -> dict[str, list[object]]:
    """The lists of values of every axis but conditions and seeds."""
    if "seed" not in grid:
        raise ValueError(f"{where}: grid must be a mapping with the axis 'seed'")
    axes: dict[str, list[object]] = {}
    for key, values in grid.items():
        if key == "condition":
            continue
        if not isinstance(values, list) or not values:
            raise ValueError(f"{where}: grid.{key} must be a list that is not empty")
        if key == "seed":
            continue
        if key not in RunConfig.model_fields:
            known = list(RunConfig.model_fields)
            raise ValueError(f"{where}: grid.{key} is no key of a run. {near(key, known)}")
        axes[key] = values
    return axes


def _mapping(where: str, value: object) -> Block:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where} must be a mapping, it is {value!r}")
    return value


def _checked(where: str, label: str) -> None:
    try:
        check_name("condition", label)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _fitting(where: str, label: str) -> str:
    try:
        return check_label(label)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _described(name: str, over: Block) -> str:
    parts = [f"condition '{name}'"] if name else []
    return ", ".join([*parts, *(f"grid.{key} {value!r}" for key, value in over.items())])


def merge(base: Block, over: Block) -> dict[str, object]:
    """`over` on top of `base`. Blocks merge key by key, except a choice (it has a name), which is
    replaced whole.
    """
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping) and "name" not in value:
            merged[key] = merge(old, value)
        else:
            merged[key] = value
    return merged


def _with_preset(where: str, base: Block, block: Block, presets: Block) -> dict[str, object]:
    """A condition's block on top of its preset on top of the base; the key `preset` stays in it."""
    name = block.get("preset", base.get("preset"))
    if name is None:
        return merge(base, block)
    if not isinstance(name, str) or name not in presets:
        raise ValueError(
            f"{where}: preset '{name}' is not in presets.yaml. {near(str(name), list(presets))}"
        )
    return merge(merge(base, _mapping(f"presets.yaml, {name}", presets[name])), block)


def labels(axis: Sequence[object]) -> list[str]:
    """What each value of an axis adds to a condition's label: a name or number as it is, of a block
    the settings in which the axis' values differ.
    """
    blocks = [_settings(value) for value in axis]
    paths = dict.fromkeys(path for settings in blocks for path in settings)
    shown = [p for p in paths if not p or len({settings.get(p) for settings in blocks}) > 1]
    return [
        ",".join(_setting(path, settings[path]) for path in shown if path in settings)
        for settings in blocks
    ]


def _setting(path: Path, text: str) -> str:
    return f"{'.'.join(path)}={text}" if path else text


def _settings(value: object, path: Path = ()) -> dict[Path, str]:
    """The single settings of a value by their paths; the name of a choice stands for the choice."""
    if isinstance(value, Mapping):
        below = {(() if key == "name" else (str(key),)): item for key, item in value.items()}
    elif isinstance(value, list) and any(isinstance(item, Mapping | list) for item in value):
        below = {(str(index),): item for index, item in enumerate(value)}
    else:
        return {path: _text(value)}
    parts = [_settings(item, (*path, *step)) for step, item in below.items()]
    return {at: text for part in parts for at, text in part.items()}


def _text(value: object) -> str:
    """A value as a label shows it. Floats have as many digits as tell them from all others."""
    if isinstance(value, list):
        return "+".join(map(_text, value))
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return str(value)
