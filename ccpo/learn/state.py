"""What a training is made of, and what a checkpoint holds."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ccpo import benchmark
from ccpo.config import RunConfig
from ccpo.learn import optimiser, policy
from ccpo.learn.critic import Critic
from ccpo.play import engine
from ccpo.play.rollout import Speaker
from ccpo.ranks import ALONE, WHOLE, Ranks, Sharding

TABLES = ("train", "credit", "ledger", "seconds")


class State:
    """What a checkpoint holds: policies, their optimisers, critic, memories of methods, the tables so far, and the counts.

    `reference` is the policy that training started with, where the objective has a KL term. Of several ranks each has it, and the critic,
    whole; what they share out of the policies is `sharding`.
    """

    def __init__(self, run: RunConfig, folder: Path, ranks: Ranks = ALONE, sharding: Sharding = WHOLE) -> None:
        self.ranks = ranks
        team = run.build_team()
        n = team.agents if run.policy == "separate" else 1
        loaded = [policy.load(folder, run.train.dtype) for _ in range(n)]
        self.models, self.tokenizers = [m.train() for m, _ in loaded], [t for _, t in loaded]
        kind = run.plan().critic or ("context" if run.critic else "")
        self.critic = Critic(self.models[0], kind, run.critic) if kind and run.critic else None
        self.reference = policy.load(folder, run.train.dtype)[0].eval() if run.objective.kl else None
        self.optimisers = [optimiser.make(m, run.train, ranks, sharding) for m in self.models]  # sharded, nobody can copy them any more
        self.memory: dict[str, dict[str, float]] = {}
        self.step, self.generated, self.evaluated = 0, 0, 0
        self.rows: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
        asked = benchmark.load(run.benchmark.name)
        demos = tuple(asked.demos(run.shots, **run.benchmark.params)) if run.shots else ()
        make = engine.load(run.sampling.engine)
        self.engines = [make(m, policy.end_ids(m, t), ranks=ranks) for m, t in loaded]
        voices = [Speaker(e, t, demos, asked.FORM) for e, t in zip(self.engines, self.tokenizers, strict=True)]
        self.speakers = [voices[self.policy_of(agent)] for agent in range(team.agents)]

    def policy_of(self, agent: int) -> int:
        """Index of the policy an agent acts with."""
        return agent if len(self.models) > 1 else 0

    @contextmanager
    def whole(self) -> Iterator[None]:
        """All policies' weights are whole on every rank, to play with them and to save them. All ranks must enter it."""
        with ExitStack() as stack:
            for each in self.optimisers:
                stack.enter_context(each.whole())
            yield

    def save(self, scratch: Path) -> None:
        """Writes a checkpoint, of all ranks by the first; it does not depend on their number."""
        weights, moments = zip(*(each.state() for each in self.optimisers), strict=True)
        if not self.ranks.first:
            return
        counts = {"step": self.step, "generated": self.generated, "evaluated": self.evaluated}
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
        """Goes on from the newest checkpoint, if there is one."""
        saved = policy.read_checkpoint(scratch)
        if saved is None:
            return False
        for each, weights, moments in zip(self.optimisers, saved["weights.pt"], saved["optimisers.pt"], strict=True):
            each.load(weights, moments)
        if self.critic:
            self.critic.load_state_dict(copy.deepcopy(saved["critic.pt"]))  # what is mapped from a file must not outlive it
        self.rows, self.memory = saved["tables.pt"], saved["memory.pt"]
        self.step, self.generated, self.evaluated = (saved["counts.pt"][k] for k in ("step", "generated", "evaluated"))
        return True
