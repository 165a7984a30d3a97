"""What an experiment draws from its runs to measure credit on them: frozen contexts, candidate
messages, replays, at shares of the training. No part of a training's identity.

A probe is named by its content, 8 hex digits, less the shares `at` which it is drawn: its tables of
a run lie in results/runs/{run}/probe/{share}-{that name}.*, so that one share more draws that one
only.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import Field, field_validator, model_validator

from ccpo import STAGE_VERSIONS, benchmark
from ccpo.config.choice import Choice, Strict, fingerprint, resolve
from ccpo.config.reading import read_json, validated
from ccpo.config.run import RunConfig


class Probe(Strict):
    """Frozen contexts from the team's own play on test tasks, candidates drawn from the policy in
    each, and replays of what follows each candidate.

    Halves of the candidates and of the replays serve the estimate and the target, and the target's
    halves again its reliability: both numbers are multiples of 4.
    """

    at: tuple[float, ...] = Field(
        (0.0, 1.0), min_length=1, description="shares of the training; 0: untrained, 1: final"
    )
    tasks: int = Field(32, ge=2, description="test tasks, from the start of the benchmark")
    contexts: int = Field(
        4, ge=2, description="contexts of a task, where an earlier message is part of them"
    )
    candidates: int = Field(8, ge=4, multiple_of=4, description="messages drawn in each context")
    replays: int = Field(8, ge=4, multiple_of=4, description="endings drawn below each candidate")
    temperature: float | None = Field(
        None, gt=0, description="none: that of training, whose credit is measured"
    )
    benchmark: Choice | None = Field(None, description="none: the one trained on")
    seed: int = Field(0, ge=0)
    stage: int = STAGE_VERSIONS["probe"]

    @model_validator(mode="before")
    @classmethod
    def _resolve(cls, data: object) -> object:
        if isinstance(data, Mapping) and data.get("benchmark") is not None:
            return {**data, "benchmark": resolve("benchmark", data["benchmark"])}
        return data

    @field_validator("at")
    @classmethod
    def _shares(cls, at: tuple[float, ...]) -> tuple[float, ...]:
        for share in at:
            if not 0 <= share <= 1 or round(share, 2) != share:
                raise ValueError(
                    f"at names {share}. A share of the training is a number from 0 to 1 with two "
                    "decimals at most, as 0.25"
                )
        if len(set(at)) < len(at):
            raise ValueError(f"at {list(at)} names a share twice")
        return tuple(sorted(at))

    @property
    def id(self) -> str:
        """8 hex digits of what is drawn."""
        return fingerprint(self.model_dump(mode="json", exclude={"at"}))

    @property
    def kept(self) -> tuple[float, ...]:
        """The shares whose weights a training must keep: those between its start and its end."""
        return tuple(share for share in self.at if 0 < share < 1)

    def benchmark_of(self, run: RunConfig) -> Choice:
        """What the contexts of a run are taken from."""
        return self.benchmark or run.benchmark

    def check(self, run: RunConfig) -> None:
        """That a run can be probed.

        Raises:
            ValueError: the benchmark has no test split.
        """
        name = self.benchmark_of(run).name
        if "test" not in benchmark.load(name).SPLITS:
            raise ValueError(
                f"probes: benchmark {name} has no test split to take contexts from. Remedy: name "
                "one in probes.benchmark"
            )


def share_name(share: float) -> str:
    """How a share of the training is written in names of files, as 0.50."""
    return f"{share:.2f}"


def read_probe(path: str | Path) -> Probe:
    """The probe of a probe's JSON file.

    Raises:
        ValueError: the file is missing, is not JSON, or is not a valid probe.
    """
    return validated(str(path), lambda: Probe.model_validate(read_json(Path(path))))
