"""Canaries: after each update, does the engine generate with the weights that the trainer has now?
A disagreement stops the run.

Two are compared. Log-probs of fixed messages, the engine's by its own cached decoding, the
trainer's by one forward pass; and, of an engine that has weights of its own, their sums with those
of the trainer's, layer by layer, which tell of a layer that was not pushed however little it moved.
Beside them `update_policy` compares the log-probs of all messages of a batch before it learns from
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ccpo.models import policy
from ccpo.models.gate import GAP, QUESTION, REPLY
from ccpo.play.engine import Engine, sums_by_layer
from ccpo.play.types import AgentEndpoint, Message
from ccpo.team import Team

SUMS = 1e-9  # relative; sums are in float64, and weights are copied exactly
RETOKENIZED = 16  # messages of an update that are tokenized again
RATIOS = (0.5, 0.8, 0.9, 0.99, 1.01, 1.1, 1.25, 2.0)  # bounds of the histogram of importance ratios


@dataclass(frozen=True)
class PromptProbe:
    """Fixed prompts of a policy's roles, and the message that follows each, as token ids."""

    prompts: list[list[int]]
    completions: list[list[int]]

    @property
    def tokens(self) -> int:
        """Tokens of all prompts and completions."""
        return sum(map(len, self.prompts + self.completions))


def prompt_probe(
    team: Team, agents: Sequence[int], endpoints: Sequence[AgentEndpoint]
) -> PromptProbe:
    """Prompts of the agents of one policy, each with a reply of three tokens: of one or two a
    trained model may be all too sure.
    """
    turns = [(i, turn) for i, turn in enumerate(team.turns) if turn.agent in agents]
    prompts = [
        endpoints[turn.agent].prompt(
            team.role(i, range(len(team.turns))), QUESTION, [REPLY] * len(turn.reads)
        )
        for i, turn in turns
    ]
    replies = [
        list(endpoints[turn.agent].tokenizer.encode(REPLY, add_special_tokens=False))[:3]
        for _, turn in turns
    ]
    return PromptProbe(prompts, replies)


def gap(model: PreTrainedModel, engine: Engine, probe: PromptProbe, temperature: float) -> float:
    """Largest difference of engine's and trainer's log-probs of the probe; NaN where one is."""
    training = model.training
    model.eval()
    with torch.no_grad():
        trainer, mask, _ = policy.completion_logprobs(
            model, probe.prompts, probe.completions, temperature
        )
    model.train(training)
    # second: the engine switches its own adapter on
    logprobs = engine.logprobs(probe.prompts, probe.completions, temperature)
    rows = zip(trainer.cpu(), mask.cpu(), logprobs, strict=True)
    return float(np.max([np.abs(row[m].numpy() - np.array(e)).max() for row, m, e in rows]))


@dataclass(frozen=True)
class Tolerance:
    """What the canary compares at: the sampling temperature, and the dtype that sets the allowed
    difference.
    """

    temperature: float
    dtype: str


def check(
    where: str, model: PreTrainedModel, engine: Engine, probe: PromptProbe, tolerance: Tolerance
) -> float:
    """The gap.

    Raises:
        ValueError: log-probs or weights are not the same; with the numbers.
    """
    difference = gap(model, engine, probe, tolerance.temperature)
    if not difference <= GAP[tolerance.dtype]:
        words = disagreement(difference, tolerance.dtype)
        raise ValueError(f"{where}: canary: on fixed messages {words}")
    engine_sums = engine.layer_sums()
    trainer_sums = sums_by_layer(model.named_parameters()) if engine_sums else {}
    for name, want in sorted(trainer_sums.items()):
        have = engine_sums.get(name, 0.0)
        if not abs(want - have) <= SUMS * abs(want):
            raise ValueError(
                f"{where}: canary: the weights of {name} sum up to {want:.12g} in the trainer and "
                f"to {have:.12g} in the engine, so that these were not pushed. {REMEDY}"
            )
    return difference


REMEDY = (
    "The last checkpoint is untouched. Remedy: run again; if it comes back, sampling.engine "
    "hf, and tell us."
)


def disagreement(difference: float, dtype: str) -> str:
    """Words for engine and trainer that are not in step."""
    apart = f"engine and trainer log-probs differ by {difference:.3g} (allowed {GAP[dtype]})"
    return f"{apart}, so the engine does not speak with the trainer's weights. {REMEDY}"


def drift(messages: Sequence[Message], tokenizer: PreTrainedTokenizerBase) -> float:
    """Share of messages whose text, tokenized again, gives other tokens: why tokens that are learnt
    from are those that were drawn.
    """
    special = set(tokenizer.all_special_ids)
    drawn = [[i for i in message.completion.token_ids if i not in special] for message in messages]
    again = [list(tokenizer.encode(message.text, add_special_tokens=False)) for message in messages]
    return float(np.mean([a != b for a, b in zip(drawn, again, strict=True)]))


def histogram(ratio: torch.Tensor) -> list[float]:
    """Counts of importance ratios between the bounds RATIOS."""
    bin_number = torch.bucketize(ratio.float().cpu(), torch.tensor(RATIOS))
    return torch.bincount(bin_number, minlength=len(RATIOS) + 1).double().tolist()


class CanaryRow(TypedDict):
    """A row of the table `canary`."""

    step: int
    policy: int
    name: str
    value: float


def rows(
    step: int, index: int, difference: float, drifted: float, ratios: Sequence[float]
) -> list[CanaryRow]:
    """Rows of the table `canary`."""
    bounds = ["", *map(str, RATIOS), ""]
    total = max(1.0, sum(ratios))
    numbers = {"gap": difference, "retokenized": drifted}
    numbers |= {
        f"ratio {bounds[i]}..{bounds[i + 1]}": count / total for i, count in enumerate(ratios)
    }
    return [
        {"step": step, "policy": index, "name": name, "value": value}
        for name, value in numbers.items()
    ]
