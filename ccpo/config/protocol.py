"""How a trained team is evaluated: named protocols, which are no part of a training's identity.

A protocol is named by its content, {name}-{8 hex of the validated protocol}, and the tables of a
run that was evaluated by it lie in results/runs/{run}/eval/{that name}/. So a new protocol, or one
more intervention in an old one, is a new folder of finished runs and trains nothing.
"""

from __future__ import annotations

import math
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from ccpo import STAGE_VERSIONS, benchmark, intervention
from ccpo.config.choice import Choice, Strict, fingerprint, near, resolve
from ccpo.config.names import check_name
from ccpo.config.reading import read_json, validated
from ccpo.config.run import RunConfig
from ccpo.team import Team


class NoiseBudget(Strict):
    """So many samples a task that drawing them anew moves an accuracy by a standard error of `se`
    at most: k with 0.25 / (n k) <= se^2, the worst case of a share (Bernoulli, one half) over n
    tasks.
    """

    se: float = Field(gt=0, le=0.5)

    def samples(self, tasks: int) -> int:
        """k for a benchmark of so many tasks."""
        # a budget that is met exactly is met: 0.25 / (25 * 0.1**2) is 1.0000000000000002
        return max(1, math.ceil(0.25 / (max(tasks, 1) * self.se**2) * (1 - 1e-12)))


Samples = Annotated[int, Field(ge=1)]
DEFAULT = "default"  # in a mapping of samples: benchmarks that it does not name
MOST_SAMPLES = 4096  # of a task


class Decoding(Strict):
    """How messages are drawn in an evaluation; temperature 0 takes the likeliest token. Draws may
    be truncated (play/engine): the likeliest `top_k` tokens (0: all), of these `top_p`.
    """

    temperature: float = Field(ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0)
    samples: Samples | NoiseBudget | dict[str, Samples] = Field(
        default=1,
        description="episodes of each task: a number, a noise budget, or numbers by benchmark",
    )

    @model_validator(mode="after")
    def _drawn(self) -> Decoding:
        if self.temperature == 0 and self.samples != 1:
            raise ValueError(
                f"samples={_shown(self.samples)} at temperature 0 are all the same; give a "
                "temperature or one sample"
            )
        if self.temperature == 0 and self.truncated:
            raise ValueError(
                f"top_p={self.top_p}, top_k={self.top_k} at temperature 0 change nothing: the "
                "likeliest token is taken. Give a temperature, or leave them out"
            )
        if isinstance(self.samples, dict):
            for name in self.samples:
                if name != DEFAULT and name not in benchmark.names():
                    known = [*benchmark.names(), DEFAULT]
                    raise ValueError(f"samples names benchmark '{name}'. {near(name, known)}")
        return self

    @property
    def truncated(self) -> bool:
        """Whether some tokens are never drawn."""
        return self.top_p < 1 or self.top_k > 0

    @property
    def words(self) -> str:
        """How an answer is drawn, in a sentence."""
        if self.temperature == 0:
            return "greedily"
        top_p = f", top-p {self.top_p:g}" if self.top_p < 1 else ""
        top_k = f", top-k {self.top_k}" if self.top_k else ""
        return f"at temperature {self.temperature:g}{top_p}{top_k}"

    def samples_of(self, name: str, tasks: int) -> int:
        """Episodes of each task of a benchmark of which so many tasks are played.

        Raises:
            ValueError: a mapping names neither the benchmark nor a default.
        """
        if isinstance(self.samples, int):
            return self.samples
        if isinstance(self.samples, NoiseBudget):
            return self.samples.samples(tasks)
        if name not in self.samples and DEFAULT not in self.samples:
            raise ValueError(
                f"samples {_shown(self.samples)} names neither {name}, which is evaluated, nor a "
                f"{DEFAULT}. Add one of them"
            )
        return self.samples.get(name, self.samples.get(DEFAULT, 1))


def _shown(samples: int | NoiseBudget | Mapping[str, int]) -> str:
    """As it is written in YAML."""
    if isinstance(samples, NoiseBudget):
        return f"{{se: {samples.se:g}}}"
    if isinstance(samples, Mapping):
        return "{" + ", ".join(f"{name}: {k}" for name, k in samples.items()) + "}"
    return str(samples)


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
    single_samples: int = Field(
        4,
        ge=1,
        description="samples of each task that a single agent draws at least, where any are drawn: "
        "its majority answers at the tokens of a team",
    )
    grader: Literal["ours", "c3", "ccpo"] = Field(
        "ours",
        description="whose verdicts accuracies are made of; kinds of answers that a paper's grader "
        "was not used on (code, choice, text) are ours",
    )
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
        """A name, or as of presets a method's and a version's: c3@paper."""
        for part in name.split("@", 1):
            check_name("protocol", part)
        return name

    @model_validator(mode="after")
    def _decodings(self) -> Protocol:
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
        """Largest number of tokens of a run's message, by turn (the last one repeats); that of the
        last turn for a single agent, which answers.
        """
        if self.max_tokens and len(run.train.fanout) == 1:
            return self.max_tokens[-1:]
        return self.max_tokens or run.sampling.max_tokens

    def samples(self, decoding: str, run: RunConfig, name: str, tasks: int) -> int:
        """Episodes of each task of benchmark `name`, of which so many tasks are played."""
        drawn = self.decodings[decoding]
        asked = drawn.samples_of(name, tasks)
        single = len(run.train.fanout) == 1
        return max(asked, self.single_samples) if single and drawn.temperature > 0 else asked

    def tasks_of(self, choice: Choice) -> int:
        """Test tasks of a benchmark that are played, as far as its file says: items of a source
        that cannot be used are counted, too.
        """
        items = test_items(choice)
        return min(self.tasks or items, items)

    def most_samples(self, run: RunConfig) -> int:
        """Of the numbers of episodes of a task that its decodings ask for, the largest."""
        return max(
            decoding.samples_of(choice.name, self.tasks_of(choice))
            for decoding in self.decodings.values()
            for choice in self.benchmarks(run)
        )

    def check(self, run: RunConfig) -> None:
        """That a run can be evaluated by it.

        Raises:
            ValueError: no benchmark of it has a test split, or one is named twice; or a decoding
            says of none of them how many samples it takes, or of too many.
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
        if (most := self.most_samples(run)) > MOST_SAMPLES:
            raise ValueError(
                f"protocol {self.name} asks for {most} samples of each task; at most "
                f"{MOST_SAMPLES}. Use a larger noise budget, or more tasks"
            )

    def check_claims(self, run: RunConfig) -> None:
        """That claims can be made of a run evaluated by it: what was trained is played greedily, at
        temperature 1, and at a low temperature between, from whole distributions, and judged by our
        verifier.

        Raises:
            ValueError: one of them is missing; a paper's protocol is named first.
        """
        cut = [name for name, decoding in self.decodings.items() if decoding.truncated]
        if run.train.steps and (cut or self.grader != "ours"):
            reason = (
                f"its grader is that of a paper ({self.grader})"
                if self.grader != "ours"
                else f"{', '.join(cut)}: draws are truncated, which hides how sure a policy is"
            )
            raise ValueError(
                f"claims cannot be made under protocol {self.name}: {reason}. Name another one "
                f"first, as `evaluate: [temperatures, {self.name}]`"
            )
        temperatures = [decoding.temperature for decoding in self.decodings.values()]
        shown = 0 in temperatures and 1 in temperatures and any(0 < t <= 0.5 for t in temperatures)
        if run.train.steps and not shown:
            raise ValueError(
                f"the decodings of protocol {self.name} have the temperatures "
                f"{sorted(temperatures)}. A trained team is evaluated at 0, at 1, and at one "
                "between 0 and 0.5, since a policy that only became surer gains at temperature 1 "
                "without having learnt. Add what is missing, or leave decodings out"
            )


ITEMS = 256  # test items of a procedural benchmark whose parameters name no number


def test_items(choice: Choice) -> int:
    """Items of a benchmark's test split; of a procedural one as many as its parameter says."""
    items = int(benchmark.load(choice.name).SPLITS["test"])
    return items or int(choice.params.get("n_test", 0)) or ITEMS


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
