"""From YAML to experiments: a set of runs, or a question to oracle worlds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from ccpo import advantage
from ccpo.config.choice import Choice, Strict, near, resolve
from ccpo.config.cross import Cross, plans
from ccpo.config.deviations import deviations, followed
from ccpo.config.grid import Condition, conditions
from ccpo.config.model import Listed, Model
from ccpo.config.names import check_case, check_folder, check_name
from ccpo.config.probe import Probe
from ccpo.config.protocol import Protocol
from ccpo.config.reading import read_json, read_yaml, validated
from ccpo.config.run import RunConfig
from ccpo.config.single import with_single
from ccpo.manifest import (
    CrossPlan,
    Deviation,
    FollowedPaper,
    OracleManifest,
    PlannedCondition,
    PlannedMethod,
    PlannedProbe,
    PlannedProtocol,
    TrainingManifest,
)


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
    protocols: tuple[Protocol, ...] = Field(
        min_length=1, description="claims are made under the first"
    )
    probes: Probe | None = Field(None, description="what credit is measured on; none: nothing")
    presets: dict[str, str] = Field(default_factory=dict)
    repeats: dict[str, str] = Field(
        default_factory=dict, description="by the label of a repeat, that of what it repeats"
    )
    cross: Cross | None = None
    paper: FollowedPaper | None = Field(
        None, description="that it means to follow; no part of what a run is"
    )
    deviations: dict[str, tuple[Deviation, ...]] = Field(
        default_factory=dict, description="by condition, from that paper; generated"
    )

    @model_validator(mode="after")
    def _crossable(self) -> Experiment:
        self.crossed()
        return self

    @property
    def primary(self) -> Protocol:
        """The protocol that claims are made under."""
        return self.protocols[0]

    def manifest(self) -> TrainingManifest:
        """experiment.json."""
        return TrainingManifest(
            experiment=self.name,
            question=self.question,
            note=self.note,
            primary_metric=self.primary_metric,
            token_tolerance=self.token_tolerance,
            effect=self.effect,
            compare=self.compare,
            protocols=tuple(
                PlannedProtocol(
                    id=protocol.id,
                    name=protocol.name,
                    decodings={name: d.temperature for name, d in protocol.decodings.items()},
                    words={name: d.words for name, d in protocol.decodings.items()},
                    samples=max(protocol.most_samples(run) for run in self._firsts()),
                    config=protocol.model_dump(mode="json", exclude={"name"}),
                )
                for protocol in self.protocols
            ),
            probe=self._planned_probe(),
            paper=self.paper,
            conditions=tuple(self._planned(label) for label in self.runs),
            cross=self.crossed(),
        )

    def crossed(self) -> tuple[CrossPlan, ...]:
        """The cross-play of each topology, where it is asked for; repeats have seeds of their own
        and are left out. ValueError as `config.cross.plans`.
        """
        if self.cross is None:
            return ()
        runs = {label: of for label, of in self.runs.items() if label not in self.repeats}
        return plans(self.cross, runs, self.primary)

    def _firsts(self) -> list[RunConfig]:
        """A run of each condition."""
        return [next(iter(runs.values())) for runs in self.runs.values()]

    def _planned(self, label: str) -> PlannedCondition:
        runs = self.runs[label]
        first = next(iter(runs.values()))
        return PlannedCondition(
            label=label,
            team=first.team.name,
            credit=first.credit.name,
            compares=first.compares,
            model="+".join(model.name for model in first.models),
            policy=first.policy,
            turns=len(first.train.fanout),
            evaluated=tuple(choice.name for choice in self.primary.benchmarks(first)),
            decodings={name: d.temperature for name, d in self.primary.decodings.items()},
            words={name: d.words for name, d in self.primary.decodings.items()},
            primary=self.primary.primary,
            changes=tuple(self.primary.changes(first.build_team())),
            degenerate=first.degenerate(),
            preset=self.presets.get(label, ""),
            runs={seed: run.id for seed, run in runs.items()},
            bases={seed: run.base for seed, run in runs.items()},
            repeats=self.repeats.get(label, ""),
            pairs=self._pairs(label),
            deviations=self.deviations.get(label, ()),
            config=first.model_dump(mode="json", exclude={"seed"}),
        )

    def _planned_probe(self) -> PlannedProbe | None:
        probe = self.probes
        if probe is None:
            return None
        config = probe.model_dump(mode="json", exclude={"at"})
        return PlannedProbe(id=probe.id, at=probe.at, config=config)

    def _pairs(self, label: str) -> dict[int, int]:
        """By each seed of a repeat, the seed that it repeats."""
        repeated = self.repeats.get(label)
        return dict(zip(self.runs[label], self.runs[repeated], strict=True)) if repeated else {}


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
            names = getattr(self, key)
            if len(set(names)) < len(names):
                raise ValueError(f"{key} {list(names)} names one twice")
        return self

    @model_validator(mode="after")
    def _reference(self) -> OracleExperiment:
        if "shared" not in self.methods or "group_mean" not in self.advantages:
            raise ValueError(
                "an oracle experiment compares with the shared reward under group_mean: it needs "
                "the method 'shared' and that advantage"
            )
        return self

    def manifest(self) -> OracleManifest:
        """experiment.json."""
        return OracleManifest(
            experiment=self.name,
            question=self.question,
            note=self.note,
            families=self.families,
            shapes=self.shapes,
            advantages=self.advantages,
            methods=tuple(
                PlannedMethod(
                    label=label,
                    credit=measured.credit.name,
                    params=measured.credit.params,
                    nested=measured.nested,
                    critic_error=measured.critic_error,
                    raters=measured.raters,
                )
                for label, measured in self.methods.items()
            ),
            instances=self.instances,
            tokens=self.tokens,
            seed=self.seed,
            config=self.model_dump(mode="json", exclude={"name"}),
        )


def read_listed(folder: Path = Path("config")) -> dict[str, Listed]:
    """Entries of config/models.yaml by name, each with its pins in config/base_models/pins.json.

    Raises:
        ValueError: names the file, the place, the value and the reason.
    """
    path = folder / "models.yaml"
    specs = read_yaml(path)
    pins = _read_pins(folder)
    validated(str(path), lambda: [check_name("model", name) for name in specs])
    validated(str(path), lambda: check_case("models", specs))
    return {
        name: validated(
            f"{path}, {name}",
            lambda name=name: Listed.model_validate(  # type: ignore[misc]
                {"name": name, "spec": specs[name], "pins": pins.get(name, {})}
            ),
        )
        for name in specs
    }


def read_models(folder: Path = Path("config")) -> dict[str, Model]:
    """Models of config/models.yaml by name; of one with replicas the first."""
    listed = read_listed(folder)
    return {name: _replicas(str(folder), name, listed)[0] for name in listed}


def _read_pins(folder: Path) -> Mapping[str, object]:
    path = folder / "base_models" / "pins.json"
    if not path.is_file():
        return {}
    remedy = f"Remedy: git checkout -- {path}"
    try:
        pins = read_json(path)
    except ValueError as error:
        raise ValueError(f"{error}. {remedy}") from None
    if not isinstance(pins, Mapping):
        raise ValueError(f"{path} is no JSON mapping ({pins}). {remedy}")
    return pins


BLOCKS = ("base", "grid", "evaluate", "probes", "cross")
SINGLE = "single"  # false: no single agent is added
HEAD = ("question", "note", "paper", "primary_metric", "compare", "token_tolerance", "effect")


def read_experiment(name: str, folder: Path = Path("config")) -> Experiment | OracleExperiment:
    """The experiment of config/experiments/{name}.yaml, every run (or the oracle experiment, where
    the file has that block) validated.

    Raises:
        ValueError: names the file, the place, the value, the reason and, where there is one, the
        remedy.
    """
    path = _experiment_file(name, folder)
    raw = read_yaml(path)
    listed = read_listed(folder)
    if "oracle" in raw:
        return _oracle(path, raw, listed)
    for key in raw:
        if key not in (*HEAD, *BLOCKS, SINGLE):
            raise ValueError(f"{path}: unknown key '{key}'. {near(key, [*HEAD, *BLOCKS, SINGLE])}")
    where = str(path)
    presets = read_yaml(folder / "presets.yaml")
    declared = conditions(where, raw, presets)
    runs = _runs_of(where, declared, _seeds(where, raw), listed)
    first_runs = {label: next(iter(of_label.values())) for label, of_label in runs.items()}
    planned = with_single(where, raw, presets, declared, first_runs)
    if len(planned) > len(declared):
        runs = _runs_of(where, planned, _seeds(where, raw), listed)
    _apart(where, runs)
    repeats = {condition.label: condition.repeats for condition in planned if condition.repeats}
    for pair in _pairs(where, raw, runs):
        _paired(where, pair, repeats)
    protocols = _protocols(where, raw.get("evaluate"), folder)
    for label, of_label in runs.items():
        _can_be_evaluated(f"{where}, condition {label}", next(iter(of_label.values())), protocols)
    data = {
        "name": name,
        "runs": runs,
        "probes": _probes(where, raw.get("probes"), runs),
        "protocols": protocols,
        "presets": {c.label: c.preset for c in planned if c.preset},
        "repeats": repeats,
        **{key: raw[key] for key in (*HEAD, "cross") if key in raw},
    }
    experiment = validated(where, lambda: Experiment.model_validate(data))
    return validated(where, lambda: _beside_paper(experiment, folder))


def _beside_paper(experiment: Experiment, folder: Path) -> Experiment:
    """The experiment with the deviations of each condition from the paper that it follows."""
    if experiment.paper is None:
        return experiment
    paper = followed(experiment.paper, folder)
    by_label = {
        label: deviations(next(iter(runs.values())), paper, experiment.primary, list(runs))
        for label, runs in experiment.runs.items()
    }
    return experiment.model_copy(update={"deviations": by_label})


def _runs_of(
    where: str,
    planned: Sequence[Condition],
    seeds: Sequence[int],
    listed: Mapping[str, Listed],
) -> dict[str, dict[int, RunConfig]]:
    """The runs of every condition, by label and seed."""
    return {
        condition.label: _runs(
            f"{where}, condition {condition.label}",
            condition,
            _other_seeds(seeds, _earlier(condition, planned)) if condition.repeats else seeds,
            listed,
        )
        for condition in planned
    }


def _experiment_file(name: str, folder: Path) -> Path:
    """The file of an experiment, whose name is spelt as the file's on every file system."""
    experiments = folder / "experiments"
    validated(str(experiments), lambda: check_name("experiment", name))
    known = [path.stem for path in experiments.glob("*.yaml")]
    if name not in known:
        raise ValueError(f"{experiments / name}.yaml does not exist. {near(name, known)}")
    twins = sorted(other for other in known if other.casefold() == name.casefold())
    validated(str(experiments), lambda: check_case("experiments", twins))
    return experiments / f"{name}.yaml"


def _seeds(where: str, raw: Mapping[str, object]) -> list[int]:
    grid = raw["grid"]
    assert isinstance(grid, Mapping)
    seeds: list[int] = []
    for seed in grid["seed"]:
        if type(seed) is not int or seed < 0:
            raise ValueError(
                f"{where}: grid.seed names {seed!r}. Seeds are whole numbers from 0 on."
            )
        if seed in seeds:
            raise ValueError(f"{where}: grid.seed names {seed} twice")
        seeds.append(seed)
    return seeds


REPEATED = 5040  # added to a seed: a multiple of every number of replicas up to ten


def _other_seeds(seeds: Sequence[int], earlier: int) -> Sequence[int]:
    """The seeds of a repeat: none of `seeds`, nor of the `earlier` repeats of the same condition.
    They start from the same base models, whose number divides what is added.
    """
    step = REPEATED * (1 + max(seeds) // REPEATED)
    return [seed + step * (1 + earlier) for seed in seeds]


def _earlier(condition: Condition, planned: Sequence[Condition]) -> int:
    """How many repeats of the same condition stand before this one."""
    of_same = [other.label for other in planned if other.repeats == condition.repeats]
    return of_same.index(condition.label)


def _paired(where: str, pair: Sequence[str], repeats: Mapping[str, str]) -> None:
    """Refuses a comparison with a repeat, whose seeds are nobody else's."""
    for label in pair:
        if label in repeats:
            raise ValueError(
                f"{where}: compare names '{label}', which repeats '{repeats[label]}' with other "
                "seeds, and comparisons are over the same seeds. Remedy: remove the pair; a "
                "repeat stands beside what it repeats by itself"
            )


def _runs(
    where: str, condition: Condition, seeds: Sequence[int], listed: Mapping[str, Listed]
) -> dict[int, RunConfig]:
    """A condition's runs by seed. The first is checked; a check of each takes seconds with a
    thousand runs."""
    settings = dict(condition.settings)
    if "evaluate" in settings:
        raise ValueError(
            f"{where}: evaluate is no key of a run: how it is evaluated is no part of its "
            "training. Remedy: move it to the top of the file, beside base and grid"
        )
    bases = _bases(where, settings.pop("model", None), listed)
    own = {seed: {"seed": seed, "model": _of_seed(bases, seed)} for seed in seeds}
    critic = settings.get("critic")
    if isinstance(critic, Mapping) and "model" in critic:
        # one for all seeds: seeds differ in what their policies start from
        named = _replicas(f"{where}, critic", str(critic["model"]), listed)
        settings["critic"] = {**critic, "model": named[0]}
    data = {**settings, **own[seeds[0]]}
    first = validated(where, lambda: RunConfig.model_validate(data))
    runs = {seed: first.model_copy(update=own[seed]) for seed in seeds}
    longest = max(runs.values(), key=lambda run: len(str(run.seed)))
    validated(where, lambda: check_folder("run", longest.id))
    return runs


def _apart(where: str, runs: Mapping[str, Mapping[int, RunConfig]]) -> None:
    """Refuses two labels of one run: they would be compared as if they were two."""
    first: dict[str, str] = {}
    for label, of_label in runs.items():
        for run in of_label.values():
            other = first.setdefault(run.id, label)
            if other != label:
                raise ValueError(
                    f"{where}: conditions '{other}' and '{label}' are one and the same run, "
                    f"{run.id}: all their settings are equal. Remedy: remove one of them"
                )


def _pairs(where: str, raw: Mapping[str, object], labels: Iterable[str]) -> list[tuple[str, ...]]:
    """The pairs of `compare`, each of two known conditions."""
    known = list(labels)
    compare = raw.get("compare", [])
    if not isinstance(compare, list) or any(not isinstance(pair, list) for pair in compare):
        raise ValueError(
            f"{where}: compare must be a list of pairs [a, b] of conditions, it is {compare!r}"
        )
    for pair in compare:
        for label in pair:
            if label not in known:
                raise ValueError(
                    f"{where}: compare names condition '{label}'. {near(str(label), known)}"
                )
        if len(set(pair)) < len(pair):
            raise ValueError(f"{where}: compare names '{pair[0]}' against itself")
    return [tuple(pair) for pair in compare]


def read_protocols(folder: Path = Path("config")) -> dict[str, Protocol]:
    """The protocols of config/protocols.yaml by name.

    Raises:
        ValueError: names the file, the place, the value and the reason.
    """
    path = folder / "protocols.yaml"
    blocks = read_yaml(path)
    validated(str(path), lambda: check_case("protocols", blocks))
    return {name: _protocol(f"{path}, {name}", name, blocks[name]) for name in blocks}


def _protocol(where: str, name: object, block: object) -> Protocol:
    if not isinstance(block, Mapping) or "name" in block:
        raise ValueError(f"{where}: a protocol is a mapping of its keys, it is {block!r}")
    return validated(where, lambda: Protocol.model_validate({"name": name, **block}))


def _protocols(where: str, named: object, folder: Path) -> tuple[Protocol, ...]:
    """What an experiment is evaluated by: names of protocols.yaml and blocks of its own."""
    if not named:
        raise ValueError(
            f"{where}: evaluate is missing. It names protocols of {folder / 'protocols.yaml'}, the "
            "one that claims are made under first; or holds a block {name: ..., tasks: ...}"
        )
    known = read_protocols(folder)
    protocols: dict[str, Protocol] = {}
    for each in named if isinstance(named, list) else [named]:
        if isinstance(each, str):
            if each not in known:
                raise ValueError(
                    f"{where}: evaluate names protocol '{each}', which is not in "
                    f"{folder / 'protocols.yaml'}. {near(each, list(known))}"
                )
            protocol = known[each]
        else:
            protocol = _own_protocol(where, each)
        if protocol.name in protocols:
            raise ValueError(f"{where}: evaluate names protocol '{protocol.name}' twice")
        protocols[protocol.name] = protocol
    validated(where, lambda: check_case("protocols", protocols))
    return tuple(protocols.values())


def _own_protocol(where: str, block: object) -> Protocol:
    """A protocol that stands in the experiment's own file."""
    if not isinstance(block, Mapping) or "name" not in block:
        raise ValueError(
            f"{where}: evaluate holds {block!r}. A protocol is a name of protocols.yaml, or a "
            "block with a name of its own, as {name: short, tasks: 64}"
        )
    rest = {key: value for key, value in block.items() if key != "name"}
    return _protocol(f"{where}, evaluate", block["name"], rest)


def _can_be_evaluated(where: str, run: RunConfig, protocols: Sequence[Protocol]) -> None:
    for protocol in protocols:
        validated(where, lambda protocol=protocol: protocol.check(run))  # type: ignore[misc]
    validated(where, lambda: protocols[0].check_claims(run))


def _probes(where: str, block: object, runs: Mapping[str, Mapping[int, RunConfig]]) -> Probe | None:
    """What credit is measured on, if the experiment asks for it."""
    if block is None:
        return None
    if not isinstance(block, Mapping):
        raise ValueError(f"{where}: probes is a mapping, as {{at: [0, 0.5, 1]}}; it is {block!r}")
    probe = validated(f"{where}, probes", lambda: Probe.model_validate(block))
    for label, of_label in runs.items():
        first = next(iter(of_label.values()))
        validated(
            f"{where}, condition {label}",
            lambda first=first: probe.check(first),  # type: ignore[misc]
        )
    return probe


def _replicas(where: str, name: str, listed: Mapping[str, Listed]) -> tuple[Model, ...]:
    """What a model's name stands for."""
    if name not in listed:
        hint = near(name, list(listed))
        raise ValueError(f"{where}: model '{name}' is not in models.yaml. {hint}")
    return validated(where, lambda: listed[name].replicas)


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


def _oracle(
    path: Path, raw: Mapping[str, object], listed: Mapping[str, Listed]
) -> OracleExperiment:
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
    validated(str(path), lambda: [check_name("method", label) for label in _labels(block)])
    data = {"name": path.stem, **head, **block}
    return validated(str(path), lambda: OracleExperiment.model_validate(data))


def _labels(block: Mapping[str, object]) -> list[str]:
    methods = block.get("methods")
    return list(methods) if isinstance(methods, Mapping) else []


def read_profile(folder: Path = Path("workflow/profiles/slurm")) -> dict[str, Any]:
    """What a profile of Snakemake says, and under `workflow` what config/config.yaml says."""
    return {**read_yaml(folder / "config.yaml"), "workflow": read_yaml(Path("config/config.yaml"))}


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
        data = read_json(path)
    except ValueError as error:
        raise ValueError(f"{error}. Remedy: delete it and run snakemake again.") from None
    return validated(str(path), lambda: RunConfig.model_validate(data))
