"""experiment.json: what the configuration hands to the stages after training, as two documents (of
a training experiment, of an oracle experiment). Written by `config`, read by `evaluate`, `oracle`
and `publish`, which stand below and above it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, JsonValue

from ccpo import document
from ccpo.document import Document, Record


class FollowedPaper(Record):
    """The version of a paper that an experiment means to follow, as
    config/published/papers.csv names it.
    """

    name: str
    version: str


class Deviation(Record):
    """A setting in which a condition is not as its paper has it (ccpo/config/deviations.py)."""

    key: str
    ours: JsonValue
    settable: bool  # False: there is no such setting here
    published: str  # as config/published/hyper.csv has it; `|` between alternatives
    source: str
    how: str  # it was had
    note: str


def by_deviation(
    by_label: Mapping[str, Sequence[Deviation]],
) -> list[tuple[Deviation, tuple[str, ...]]]:
    """Each deviation once, with the conditions that have it (`all` where all do), those of most
    conditions first.
    """
    out: list[tuple[Deviation, list[str]]] = []
    for label, of_label in by_label.items():
        for deviation in of_label:
            same = next((labels for known, labels in out if known == deviation), None)
            if same is None:
                out.append((deviation, [label]))
            else:
                same.append(label)
    out.sort(key=lambda pair: -len(pair[1]))
    return [
        (deviation, ("all",) if len(labels) == len(by_label) else tuple(labels))
        for deviation, labels in out
    ]


class PlannedCondition(Record):
    """A condition: what its readers ask for by name, its runs, and its whole config."""

    label: str
    team: str
    credit: str
    compares: str  # what its advantage compares a message with (ccpo/advantage)
    model: str  # joined by "+" where each agent has its own
    policy: str
    turns: int
    # under the protocol that claims are made under
    evaluated: tuple[str, ...]  # benchmarks; that of the primary metric is first
    decodings: dict[str, float]  # temperature by name; 0 is greedy
    words: dict[str, str] = Field(default_factory=dict)  # how each decoding is called in a sentence
    primary: str  # the decoding that claims are made of
    changes: tuple[str, ...] = ()  # interventions that mean something for its team, as in tables
    degenerate: str  # why its credit teaches nothing of its own, by algebra; "" where it may
    preset: str  # of config/presets.yaml; "" without one
    runs: dict[int, str]  # run id by seed
    bases: dict[int, str]  # base model by seed
    repeats: str = ""  # label of the condition that it repeats with other seeds; "" of none
    pairs: dict[int, int] = Field(default_factory=dict)  # by its own seed, the seed that it repeats
    deviations: tuple[Deviation, ...] = ()  # from the paper that the experiment follows
    config: dict[str, JsonValue]  # of its first seed, without the seed


class PlannedProtocol(Record):
    """A protocol by which all runs are evaluated; `id` names its folder in each run's."""

    id: str
    name: str
    decodings: dict[str, float]  # temperature by name; 0 is greedy
    words: dict[str, str] = Field(default_factory=dict)  # how each decoding is called in a sentence
    samples: int = 1  # of a task, at most
    config: dict[str, JsonValue]  # whole, but for its name

    def folder(self, run: Path) -> Path:
        """Where the tables of a run's evaluation lie, from the run's folder."""
        return run / "eval" / self.id


class PlannedProbe(Record):
    """What credit is measured on: its name, the shares of the training at which it is drawn, and
    the rest of it.
    """

    id: str
    at: tuple[float, ...]
    config: dict[str, JsonValue]

    def stem(self, at: float) -> str:
        """What the files of a share are called in results/runs/{run}/probe."""
        return f"{at:.2f}-{self.id}"


class CrossPlayer(Record):
    """Whose policies speak in cross-play: those that a run ended with, or those it began with."""

    trained: bool
    runs: dict[int, str]  # by seed


class CrossPlan(Document):
    """cross/{id}.json: the cross-play of one topology, on the benchmark of the primary metric."""

    kind: Literal["cross-play"] = "cross-play"
    version: Literal[1] = 1
    id: str
    team: str
    roles: tuple[str, ...]  # of each agent's first turn
    players: dict[str, CrossPlayer]  # by label, each with the same seeds
    benchmark: str
    params: dict[str, JsonValue]  # of the benchmark
    trained_on: str  # name of a task table
    tasks: str  # that of the table that is played
    most: int | None  # tasks that are played, from the table's start
    decoding: str
    temperature: float
    top_p: float
    top_k: int
    samples: int
    limits: tuple[int, ...]  # largest number of tokens of a message by turn; the last one repeats
    seed: int  # of the protocol
    stage: int

    @property
    def seeds(self) -> tuple[int, ...]:
        """The training seeds that are crossed, each with itself."""
        return tuple(next(iter(self.players.values())).runs)

    def messages(self, experiment: Path, seed: int) -> Path:
        """Where the messages of a seed lie, from the experiment's folder."""
        return experiment / "cross" / f"{self.id}.s{seed}.rollouts.parquet"

    def table(self, experiment: Path, seed: int) -> Path:
        """Where the verdicts of a seed lie, from the experiment's folder."""
        return experiment / "cross" / f"{self.id}.s{seed}.parquet"


class TrainingManifest(Document):
    """experiment.json of an experiment that trains."""

    kind: Literal["training experiment"] = "training experiment"
    version: Literal[1] = 1
    experiment: str
    question: str
    note: str
    primary_metric: str
    token_tolerance: float
    effect: float  # smallest difference of the primary metric that matters
    compare: tuple[tuple[str, str], ...]
    protocols: tuple[PlannedProtocol, ...]  # claims are made under the first
    paper: FollowedPaper | None = None  # that it means to follow
    conditions: tuple[PlannedCondition, ...]
    probe: PlannedProbe | None = None
    cross: tuple[CrossPlan, ...] = ()

    @property
    def primary(self) -> PlannedProtocol:
        """The protocol that claims are made under."""
        return self.protocols[0]

    def condition(self, label: str) -> PlannedCondition:
        """The condition of this label."""
        return next(planned for planned in self.conditions if planned.label == label)


class PlannedMethod(Record):
    """A credit method of an oracle experiment; see ccpo/config/experiment.py, Measured."""

    label: str
    credit: str
    params: dict[str, JsonValue]
    nested: bool
    critic_error: float
    raters: str


class OracleManifest(Document):
    """experiment.json of an oracle experiment."""

    kind: Literal["oracle experiment"] = "oracle experiment"
    version: Literal[1] = 1
    experiment: str
    question: str
    note: str
    families: tuple[str, ...]
    shapes: tuple[str, ...]
    advantages: tuple[str, ...]
    methods: tuple[PlannedMethod, ...]
    instances: int
    tokens: int
    seed: int
    config: dict[str, JsonValue]  # whole: what redoes the work when it changes


def read_training(path: str | Path) -> TrainingManifest:
    """experiment.json of an experiment that trains. ValueError as `document.read`."""
    return document.read(path, TrainingManifest)


def read_oracle(path: str | Path) -> OracleManifest:
    """experiment.json of an oracle experiment. ValueError as `document.read`."""
    return document.read(path, OracleManifest)


def read_cross(path: str | Path) -> CrossPlan:
    """The plan of a cross-play. ValueError as `document.read`."""
    return document.read(path, CrossPlan)


def read(path: str | Path) -> TrainingManifest | OracleManifest:
    """experiment.json of either. ValueError as `document.read`."""
    held = document.read(path, TrainingManifest, OracleManifest)
    assert isinstance(held, TrainingManifest | OracleManifest)
    return held
