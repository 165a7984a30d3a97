"""From YAML to experiments: the only reader of YAML. An experiment is a set of runs, or a question
to oracle worlds.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from ccpo import advantage
from ccpo.config.choice import Choice, Strict, near, resolve
from ccpo.config.model import Listed, Model
from ccpo.config.run import RunConfig


class Experiment(Strict):
    """One question: its conditions, their seeds, and the comparisons declared before the runs."""

    name: str
    question: str = Field(min_length=10)
    note: str = ""
    primary_metric: Literal["accuracy"]
    compare: tuple[tuple[str, str], ...] = ()
    token_tolerance: float = Field(
        0.1, ge=0, description="largest relative difference of tokens in a matched comparison"
    )
    effect: float = Field(
        0.05, gt=0, lt=1, description="smallest difference of the primary metric that matters"
    )
    runs: dict[str, dict[int, RunConfig]]
    presets: dict[str, str] = Field(default_factory=dict)

    def manifest(self) -> dict[str, Any]:
        """What the analysis needs to know: the question, the comparisons, each condition's config
        (of its first seed), and by seed the run's id and the base model it starts from."""
        head = {
            k: getattr(self, k) for k in ("question", "note", "primary_metric", "token_tolerance")
        }
        conditions = {
            label: {
                "config": next(iter(runs.values())).model_dump(mode="json", exclude={"seed"}),
                "degenerate": next(iter(runs.values())).degenerate(),
                "preset": self.presets.get(label, ""),
                "runs": {str(seed): run.id for seed, run in runs.items()},
                "bases": {str(seed): run.base for seed, run in runs.items()},
            }
            for label, runs in self.runs.items()
        }
        return {
            "experiment": self.name,
            **head,
            "compare": [list(c) for c in self.compare],
            "order": list(conditions),
            "conditions": conditions,
        }


class Measured(Strict):
    """A credit method in an oracle experiment: `nested` draws a tree instead of flat episodes,
    `critic_error` moves its critic's values from the truth towards their mean by that share,
    `raters` says how its episodes are rated.
    """

    credit: Choice
    nested: bool = False
    critic_error: float = Field(0.0, ge=0, le=1)
    raters: Literal["informed", "careless", "coin"] = "informed"

    @model_validator(mode="before")
    @classmethod
    def _resolve(cls, data: Any) -> Any:
        return (
            {**data, "credit": resolve("credit", data["credit"])}
            if isinstance(data, Mapping) and "credit" in data
            else data
        )


class OracleExperiment(Strict):
    """A question answered in oracle worlds, where truth is summed (ccpo/oracle/world.py), instead
    of by training.
    """

    name: str
    question: str = Field(min_length=10)
    note: str = ""
    families: tuple[Literal["necessity", "redundancy", "free_riding", "sabotage"], ...] = Field(
        min_length=1
    )
    shapes: tuple[Literal["dyad", "chain", "vote", "language"], ...] = Field(min_length=1)
    advantages: tuple[str, ...] = Field(min_length=1)
    methods: dict[str, Measured] = Field(min_length=1)
    instances: int = Field(
        ge=2, description="worlds of each family and shape: the replicates of the intervals"
    )
    tokens: int = Field(ge=64, description="generated tokens of a single batch")
    seed: int = Field(0, ge=0)
    model: Model | None = Field(
        None, description="of the shape language, by its name in models.yaml"
    )

    @model_validator(mode="after")
    def _spoken(self) -> OracleExperiment:
        if (self.model is None) == ("language" in self.shapes):
            raise ValueError(
                "an oracle experiment names a model if, and only if, `language` is among its shapes"
            )
        return self

    @model_validator(mode="after")
    def _known(self) -> OracleExperiment:
        for name in self.advantages:
            if name not in advantage.names():
                raise ValueError(
                    f"advantage '{name}' is not a file in ccpo/advantage/. "
                    f"{near(name, advantage.names())}"
                )
        return self

    @model_validator(mode="after")
    def _once(self) -> OracleExperiment:
        for key in ("families", "shapes", "advantages"):
            given = getattr(self, key)
            if len(set(given)) < len(given):
                raise ValueError(f"{key} {list(given)} names one twice")
        return self

    @model_validator(mode="after")
    def _reference(self) -> OracleExperiment:
        if "shared" not in self.methods or "group_mean" not in self.advantages:
            raise ValueError(
                "an oracle experiment compares with the shared reward under group_mean: it needs "
                "the method 'shared' and that advantage"
            )
        return self

    def manifest(self) -> dict[str, Any]:
        """What its rules need to know."""
        return {
            "experiment": self.name,
            "order": list(self.methods),
            **self.model_dump(mode="json", exclude={"name"}),
        }


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(
            f"{path} does not exist. "
            f"{near(path.stem, [p.stem for p in path.parent.glob('*.yaml')])}"
        )
    try:
        value = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path} must hold a mapping, it holds {type(value).__name__}")
    return value


def _said(where: str, build: Callable[[], Any]) -> Any:
    """Runs a validation and says every complaint in one message, each with its place."""
    try:
        return build()
    except ValidationError as error:
        lines = []
        for item in error.errors():
            place = ".".join(str(p) for p in item["loc"])
            if item["type"] == "extra_forbidden":
                lines.append(
                    f"unknown key '{place}'. Remedy: correct or remove it; config/README.md "
                    "lists every key"
                )
            else:
                reason = item["msg"].removeprefix("Value error, ")
                if not isinstance(item["input"], dict | BaseModel):
                    reason += f" (given: {item['input']!r})"
                lines.append(f"{place}: {reason}" if place else reason)
        raise ValueError(f"{where}: " + "; ".join(lines)) from None
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def read_listed(folder: Path = Path("config")) -> dict[str, Listed]:
    """Entries of config/models.yaml by name, each with its pins in config/base_models/pins.json.

    Raises:
        ValueError: names the file, the place, the value and the reason.
    """
    path = folder / "models.yaml"
    pins = _read_pins(folder)

    def listed(name: str, spec: object) -> Listed:
        data = {"name": name, "spec": spec, "pins": pins.get(name, {})}
        found: Listed = _said(f"{path}, {name}", lambda: Listed.model_validate(data))
        return found

    return {name: listed(name, spec) for name, spec in _read_yaml(path).items()}


def read_models(folder: Path = Path("config")) -> dict[str, Model]:
    """Models of config/models.yaml by name; of one with replicas the first."""
    listed = read_listed(folder)
    return {name: _replicas(str(folder), name, listed)[0] for name in listed}


def _read_pins(folder: Path) -> dict[str, Any]:
    path = folder / "base_models" / "pins.json"
    if not path.is_file():
        return {}
    try:
        pins = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        pins = error
    if not isinstance(pins, dict):
        raise ValueError(f"{path} is no JSON mapping ({pins}). Remedy: git checkout -- {path}")
    return pins


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` on top of `base`. Blocks merge key by key, except a choice (it has a name), which is
    replaced whole.
    """
    out = dict(base)
    for key, value in over.items():
        old = out.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping) and "name" not in value
        out[key] = _merge(old, value) if both else value  # type: ignore[arg-type]
    return out


def _with_preset(
    where: str, base: Mapping[str, Any], block: Mapping[str, Any], presets: Mapping[str, Any]
) -> dict[str, Any]:
    """A condition's block on top of its preset on top of the base; the key `preset` stays in it."""
    name = block.get("preset", base.get("preset"))
    if name is not None and name not in presets:
        raise ValueError(
            f"{where}: preset '{name}' is not in presets.yaml. {near(str(name), list(presets))}"
        )
    return _merge(_merge(base, presets[name] if name else {}), block)


def _cells(
    where: str, raw: Mapping[str, Any], presets: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Grid cells by label: `condition` (label -> block) times every other axis (key -> list of
    values) but the seeds.
    """
    grid = raw.get("grid")
    if not isinstance(grid, Mapping) or "seed" not in grid:
        raise ValueError(f"{where}: grid must be a mapping with the axis 'seed'")
    axes = {k: v for k, v in grid.items() if k not in ("condition", "seed")}
    for key, values in [*axes.items(), ("seed", grid["seed"])]:
        if not isinstance(values, list) or not values:
            raise ValueError(f"{where}: grid.{key} must be a list that is not empty")
        if key != "seed" and key not in RunConfig.model_fields:
            raise ValueError(
                f"{where}: grid.{key} is no key of a run. {near(key, list(RunConfig.model_fields))}"
            )
    cells: dict[str, dict[str, Any]] = {}
    for label, block in (grid.get("condition") or {"": {}}).items():
        condition = _with_preset(f"{where}, condition {label}", raw.get("base", {}), block, presets)
        for values in itertools.product(*axes.values()):
            over = dict(zip(axes, values, strict=True))
            cells["/".join(n for n in [label, *map(_named, values)] if n) or "all"] = _merge(
                condition, over
            )
    return cells


def _named(value: object) -> str:
    """What a value of an axis adds to a condition's label."""
    if isinstance(value, list):
        return "+".join(map(_named, value))
    return str(value.get("name", "")) if isinstance(value, dict) else str(value)


def read_experiment(name: str, folder: Path = Path("config")) -> Experiment | OracleExperiment:
    """The experiment of config/experiments/{name}.yaml, every run (or the oracle experiment, where
    the file has that block) validated.

    Raises:
        ValueError: names the file, the place, the value, the reason and, where there is one, the
            remedy.
    """
    path = folder / "experiments" / f"{name}.yaml"
    raw = _read_yaml(path)
    if "oracle" in raw:
        return _oracle(path, raw, read_listed(folder))
    known = {
        "question",
        "note",
        "primary_metric",
        "compare",
        "token_tolerance",
        "effect",
        "base",
        "grid",
    }
    for key in raw:
        if key not in known:
            raise ValueError(f"{path}: unknown key '{key}'. {near(str(key), list(known))}")
    listed = read_listed(folder)
    named = {}
    runs: dict[str, dict[int, RunConfig]] = {}
    for label, cell in _cells(str(path), raw, _read_yaml(folder / "presets.yaml")).items():
        named[label] = cell.pop("preset", None)
        bases = _bases(f"{path}, condition {label}", cell.pop("model", None), listed)
        runs[label] = {}
        for seed in raw["grid"]["seed"]:
            if type(seed) is not int or seed < 0:
                raise ValueError(
                    f"{path}: grid.seed names {seed!r}. Seeds are whole numbers from 0 on."
                )
            if seed in runs[label]:
                raise ValueError(f"{path}: grid.seed names {seed} twice")
            own = {"seed": seed, "model": _of_seed(bases, seed)}
            if runs[
                label
            ]:  # checked with the first seed; a check of each takes seconds with a thousand runs
                runs[label][seed] = next(iter(runs[label].values())).model_copy(update=own)
            else:
                data = {**cell, **own}
                runs[label][seed] = _said(
                    f"{path}, condition {label}", functools.partial(RunConfig.model_validate, data)
                )
    for pair in raw.get("compare", []):
        for label in pair:
            if label not in runs:
                raise ValueError(
                    f"{path}: compare names condition '{label}'. {near(str(label), list(runs))}"
                )
        _evaluated_alike(str(path), {label: next(iter(runs[label].values())) for label in pair})
    head = {k: v for k, v in raw.items() if k not in ("base", "grid")}
    return _said(
        str(path),
        lambda: Experiment(
            name=name, runs=runs, presets={k: v for k, v in named.items() if v}, **head
        ),
    )


def _evaluated_alike(where: str, compared: Mapping[str, RunConfig]) -> None:
    """Refuses a comparison of conditions whose answers are not drawn alike: its difference would be
    that of the decodings.
    """
    for key in ("decodings", "primary", "tasks", "seed", "also"):
        found = {label: getattr(run.evaluate, key) for label, run in compared.items()}
        first = next(iter(found.values()))
        if any(value != first for value in found.values()):
            shown = "; ".join(f"{label}: {value}" for label, value in found.items())
            raise ValueError(
                f"{where}: compare names conditions that differ in evaluate.{key} ({shown}). "
                "Give them the same, in base"
            )


def _replicas(where: str, name: str, listed: Mapping[str, Listed]) -> tuple[Model, ...]:
    """What a model's name stands for."""
    if name not in listed:
        hint = near(name, list(listed))
        raise ValueError(f"{where}: model '{name}' is not in models.yaml. {hint}")
    found: tuple[Model, ...] = _said(where, lambda: listed[name].replicas)
    return found


Bases = tuple[Model, ...] | list[tuple[Model, ...]]  # replicas; or each agent's


def _bases(where: str, named: object, listed: Mapping[str, Listed]) -> Bases:
    """The replicas that a model's name stands for, or a list of those of each name of a list."""
    if isinstance(named, list):
        return [_replicas(where, str(name), listed) for name in named]
    return _replicas(where, str(named), listed)


def _of_seed(bases: Bases, seed: int) -> Model | tuple[Model, ...]:
    """The base model that a training seed starts from, or each agent's: seeds that follow each
    other have different ones, as far as there are replicas."""
    if isinstance(bases, list):
        return tuple(replicas[seed % len(replicas)] for replicas in bases)
    return bases[seed % len(bases)]


def _oracle(path: Path, raw: Mapping[str, Any], listed: Mapping[str, Listed]) -> OracleExperiment:
    for key in raw:
        if key not in ("question", "note", "oracle"):
            raise ValueError(
                f"{path}: unknown key '{key}'. An oracle experiment has question, note and "
                "oracle only"
            )
    if not isinstance(raw["oracle"], Mapping):
        raise ValueError(f"{path}: oracle must be a mapping")
    head = {k: v for k, v in raw.items() if k != "oracle"}
    block = dict(raw["oracle"])
    if (named := block.pop("model", None)) is not None:
        block["model"] = _of_seed(_bases(str(path), named, listed), 0)
    asked: OracleExperiment = _said(
        str(path), lambda: OracleExperiment.model_validate({"name": path.stem, **head, **block})
    )
    return asked


def read_profile(folder: Path = Path("workflow/profiles/slurm")) -> dict[str, Any]:
    """What a profile of Snakemake says, and under `workflow` what config/config.yaml says."""
    return {
        **_read_yaml(folder / "config.yaml"),
        "workflow": _read_yaml(Path("config/config.yaml")),
    }


def read_run(path: str | Path) -> RunConfig:
    """The run of a config.json.

    Raises:
        ValueError: the file is missing, is not JSON, or is not a valid run.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(
            f"{path} does not exist. Remedy: run the rule that makes it (snakemake {path})."
        )
    try:
        data = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path} is not JSON ({error}). Remedy: delete it and run snakemake again."
        ) from None
    return _said(str(path), lambda: RunConfig.model_validate(data))
