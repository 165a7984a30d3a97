"""What playing is made of: agents' endpoints, messages, scored trees, and the ledger of what they
cost.
"""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypedDict

from ccpo.benchmark import BOXED, Demo
from ccpo.play.engine import Completion, Engine, SamplingParams
from ccpo.play.prompts import ChatFormat
from ccpo.team import Role, Team, chat
from ccpo.tree import Tree

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

COUNTS = ("prompt_tokens", "generated_tokens", "trained_tokens", "evaluator_calls")


@dataclass
class Ledger:
    """Counts by (agent, purpose), verdicts that were not reached, and wall seconds by part of an
    update.
    """

    counts: dict[tuple[int, str], dict[str, int]] = field(default_factory=dict)
    late: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, agent: int, purpose: str, **numbers: int) -> None:
        """Adds to an account; the names are those of COUNTS."""
        account = self.counts.setdefault((agent, purpose), dict.fromkeys(COUNTS, 0))
        for name, number in numbers.items():
            account[name] += number

    def timed(self, part: str, start: float) -> None:
        """Adds the seconds since `start` (time.perf_counter) to a part."""
        self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - start

    def total(self, name: str) -> int:
        """Sum of one count over all accounts."""
        return sum(account[name] for account in self.counts.values())


@dataclass(frozen=True)
class AgentEndpoint:
    """How one agent is reached: its engine, its tokenizer, the solved examples that its prompts
    show, and the form of its answers.
    """

    engine: Engine
    tokenizer: PreTrainedTokenizerBase
    demos: tuple[Demo, ...] = ()
    form: str = BOXED

    def prompt(self, role: Role, question: str, read: Sequence[str]) -> list[int]:
        """Token ids of the chat prompt for a role that reads the messages `read`."""
        system, user = chat(role, question, read, self.form)
        examples: list[dict[str, str]] = []
        for demo in self.demos:
            plan = [demo.plan] if "{read}" in role.user else []
            examples += [
                chat(role, demo.question, plan)[1],
                {"role": "assistant", "content": getattr(demo, role.demo)},
            ]
        return self.encode([system, *examples, user])

    def encode(self, messages: Sequence[dict[str, str]]) -> list[int]:
        """Token ids of chat messages, with what makes the model answer; no message can become a
        mark of the template.
        """
        return self.chat_format.encode(messages)

    def text(self, completion: Completion) -> str:
        """A completion as text, without special tokens."""
        return self.chat_format.text(completion.token_ids)

    @functools.cached_property
    def chat_format(self) -> ChatFormat:
        """How its tokenizer writes chat messages."""
        return ChatFormat(self.tokenizer)


@dataclass(frozen=True)
class PlayingTeam:
    """A team that can play: its topology, an endpoint for each agent, and how messages are drawn
    (`top_p`, `top_k`: in evaluations, see SamplingParams).

    `max_tokens`: the largest message of each turn; the last number stands for all later turns.
    """

    team: Team
    endpoints: Sequence[AgentEndpoint]
    temperature: float
    max_tokens: Sequence[int]
    rating_tokens: int = 512
    top_p: float = 1.0
    top_k: int = 0

    def sampling(self, turn: int) -> SamplingParams:
        """How the messages of a turn are drawn."""
        most = self.max_tokens[min(turn, len(self.max_tokens) - 1)]
        return SamplingParams(self.temperature, most, self.top_p, self.top_k)

    def endpoint(self, turn: int) -> AgentEndpoint:
        """The endpoint of the agent that writes a turn."""
        return self.endpoints[self.team.turns[turn].agent]


@dataclass(frozen=True)
class Message:
    """One message as generated: prompt, completion, text, the purpose its tokens are booked on."""

    prompt: list[int]
    completion: Completion
    text: str
    purpose: str

    @property
    def has_room(self) -> bool:
        """Whether its prompt left room for it; else it is empty."""
        return bool(self.completion.token_ids)


@dataclass(frozen=True)
class ScoredTree:
    """A tree with the reward of each message, its messages (same order), the text of each message's
    answer ("" where there is none), and how often each reason made a rating invalid.
    """

    tree: Tree
    messages: list[Message]
    answers: list[str]
    rejections: Counter[str] = field(default_factory=Counter)


class RolloutRow(TypedDict):
    """A row of the table `rollouts`, without the names of benchmark and decoding."""

    task_id: str
    sample: int
    intervention: str
    turn: int
    agent: int
    fate: str
    prompt: str
    completion: str
    n_prompt_tokens: int
    n_completion_tokens: int
    logprob: float
    finish_reason: str
