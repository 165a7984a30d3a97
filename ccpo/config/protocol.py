"""How a trained team is evaluated: named protocols, which are no part of a training's identity.

A protocol is named by its content, {name}-{8 hex of the validated protocol}, and the tables of a
run that was evaluated by it lie in results/runs/{run}/eval/{that name}/. So a new protocol, or one
more intervention in an old one, is a new folder of finished runs and trains nothing.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from ccpo import STAGE_VERSIONS, benchmark, intervention
from ccpo.config.choice import Choice, Strict, fingerprint, near, resolve
from ccpo.config.names import check_name
from ccpo.config.reading import read_json, validated
from ccpo.config.run import RunConfig
from ccpo.team import Team


class Decoding(Strict):
    """How messages are drawn in an evaluation; temperature 0 takes the likeliest token."""

    temperature: float = Field(ge=0)
    samples: int = Field(1, ge=1, description="episodes of each task")


DECODINGS = {
    "greedy": Decoding(temperature=0.0, samples=1),
    "low": Decoding(temperature=0.2, samples=1),
    "sampled": Decoding(temperature=1.0, samples=1),
}


class Intervention(Choice):
    """A file of ccpo/intervention, and which agents it changes, one at a time."""

    agents: tuple[int, ...] | None = Field(
        None, description="counted from 0; none: all that it can change"
    )


INTERVENTIONS = ("solo", "blank", "shuffle", "swap", "message_only", "untrained")
DecodingName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.]*$")]


class Protocol(Strict):
    """Benchmarks, decodings and interventions under which the final policies are played.

    The team, trained and untrained, is played under every decoding: a policy that only became surer
    of what it said before gains at temperature 1 and nothing greedily. Interventions on one agent
    are played under the `primary` decoding, which is the one that claims are made of.
    """

    name: str
    tasks: int | None = Field(
        None,
        ge=1,
        description="test tasks of each benchmark, from its start; none: all usable ones",
    )
    decodings: dict[DecodingName, Decoding] = DECODINGS
    primary: str = "greedy"
    seed: int = 0
    interventions: tuple[Intervention, ...] = Field(INTERVENTIONS, validate_default=True)
    also: tuple[Choice, ...] = Field((), description="benchmarks after the one trained on")
    max_tokens: tuple[int, ...] | None = Field(None, description="as in sampling; none: the same")
    stage: int = STAGE_VERSIONS["rollout"]

    @model_validator(mode="before")
    @classmethod
    def _resolve(cls, data: object) -> object:
        if not isinstance(data, Mapping):
            return data
        also = data.get("also", ())
        if not isinstance(also, list | tuple):
            raise ValueError(f"also must be a list of benchmarks, as [gsm8k, math500]: {also!r}")
        changes = data.get("interventions", INTERVENTIONS)
        if not isinstance(changes, list | tuple):
            raise ValueError(
                f"interventions must be a list, as [solo, {{name: truncate, share: 0.5}}]: "
                f"{changes!r}"
            )
        return {
            **data,
            "also": [resolve("benchmark", choice) for choice in also],
            "interventions": [resolve("intervention", choice) for choice in changes],
        }

    @field_validator("name")
    @classmethod
    def _name(cls, name: str) -> str:
        return check_name("protocol", name)

    @model_validator(mode="after")
    def _decodings(self) -> Protocol:
        for name, decoding in self.decodings.items():
            if decoding.temperature == 0 and decoding.samples > 1:
                raise ValueError(
                    f"decodings.{name}: samples={decoding.samples} at temperature 0 are all the "
                    "same; give a temperature or one sample"
                )
        if self.primary not in self.decodings:
            raise ValueError(
                f"primary '{self.primary}' is none of decodings. "
                f"{near(self.primary, list(self.decodings))}"
            )
        return self

    @model_validator(mode="after")
    def _interventions(self) -> Protocol:
        names = [choice.name for choice in self.interventions]
        if "factual" in names:
            raise ValueError(
                "interventions name factual, which changes nothing and is always played. Remedy: "
                "leave it out"
            )
        if len(set(names)) < len(names):
            raise ValueError(
                f"interventions {names} name one twice: tables could not tell them apart. Remedy: "
                "one protocol for each"
            )
        nothing = intervention.Material((), (), lambda text, share: text)
        for choice in self.interventions:  # a parameter out of its range is refused before a run
            intervention.load(choice.name).alter(nothing, **choice.params)
        return self

    @model_validator(mode="after")
    def _test_splits(self) -> Protocol:
        for choice in self.also:
            if not _has_test_split(choice.name):
                raise ValueError(
                    f"also names {choice.name}, which has no test split. Use some of: "
                    f"{', '.join(_testable())}"
                )
        return self

    @property
    def id(self) -> str:
        """Its folder's name: the name, and 8 hex digits of the content, which the versions of its
        interventions and of the stage that plays it are part of (that of the benchmark trained on
        stands in the run).
        """
        return f"{self.name}-{fingerprint(self.model_dump(mode='json', exclude={'name'}))}"

    def benchmarks(self, run: RunConfig) -> list[Choice]:
        """What a run is evaluated on, the benchmark of the primary metric first: the one trained on
        if it has a test split, then `also`.
        """
        return [choice for choice in (run.benchmark, *self.also) if _has_test_split(choice.name)]

    def changes(self, team: Team) -> dict[str, Intervention]:
        """What it plays beside the team as it is, as far as it means something for a team: by the
        name that it has in tables.
        """
        return {
            label: choice
            for choice in self.interventions
            for label in intervention.labels(team, choice.name, choice.agents)
        }

    def limits(self, run: RunConfig) -> tuple[int, ...]:
        """Largest number of tokens of a run's message, by turn (the last one repeats)."""
        return self.max_tokens or run.sampling.max_tokens

    def check(self, run: RunConfig) -> None:
        """That a run can be evaluated by it.

        Raises:
            ValueError: no benchmark of it has a test split, or one is named twice.
        """
        names = [choice.name for choice in self.benchmarks(run)]
        if len(set(names)) < len(names):
            raise ValueError(
                f"protocol {self.name} evaluates {names}: a benchmark named twice, of other "
                "parameters, cannot be told apart in the tables. Remedy: one protocol for each"
            )
        if not names:
            raise ValueError(
                f"benchmark {run.benchmark.name} has no test split, and `also` of protocol "
                f"{self.name} names no other. Name there what to evaluate, some of: "
                f"{', '.join(_testable())}"
            )

    def check_claims(self, run: RunConfig) -> None:
        """That claims can be made of a run evaluated by it: what was trained is played greedily, at
        temperature 1, and at a low temperature between.

        Raises:
            ValueError: one of them is missing.
        """
        temperatures = [decoding.temperature for decoding in self.decodings.values()]
        shown = 0 in temperatures and 1 in temperatures and any(0 < t <= 0.5 for t in temperatures)
        if run.train.steps and not shown:
            raise ValueError(
                f"the decodings of protocol {self.name} have the temperatures "
                f"{sorted(temperatures)}. A trained team is evaluated at 0, at 1, and at one "
                "between 0 and 0.5, since a policy that only became surer gains at temperature 1 "
                "without having learnt. Add what is missing, or leave decodings out"
            )


def _has_test_split(name: str) -> bool:
    return "test" in typing.cast(Mapping[str, int], benchmark.load(name).SPLITS)


def _testable() -> list[str]:
    return [name for name in benchmark.names() if _has_test_split(name)]


def read_protocol(path: str | Path) -> Protocol:
    """The protocol of a protocol's JSON file.

    Raises:
        ValueError: the file is missing, is not JSON, or is not a valid protocol.
    """
    return validated(str(path), lambda: Protocol.model_validate(_content(Path(path))))


def _content(path: Path) -> object:
    if not path.is_file():
        raise ValueError(
            f"it does not exist. Remedy: run the rule that makes it (snakemake {path})"
        )
    return read_json(path)
