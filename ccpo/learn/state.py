"""What a training is made of, and what a checkpoint holds."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ccpo import benchmark
from ccpo.config import RunConfig
from ccpo.learn import canary, optimiser
from ccpo.learn.critic import Critic
from ccpo.models import policy
from ccpo.play import engine
from ccpo.play.rollout import Speaker, stream
from ccpo.ranks import ALONE, WHOLE, Ranks, Sharding

TABLES = ("train", "credit", "ledger", "seconds", "canary")
COUNTED = ("step", "generated", "evaluated", "late")


class State:
    """What a checkpoint holds: policies, their optimisers, critic, memories of methods, the tables
    so far, and the counts.

    `models` has a model for each policy, which may be one model with several `adapters`: who
    computes with a policy says so by `live`.
    `references` are the models that training started with, once adapters are off, where the
    objective has a KL term. Of several ranks each has them, and the critic, whole; what they share
    out of the policies is `sharding`.
    """

    def __init__(
        self,
        run: RunConfig,
        model: Path | Sequence[Path],
        ranks: Ranks = ALONE,
        sharding: Sharding = WHOLE,
    ) -> None:
        self.ranks = ranks
        self.run = run.id
        team = run.build_team()
        self.folders = policy.starts(run, model)
        self.dtype = run.train.dtype
        n = 1 if run.policy == "shared" else team.agents
        each = (self.folders * n)[:n]
        loaded = [
            policy.load(folder, self.dtype) for folder in (each[:1] if run.lora else each)
        ] * (n if run.lora else 1)
        self.models = [m.train() for m, _ in loaded]
        self.tokenizers = [t for _, t in loaded]
        kind = run.plan().critic or ("context" if run.critic else "")
        # of the model without adapters
        self.critic = Critic(self.models[0], kind, run.critic) if kind and run.critic else None
        self.adapters = [f"agent{i}" for i in range(n)] if run.lora else [""] * n
        if run.lora:
            policy.adapt(self.models[0], run.lora, self.adapters, stream("adapter", run.seed))
        self.references: list[Any] = [None] * n
        if run.objective.kl:
            before = (
                {}
                if run.lora
                else {folder: policy.load(folder, self.dtype)[0].eval() for folder in self.folders}
            )
            self.references = self.models if run.lora else [before[folder] for folder in each]
        # sharded, nobody can copy them any more
        self.optimisers = [
            optimiser.make(self.live(i), run.train, ranks, sharding) for i in range(n)
        ]
        self.memory: dict[str, dict[str, float]] = {}
        self.step = 0
        self.generated = 0
        self.evaluated = 0
        self.late = 0
        self.rows: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
        asked = benchmark.load(run.benchmark.name)
        demos = tuple(asked.demos(run.shots, **run.benchmark.params)) if run.shots else ()
        make = engine.load(run.sampling.engine)
        self.engines = [
            make(m, policy.end_ids(m, t), ranks=ranks, ready=functools.partial(self.live, i))
            for i, (m, t) in enumerate(zip(self.models, self.tokenizers, strict=True))
        ]
        voices = [
            Speaker(e, t, demos, asked.FORM)
            for e, t in zip(self.engines, self.tokenizers, strict=True)
        ]
        self.speakers = [voices[self.policy_of(agent)] for agent in range(team.agents)]
        self.songs = [
            canary.song(
                team, [a for a in range(team.agents) if self.policy_of(a) == i], self.speakers
            )
            for i in range(n)
        ]

    def policy_of(self, agent: int) -> int:
        """Index of the policy an agent acts with."""
        return agent if len(self.models) > 1 else 0

    def live(self, index: int) -> Any:
        """A policy's model, which computes with this policy's weights until another policy of the
        same model is live.
        """
        return policy.live(self.models[index], self.adapters[index])

    @contextmanager
    def whole(self) -> Iterator[None]:
        """All policies' weights are whole on every rank, to play with them and to save them. All
        ranks must enter it.
        """
        with ExitStack() as stack:
            for each in self.optimisers:
                stack.enter_context(each.whole())
            yield

    def write(self, folder: Path) -> None:
        """The policies as plain Hugging Face folders, policy0 ...; of adapters, merged into their
        base, also the adapters: adapter0 ...
        """
        for index, tokenizer in enumerate(self.tokenizers):
            model = self.live(index)
            if self.adapters[index]:
                policy.save(model, None, folder / f"adapter{index}")
                model = policy.merged(self.folders[0], folder / f"adapter{index}", self.dtype)
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
