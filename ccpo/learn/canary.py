"""Canaries: after each update, does the engine speak with the weights that the trainer has now?
What disagrees stops the run.

Two are compared. Log-probs of fixed messages, the engine's by its own cached decoding, the
trainer's by one forward pass; and, of an engine that has weights of its own, their sums with those
of the trainer's, layer by layer, which tell of a layer that was not pushed however little it moved.
Beside them `improve` compares the log-probs of all messages of a batch before it learns from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ccpo.models import policy
from ccpo.play.engine import Engine, layers
from ccpo.play.rollout import Message, Speaker
from ccpo.team import Team

# Largest difference of log-probs of the same weights: float32 adds up in other orders (5e-5 seen on
# SmolLM2-135M), bfloat16 has 8 bits.
GAP = {"float32": 2e-3, "bfloat16": 0.5}
SUMS = 1e-9  # relative; sums are in float64, and weights are copied exactly
QUESTION = "What is 2+2?"
REPLY = "2+2=4"
SOME = 16  # messages of an update that are tokenized again
RATIOS = (0.5, 0.8, 0.9, 0.99, 1.01, 1.1, 1.25, 2.0)  # bounds of the histogram of importance ratios


@dataclass(frozen=True)
class Song:
    """Fixed prompts of a policy's roles, and the message that follows each, as token ids."""

    prompts: list[list[int]]
    completions: list[list[int]]


def song(team: Team, agents: Sequence[int], speakers: Sequence[Speaker]) -> Song:
    """What the agents of one policy are asked and made to say: three tokens, for of one or two a
    trained model may be all too sure.
    """
    turns = [(i, turn) for i, turn in enumerate(team.turns) if turn.agent in agents]
    prompts = [
        speakers[t.agent].prompt(
            team.role(i, range(len(team.turns))), QUESTION, [REPLY] * len(t.reads)
        )
        for i, t in turns
    ]
    return Song(
        prompts,
        [
            list(speakers[t.agent].tokenizer.encode(REPLY, add_special_tokens=False))[:3]
            for _, t in turns
        ],
    )


def gap(model: Any, engine: Engine, heard: Song, temperature: float) -> float:
    """Largest difference of engine's and trainer's log-probs of the song; NaN where one is."""
    training = model.training
    model.eval()
    with torch.no_grad():
        ours, mask, _ = policy.completion_logprobs(
            model, heard.prompts, heard.completions, temperature
        )
    model.train(training)
    # second: it makes its own adapter the live one
    theirs = engine.logprobs(heard.prompts, heard.completions, temperature)
    rows = zip(ours.cpu(), mask.cpu(), theirs, strict=True)
    return float(np.max([np.abs(row[m].numpy() - np.array(t)).max() for row, m, t in rows]))


def check(
    where: str, model: Any, engine: Engine, heard: Song, temperature: float, dtype: str
) -> float:
    """The gap.

    Raises:
        ValueError: log-probs or weights are not the same; with the numbers.
    """
    found = gap(model, engine, heard, temperature)
    if not found <= GAP[dtype]:
        raise ValueError(f"{where}: canary: on fixed messages {disagreement(found, dtype)}")
    theirs = engine.sums()
    ours = layers(model.named_parameters()) if theirs else {}
    for name in sorted(ours):
        if not abs(ours[name] - theirs.get(name, 0.0)) <= SUMS * abs(ours[name]):
            raise ValueError(
                f"{where}: canary: the weights of {name} sum up to {ours[name]:.12g} in the "
                f"trainer and to {theirs.get(name, 0.0):.12g} "
                f"in the engine, so that these were not pushed. {REMEDY}"
            )
    return found


REMEDY = (
    "The last checkpoint is untouched. Remedy: run again; if it comes back, sampling.engine "
    "hf, and tell us."
)


def disagreement(found: float, dtype: str) -> str:
    """Words for engine and trainer that are not in step."""
    apart = f"engine and trainer log-probs differ by {found:.3g} (allowed {GAP[dtype]})"
    return f"{apart}, so the engine does not speak with the trainer's weights. {REMEDY}"


def drift(messages: Sequence[Message], tokenizer: Any) -> float:
    """Share of messages whose text, tokenized again, gives other tokens: why tokens that are learnt
    from are those that were drawn.
    """
    special = set(tokenizer.all_special_ids)
    said = [[i for i in message.completion.ids if i not in special] for message in messages]
    again = [list(tokenizer.encode(message.text, add_special_tokens=False)) for message in messages]
    return float(np.mean([a != b for a, b in zip(said, again, strict=True)]))


def histogram(ratio: torch.Tensor) -> list[float]:
    """Counts of importance ratios between the bounds RATIOS."""
    place = torch.bucketize(ratio.float().cpu(), torch.tensor(RATIOS))
    return torch.bincount(place, minlength=len(RATIOS) + 1).double().tolist()


def rows(
    step: int, index: int, found: float, drifted: float, ratios: Sequence[float]
) -> list[dict[str, Any]]:
    """Rows of the table `canary`."""
    bounds = ["", *map(str, RATIOS), ""]
    total = max(1.0, sum(ratios))
    numbers = {"gap": found, "retokenized": drifted}
    numbers |= {
        f"ratio {bounds[i]}..{bounds[i + 1]}": count / total for i, count in enumerate(ratios)
    }
    return [
        {"step": step, "policy": index, "name": name, "value": value}
        for name, value in numbers.items()
    ]
