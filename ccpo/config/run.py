"""One run, fully resolved: what can change a number, checked and named by its content."""

from __future__ import annotations

import re
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from ccpo import STAGE_VERSIONS, advantage, benchmark, credit, team
from ccpo.config.choice import FOLDERS, LATER, Choice, Strict, fingerprint, resolve
from ccpo.config.model import Model, WarmStart
from ccpo.team import Team
from ccpo.tree import Plan


class Advantage(Choice):
    """A file of ccpo/advantage. `per_token` divides a message's advantage by its tokens."""

    per_token: bool = False


class Objective(Choice):
    """A file of ccpo/objective, and terms that any of them may have beside its policy loss, both a
    mean over the mini-batch's tokens.
    """

    kl: float = Field(
        0.0,
        ge=0,
        description="weight of the KL divergence from the policy that training starts with",
    )
    entropy: float = Field(0.0, ge=0, description="weight of the entropy bonus")
    kl_target: float | None = Field(
        None,
        gt=0,
        description="nats per token that the divergence is steered to, from the weight `kl` on",
        json_schema_extra=LATER,
    )
    kl_horizon: int = Field(
        10_000,
        ge=1,
        description="messages in which a divergence twice the target raises the weight by a fifth",
        json_schema_extra=LATER,
    )

    @model_validator(mode="after")
    def _steered(self) -> Objective:
        if self.kl_target is not None and not self.kl:
            raise ValueError(
                f"objective.kl_target={self.kl_target} steers the weight kl, which is 0. Give the "
                "weight to begin with, as kl: 0.01"
            )
        return self


class Critic(Strict):
    """A critic: the starting model's body, or that of a model of its own, with a value head,
    trained in the loop (ccpo/learn/critic.py).
    """

    model: Model | None = Field(
        None,
        description="a name in models.yaml: its own, with its own tokenizer; none: as the policies",
        json_schema_extra=LATER,
    )
    dtype: Literal["float32", "bfloat16"] = Field(
        "float32", description="of its own model", json_schema_extra=LATER
    )
    lr: float = Field(gt=0)
    steps: int = Field(1, ge=1, description="optimiser steps of an update")
    warmup: int = Field(0, ge=0, description="first updates in which only the critic learns")
    clip: float = Field(0.5, gt=0, description="largest change of a value in one update")

    @model_validator(mode="after")
    def _own(self) -> Critic:
        if self.model is None and self.dtype != "float32":
            raise ValueError(
                f"critic.dtype={self.dtype} is of a model of its own, and it has none: it computes "
                "as the policies do. Leave dtype out, or name a model"
            )
        return self


class Lora(Strict):
    """Adapters of low rank beside all linear layers of one frozen model, one for each agent (arXiv
    2106.09685). No dropout: an importance ratio compares one function with itself.
    """

    rank: int = Field(8, ge=1)
    alpha: int = Field(16, ge=1, description="an adapter's product is scaled by alpha / rank")


class Sampling(Strict):
    """How messages are drawn while training. Truncated sampling (top-p, top-k) together with
    importance ratios is refused.
    """

    temperature: float = Field(1.0, gt=0)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=0)
    max_tokens: tuple[int, ...] = Field(
        description="largest number of tokens of a message, by turn (the last one repeats)"
    )
    rating_tokens: int = Field(
        512,
        ge=1,
        description="largest number of tokens of a rating, where the credit asks for ratings",
    )
    engine: str = Field(
        "hf",
        description="what draws the messages, hf or vllm; each draws others from the same seed",
    )

    @field_validator("engine")
    @classmethod
    def _engine(cls, engine: str) -> str:
        if not re.fullmatch(r"hf|vllm|scripted:\w+(\.\w+)+", engine):
            raise ValueError("Input should be 'hf' or 'vllm'")
        return engine

    @model_validator(mode="after")
    def _full(self) -> Sampling:
        if self.top_p < 1 or self.top_k > 0:
            raise ValueError(
                f"top_p={self.top_p}, top_k={self.top_k}: truncated sampling biases importance "
                "ratios, whose log-probs are those of "
                "the full distribution. Use top_p=1 and top_k=0."
            )
        if not self.max_tokens or min(self.max_tokens) < 1:
            raise ValueError("max_tokens needs one number >= 1, or one for each turn")
        return self


class Train(Strict):
    """The loop. It ends after `steps` updates, or after the first update at which `tokens`
    generated tokens are reached.
    """

    steps: int = Field(ge=0)
    tokens: int | None = Field(None, ge=1)
    tasks: int = Field(ge=1, description="tasks of one update")
    fanout: tuple[int, ...] = Field(
        description="messages each turn draws below each message of the turn before"
    )
    lr: float = Field(gt=0)
    warmup: int = Field(0, ge=0, description="updates of linear warm-up")
    warmup_share: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the training that is linear warm-up, instead of `warmup`",
        json_schema_extra=LATER,
    )
    schedule: Literal["constant", "linear", "cosine"] = Field(
        "constant",
        description="of the learning rate after the warm-up, down to `floor` at the end",
        json_schema_extra=LATER,
    )
    floor: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the learning rate that a schedule ends with",
        json_schema_extra=LATER,
    )
    weight_decay: float = Field(0.0, ge=0)
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = Field(
        (0.9, 0.999), description="AdamW's two decays", json_schema_extra=LATER
    )
    grad_clip: float = Field(1.0, gt=0)
    minibatches: int = Field(1, ge=1, description="optimiser steps of one update, each epoch")
    epochs: int = Field(
        1,
        ge=1,
        description="times that an update goes through its messages",
        json_schema_extra=LATER,
    )
    order: Literal["alternating", "simultaneous"] = Field(
        "alternating", description="policies of their own: one learns at a time, or all"
    )
    period: int = Field(
        10, ge=1, description="alternating: updates before the next agent's turn to learn"
    )
    start: int = Field(0, ge=0, description="alternating: the agent that learns first")
    dtype: Literal["float32", "bfloat16"] = "float32"

    @model_validator(mode="after")
    def _schedule(self) -> Train:
        if self.warmup and self.warmup_share:
            raise ValueError(
                f"train.warmup={self.warmup} and train.warmup_share={self.warmup_share} both say "
                "how long the learning rate rises. Give one of them"
            )
        if self.floor and self.schedule == "constant":
            raise ValueError(
                f"train.floor={self.floor} is where a schedule ends, and schedule is constant. "
                "Use schedule linear or cosine, or leave floor out"
            )
        return self


class Accepted(Strict):
    """Training items that are test items are trained on, and this is why."""

    accept: str

    @model_validator(mode="after")
    def _in_words(self) -> Accepted:
        if len(self.accept.split()) < 3:
            raise ValueError(
                f"overlap.accept {self.accept!r} is no reason. Give one, in three words or more."
            )
        return self


class RunConfig(Strict):
    """Everything that can change a number of one run. Where and how it runs (GPUs, paths, tracking)
    is not here.
    """

    benchmark: Choice
    team: Choice
    credit: Choice
    advantage: Advantage
    objective: Objective
    critic: Critic | None = None
    # one for all agents, or one for each
    model: Model | Annotated[tuple[Model, ...], Field(min_length=2)]
    policy: Literal["shared", "separate", "lora"] = "shared"
    lora: Lora | None = Field(
        None, description="with policy lora, where it is filled in, and nowhere else"
    )
    shots: int = Field(
        0, ge=0, description="solved examples shown as chat turns before the question"
    )
    sampling: Sampling
    train: Train
    overlap: Literal["stop", "drop"] | Accepted = Field(
        "stop", description="what to do with training items that are test items"
    )
    seed: int = Field(ge=0)
    stage: int = STAGE_VERSIONS["train"]

    @model_validator(mode="before")
    @classmethod
    def _resolve(cls, data: Any) -> Any:
        data = {"advantage": "group_mean", "objective": "grpo", **data}
        for kind in FOLDERS:
            if kind in data:
                data[kind] = resolve(kind, data[kind])
        if data.get("policy") == "lora" and data.get("lora") is None:
            data["lora"] = {}
        return data

    @model_validator(mode="after")
    def _together(self) -> RunConfig:
        self._train_split()
        the_team = self.build_team()
        if len(self.train.fanout) != len(the_team.turns):
            raise ValueError(
                f"train.fanout {list(self.train.fanout)} has {len(self.train.fanout)} numbers, "
                f"team {self.team.name} has "
                f"{len(the_team.turns)} turns. Give one number for each turn."
            )
        plan = self.plan()
        self._critic(plan)
        if self.credit.name == "none" and self.train.steps:
            raise ValueError(
                f"credit none teaches nothing, train.steps is {self.train.steps}. Set "
                "train.steps to 0, or name a method."
            )
        if self.train.steps and self.compares == "group" and plan.episodes < 2:
            raise ValueError(
                f"advantage {self.advantage.name} compares the messages of a group, but "
                f"train.fanout {list(self.train.fanout)} makes "
                "one episode a task. Use more episodes, or advantage none."
            )
        self._policies(the_team)
        self._speakable()
        return self

    def _policies(self, the_team: Team) -> None:
        """What the agents act with fits the team."""
        if mute := [model.name for model in self.models if model.reader]:
            raise ValueError(
                f"model {mute[0]} speaks nothing (reader: true in models.yaml): no agent can act "
                "with it. Name it as critic.model, or another model here"
            )
        if isinstance(self.model, tuple):
            named = f"model {[m.name for m in self.model]}"
            if self.policy != "separate":
                raise ValueError(
                    f"{named}: several models cannot have policy {self.policy}. Use policy "
                    "separate."
                )
            if len(self.model) != the_team.agents:
                raise ValueError(
                    f"{named} names {len(self.model)}, team {self.team.name} has "
                    f"{the_team.agents} agents. Name one for each."
                )
            if len({m.slug for m in self.model}) == 1:
                raise ValueError(
                    f"{named} names one model for every agent. Say it once: `model: "
                    f"{self.model[0].name}`"
                )
            if self.critic and self.critic.model is None:
                raise ValueError(
                    f"{named}: a critic reads all agents' contexts with one model, whose tokens "
                    "the other agents' are not. Use one model, a critic with a model of its own "
                    "(critic.model), or a credit and an advantage without a critic."
                )
        if self.policy == "separate" and the_team.agents == 1:
            raise ValueError(
                f"policy separate needs several agents; team {self.team.name} has one. Use "
                "policy shared."
            )
        if self.policy != "shared" and self.train.start >= the_team.agents:
            raise ValueError(
                f"train.start={self.train.start}, but the agents of team {self.team.name} are "
                f"0..{the_team.agents - 1}"
            )
        if self.lora and self.policy != "lora":
            raise ValueError(
                f"the run has a block lora, but policy {self.policy}. Remove the block, or use "
                "policy lora."
            )

    def _speakable(self) -> None:
        """vLLM's kernels ask for heads of a certain width; what we build may have others."""
        for model in self.models if self.sampling.engine == "vllm" else ():
            spec = model.spec
            if isinstance(spec, WarmStart) and spec.hidden / spec.heads % 32:
                raise ValueError(
                    "sampling.engine vllm needs heads whose width is a multiple of 32; model "
                    f"{model.name} has hidden {spec.hidden} and "
                    f"heads {spec.heads}. Use engine hf, or a model with heads "
                    f"{max(1, spec.hidden // 32)} in models.yaml."
                )

    def _train_split(self) -> None:
        """Training needs a train split."""
        if self.train.steps and "train" not in _splits_of(self.benchmark.name):
            raise ValueError(
                f"benchmark {self.benchmark.name} has no train split, train.steps is "
                f"{self.train.steps}. Set train.steps to 0, or train on one of: "
                f"{', '.join(_with_split('train'))}; and name {self.benchmark.name} in `also` of "
                "a protocol"
            )

    def _critic(self, plan: Plan) -> None:
        """A critic where there is need of one, for one purpose, and nowhere else."""
        if self.compares == "critic" and plan.critic:
            raise ValueError(
                f"advantage {self.advantage.name} takes a critic's value out of the credit, and "
                f"credit {self.credit.name} has its own use "
                "for the critic. Use advantage batch_whiten, group_z or none."
            )
        needy = f"advantage {self.advantage.name}" if self.compares == "critic" else ""
        who = f"credit {self.credit.name}" if plan.critic else needy
        if who and self.critic is None:
            raise ValueError(
                f"{who} needs a critic, the run has none. Add one, as `critic: {{lr: 5.0e-5}}`"
            )
        if self.critic is not None and not who:
            raise ValueError(
                f"the run has a critic, but neither credit {self.credit.name} nor advantage "
                f"{self.advantage.name} asks it"
            )

    @property
    def models(self) -> tuple[Model, ...]:
        """The models that training starts with: one for all agents, or one for each."""
        return self.model if isinstance(self.model, tuple) else (self.model,)

    @property
    def prepared(self) -> tuple[Model, ...]:
        """What has to be prepared before training: the models that it starts with, then the
        critic's own, if it has one.
        """
        own = self.critic.model if self.critic else None
        return (*self.models, own) if own else self.models

    @property
    def base(self) -> str:
        """The base model it starts from, as "tiny/3"; joined by "+" where each agent has one."""
        return "+".join(model.base for model in self.models)

    def build_team(self) -> Team:
        """The team of this run."""
        return team.load(self.team.name).team(**self.team.params)

    def plan(self) -> Plan:
        """What each task of an update generates."""
        return typing.cast(
            Plan,
            credit.load(self.credit.name).plan(
                self.build_team(), self.train.fanout, **self.credit.params
            ),
        )

    @property
    def compares(self) -> str:
        """What the advantage compares a message with (ccpo/advantage)."""
        return str(advantage.load(self.advantage.name).COMPARES)

    def degenerate(self) -> str:
        """Why, by algebra, this run's credit teaches nothing beyond the shared reward; "" where it
        may.
        """
        return str(credit.load(self.credit.name).degenerate(self.compares, **self.credit.params))

    @property
    def id(self) -> str:
        """The run's folder name."""
        short = fingerprint(self.model_dump(mode="json"))
        models = "+".join(model.name for model in self.models)
        method = f"{self.benchmark.name}.{self.team.name}.{self.credit.name}"
        return f"{method}.{models}.s{self.seed}-{short}"


def _splits_of(name: str) -> Mapping[str, int]:
    return typing.cast(Mapping[str, int], benchmark.load(name).SPLITS)


def _with_split(split: str) -> list[str]:
    return [name for name in benchmark.names() if split in _splits_of(name)]


def tasks_slug(choice: Choice) -> str:
    """File name of a benchmark's task table: its name and 8 hex digits of its parameters and
    version.
    """
    identity = {**choice.model_dump(mode="json"), "stage": STAGE_VERSIONS["tasks"]}
    return f"{choice.name}-{fingerprint(identity)}"


def flat(value: Any, key: str = "") -> dict[str, Any]:
    """Settings by dotted key; a list is one setting. What is not set has no key, nor has a block
    without settings.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        return {key: value}
    parts = [flat(item, f"{key}.{name}" if key else str(name)) for name, item in value.items()]
    return {name: item for part in parts for name, item in part.items()}
