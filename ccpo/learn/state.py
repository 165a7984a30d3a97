"""What a training is made of, and what a checkpoint holds."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ccpo import benchmark
from ccpo.config import Objective, RunConfig
from ccpo.learn import canary, optimisers, schedule
from ccpo.learn.critic import Body, Critic
from ccpo.learn.update import Learner
from ccpo.models import policy
from ccpo.play import engine
from ccpo.play.engine import Engine
from ccpo.play.rollout import stream
from ccpo.play.types import AgentEndpoint
from ccpo.ranks import ALONE, UNSHARDED, Ranks, Sharding

TABLES = ("train", "credit", "ledger", "seconds", "canary")
COUNTED = ("step", "generated", "evaluated", "late")


class State:
    """What a checkpoint holds: policies, their optimisers, critic, memories of methods, the tables
    so far, and the counts.

    `models` has a model for each policy, which may be one model with several `adapters`: who
    computes with a policy activates it first. `references` are the models that training started
    with, once adapters are off, where the objective has a KL term. Each of several ranks has them,
    and the critic, in full; what they share out of the policies is `sharding`.
    """

    def __init__(
        self,
        run: RunConfig,
        model: Path | Sequence[Path],
        ranks: Ranks = ALONE,
        sharding: Sharding = UNSHARDED,
    ) -> None:
        self.ranks = ranks
        self.run = run.id
        starts = [model] if isinstance(model, Path) else list(model)
        own = starts.pop() if len(starts) > 1 and len(run.prepared) > len(run.models) else None
        self.folders = policy.starts(run, starts)
        self.dtype = run.train.dtype
        self.models, self.tokenizers = _load_policies(run, self.folders)
        self.critic = _critic(run, self.models[0], own)  # of the model without adapters
        self.read = [*self.folders, *([own] if own else [])]
        self.adapters = _add_adapters(run, self.models)
        self.references = _references(run, self.models, self.folders)
        # sharded, nobody can copy the models any more
        self.optimisers = [
            optimisers.make(self.activate(i), run.train, ranks, sharding)
            for i in range(len(self.models))
        ]
        self.memory: dict[str, dict[str, float]] = {}
        self.step = 0
        self.generated = 0
        self.evaluated = 0
        self.late = 0
        self.rows: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
        self.engines = self._make_engines(run)
        self.endpoints = self._make_endpoints(run)
        team = run.build_team()
        agents_of = [
            [agent for agent in range(team.agents) if self.policy_of(agent) == i]
            for i in range(len(self.models))
        ]
        self.prompt_probes = [
            canary.prompt_probe(team, agents, self.endpoints) for agents in agents_of
        ]

    def _make_engines(self, run: RunConfig) -> list[Engine]:
        """An engine for each policy."""
        make = engine.load(run.sampling.engine)
        return [
            make(
                model,
                policy.end_ids(model, tokenizer),
                ranks=self.ranks,
                activate=functools.partial(self.activate, i),
            )
            for i, (model, tokenizer) in enumerate(zip(self.models, self.tokenizers, strict=True))
        ]

    def _make_endpoints(self, run: RunConfig) -> list[AgentEndpoint]:
        """An endpoint for each agent."""
        module = benchmark.load(run.benchmark.name)
        demos = tuple(module.demos(run.shots, **run.benchmark.params)) if run.shots else ()
        of_policy = [
            AgentEndpoint(engine, tokenizer, demos, module.FORM)
            for engine, tokenizer in zip(self.engines, self.tokenizers, strict=True)
        ]
        return [of_policy[self.policy_of(agent)] for agent in range(run.build_team().agents)]

    def policy_of(self, agent: int) -> int:
        """Index of the policy an agent acts with."""
        return agent if len(self.models) > 1 else 0

    def activate(self, index: int) -> PreTrainedModel:
        """A policy's model, which computes with this policy's weights until another policy of the
        same model is activated.
        """
        return policy.set_adapter(self.models[index], self.adapters[index])

    def learner(self, index: int, run: RunConfig) -> Learner:
        """A policy, activated, with what moves it in the next update."""
        return Learner(
            index,
            self.activate(index),
            self.optimisers[index],
            self.references[index],
            lr=schedule.learning_rate(run.train, self.step, self.generated),
            kl=self.memory.get(f"kl-{index}", {}).get("weight", run.objective.kl),
        )

    def steer(
        self, objective: Objective, learner: Learner, divergence: float, messages: int
    ) -> None:
        """Remembers the weight of a policy's KL term for its next update (`schedule.steered`), and
        records the divergence (nats per token) and the weight that it had.
        """
        weight = schedule.steered(objective, learner.kl, divergence, messages)
        self.memory[f"kl-{learner.index}"] = {"weight": weight}
        head = {"step": self.step + 1, "policy": learner.index}
        seen = {"kl": divergence, "kl weight": learner.kl}
        self.rows["canary"] += [{**head, "name": k, "value": v} for k, v in seen.items()]

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Inside, every rank holds all policies' weights in full, to play with them and to save
        them. All ranks must enter it.
        """
        with ExitStack() as stack:
            for each in self.optimisers:
                stack.enter_context(each.gathered())
            yield

    def write(self, folder: Path) -> None:
        """The policies as plain Hugging Face folders, policy0 ...; of adapters, merged into their
        base, also the adapters: adapter0 ...
        """
        for index, tokenizer in enumerate(self.tokenizers):
            model = self.activate(index)
            if self.adapters[index]:
                policy.save(model, None, folder / f"adapter{index}")
                model = policy.merge_adapter(
                    self.folders[0], folder / f"adapter{index}", self.dtype
                )
            policy.save(model, tokenizer, folder / f"policy{index}")

    def save(self, scratch: Path) -> None:
        """Writes a checkpoint, of all ranks by the first; it does not depend on their number."""
        weights, moments = zip(*(each.state() for each in self.optimisers), strict=True)
        if not self.ranks.first:
            return
        counts: dict[str, Any] = {"run": self.run}
        counts |= {name: getattr(self, name) for name in COUNTED}
        policy.write_checkpoint(
            scratch,
            self.step,
            {
                "weights.pt": list(weights),
                "optimisers.pt": list(moments),
                "critic.pt": self.critic and self.critic.state_dict(),
                "memory.pt": self.memory,
                "tables.pt": self.rows,
                "counts.pt": counts,
            },
        )

    def resume(self, scratch: Path) -> bool:
        """Goes on from the newest checkpoint, if there is one.

        Raises:
            ValueError: it is damaged, or another run's.
        """
        saved = policy.read_checkpoint(scratch)
        if saved is None:
            return False
        if (owner := saved["counts.pt"].get("run")) != self.run:
            raise ValueError(
                f"the checkpoint in {scratch} belongs to {owner or 'a run that it does not name'}, "
                f"this run is {self.run}. Remedy: give each run a scratch folder of its own, or "
                "delete that one to start anew."
            )
        for each, weights, moments in zip(
            self.optimisers, saved["weights.pt"], saved["optimisers.pt"], strict=True
        ):
            each.load(weights, moments)
        if self.critic:
            # what is mapped from a file must not outlive it
            self.critic.load_state_dict(copy.deepcopy(saved["critic.pt"]))
        self.rows = saved["tables.pt"]
        self.memory = saved["memory.pt"]
        for name in COUNTED:
            setattr(self, name, saved["counts.pt"][name])
        return True


def _load_policies(
    run: RunConfig, folders: Sequence[Path]
) -> tuple[list[PreTrainedModel], list[PreTrainedTokenizerBase]]:
    """Model and tokenizer of each policy, ready to train: one that all agents share, one for each
    agent, or one model for all adapters.
    """
    n = 1 if run.policy == "shared" else run.build_team().agents
    if run.lora:
        loaded = [policy.load(folders[0], run.train.dtype)] * n
    else:
        loaded = [policy.load(folder, run.train.dtype) for folder in _of_policies(folders, n)]
    models, tokenizers = zip(*loaded, strict=True)
    return [model.train() for model in models], list(tokenizers)


def _of_policies(folders: Sequence[Path], n: int) -> list[Path]:
    """The folder that each of n policies starts from."""
    return (list(folders) * n)[:n]


def _critic(run: RunConfig, model: PreTrainedModel, own: Path | None) -> Critic | None:
    """The critic that the run's credit or advantage asks for, if any: with the body of the model
    that training starts with, or of the model in the folder `own`.

    Raises:
        ValueError: it should have a model of its own, and no folder is given.
    """
    kind = run.plan().critic or ("context" if run.critic else "")
    if not kind or not run.critic:
        return None
    if run.critic.model is None:
        return Critic(Body.of_policy(model), kind, run.critic)
    if own is None:
        raise ValueError(
            f"the critic of {run.id} has a model of its own, {run.critic.model.name}, and its "
            "folder is not given. Remedy: name it after the models that training starts with."
        )
    return Critic(Body(*policy.load_reader(own, run.critic.dtype)), kind, run.critic)


def _add_adapters(run: RunConfig, models: Sequence[PreTrainedModel]) -> list[str]:
    """Adds an adapter for each policy; their names, or "" for each policy without one."""
    if not run.lora:
        return [""] * len(models)
    names = [f"agent{i}" for i in range(len(models))]
    policy.adapt(models[0], run.lora, names, stream("adapter", run.seed))
    return names


def _references(
    run: RunConfig, models: Sequence[PreTrainedModel], folders: Sequence[Path]
) -> list[PreTrainedModel | None]:
    """For each policy the model that a KL term compares with: itself, once its adapter is off, or a
    copy; None where there is no such term.
    """
    if not run.objective.kl:
        return [None] * len(models)
    if run.lora:
        return list(models)
    copies = {folder: policy.load(folder, run.train.dtype)[0].eval() for folder in folders}
    return [copies[folder] for folder in _of_policies(folders, len(models))]
