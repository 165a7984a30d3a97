"""A language model as an oracle world: its messages are one token out of two, so that all of its
episodes can be summed.

The Thinker says one digit, the Solver completes a box with one digit; each may say the true answer
or the number after it, with the model's own probabilities of the two. What is right is the family's
rule (ccpo/oracle/world.py). The parameters are the model's, and
gradients are compared there: the Gram matrix of the scores is all that is needed of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ccpo import benchmark, team
from ccpo.oracle.world import QUESTIONS, World, outcomes

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

BENCHMARK = "arithmetic"
BOX = "\\boxed{"


def questions(seed: int) -> list[tuple[str, int]]:
    """Test questions whose answer and the number after it are one digit; seeds ask others."""
    tasks = [t for t in benchmark.load(BENCHMARK).tasks("test", {}) if int(t.truth) < 9]
    chosen = np.random.default_rng(seed).choice(len(tasks), QUESTIONS, replace=False)
    return [(tasks[i].question, int(tasks[i].truth)) for i in chosen]


@dataclass(frozen=True)
class Context:
    """A prompt after which one of two tokens is said."""

    prompt: list[int]
    digits: list[int]


def build(folder: Path, family: str, seed: int) -> World:
    """The model of a Hugging Face folder, asked two questions, as a dyad of Thinker and Solver.

    Raises:
        ValueError: the folder holds no model, or its tokenizer does not write a digit as one token.
    """
    import torch

    from ccpo.models import policy

    torch.set_num_threads(1)
    model, tokenizer = policy.load(folder)
    thinker, solver, solo = _contexts(model, tokenizer, seed)
    rule, alone = outcomes(family, 2)
    return World(
        family=family,
        answer="last",
        weight=np.full(QUESTIONS, 1 / QUESTIONS),
        logits=(_logits(model, thinker), _logits(model, solver)),
        context=(np.arange(QUESTIONS), np.arange(2 * QUESTIONS).reshape(QUESTIONS, 2)),
        outcome=np.broadcast_to(rule, (QUESTIONS, 2, 2)).astype(float),
        alone=_logits(model, solo),
        alone_outcome=np.array([alone] * QUESTIONS),
        grams=(_gram(model, thinker), _gram(model, solver)),
    )


def _contexts(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, seed: int
) -> tuple[list[Context], list[Context], list[Context]]:
    """Contexts of the Thinker, by question; of the Solver, by question and what the Thinker said;
    and of the Solver alone, by question.
    """
    from ccpo.models import policy
    from ccpo.play.engine.hf import HF
    from ccpo.play.types import AgentEndpoint

    endpoint = AgentEndpoint(HF(model, policy.end_ids(model, tokenizer)), tokenizer)
    dyad = team.load("think_solve").team()
    box = tokenizer.encode(BOX, add_special_tokens=False)
    thinker = []
    solver = []
    solo = []
    for question, truth in questions(seed):
        digits = [_token(tokenizer, truth + k) for k in (0, 1)]
        thinker.append(Context(endpoint.prompt(dyad.role(0, (0, 1)), question, []), digits))
        for thought in (str(truth), str(truth + 1)):
            prompt = endpoint.prompt(dyad.role(1, (0, 1)), question, [thought])
            solver.append(Context([*prompt, *box], digits))
        prompt = endpoint.prompt(dyad.role(1, (1,)), question, [])
        solo.append(Context([*prompt, *box], digits))
    return thinker, solver, solo


def _token(tokenizer: PreTrainedTokenizerBase, digit: int) -> int:
    ids = tokenizer.encode(str(digit), add_special_tokens=False)
    if len(ids) != 1:
        raise ValueError(
            f"a language world says one digit as one token, but {digit} is {ids}. Remedy: "
            "another model."
        )
    return int(ids[0])


def _log_probs(model: PreTrainedModel, context: Context) -> torch.Tensor:
    """Log-probs [2] of the two tokens, with their gradient."""
    from ccpo.models.policy import completion_logprobs

    completions = [[digit] for digit in context.digits]
    return completion_logprobs(model, [context.prompt] * 2, completions, 1.0)[0][:, 0]


def _logits(model: PreTrainedModel, contexts: list[Context]) -> np.ndarray:
    """Log-probs [C, 2] of the two tokens in each context."""
    rows = [_log_probs(model, context).detach().double().numpy() for context in contexts]
    return np.stack(rows)


def _gram(model: PreTrainedModel, contexts: list[Context]) -> np.ndarray:
    """Gram matrix [2 C, 2 C] of d log pi / dparameters, pi being the model's distribution over the
    two tokens.
    """
    import torch

    scores = []
    for context in contexts:
        two = torch.log_softmax(_log_probs(model, context), 0)
        for log_prob in two:
            gradient = torch.autograd.grad(
                log_prob, list(model.parameters()), retain_graph=True, allow_unused=True
            )
            scores.append(torch.cat([g.reshape(-1) for g in gradient if g is not None]).double())
    table = torch.stack(scores)
    return (table @ table.T).numpy()
