"""A language model as an oracle world: its messages are one token out of two, so that all of its
episodes can be summed.

The Thinker says one digit, the Solver completes a box with one digit; each may say the true answer
or the number after it, with the model's own probabilities of the two. What is right is the family's
rule (ccpo/oracle/world.py). The parameters are the model's, and
gradients are compared there: the Gram matrix of the scores is all that is needed of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ccpo import benchmark, team
from ccpo.oracle.world import QUESTIONS, World, outcomes

BENCHMARK = "arithmetic"
BOX = "\\boxed{"


def questions(seed: int) -> list[tuple[str, int]]:
    """Test questions whose answer and the number after it are one digit; seeds ask others."""
    tasks = [t for t in benchmark.load(BENCHMARK).tasks("test", {}) if int(t.truth) < 9]
    chosen = np.random.default_rng(seed).choice(len(tasks), QUESTIONS, replace=False)
    return [(tasks[i].question, int(tasks[i].truth)) for i in chosen]


def build(folder: Path, family: str, seed: int) -> World:
    """The model of a Hugging Face folder, asked two questions, as a dyad of Thinker and Solver.

    Raises:
        ValueError: the folder holds no model, or its tokenizer does not write a digit as one token.
    """
    import torch

    from ccpo.models import policy
    from ccpo.play.engine.hf import HF
    from ccpo.play.types import AgentEndpoint

    torch.set_num_threads(1)
    model, tokenizer = policy.load(folder)
    endpoint = AgentEndpoint(HF(model, policy.end_ids(model, tokenizer)), tokenizer)
    dyad = team.load("think_solve").team()
    box = tokenizer.encode(BOX, add_special_tokens=False)
    thinker = []
    solver = []
    solo = []
    for question, truth in questions(seed):
        digits = [_token(tokenizer, truth + k) for k in (0, 1)]
        thinker.append((endpoint.prompt(dyad.role(0, (0, 1)), question, []), digits))
        solver += [
            ([*endpoint.prompt(dyad.role(1, (0, 1)), question, [str(truth + k)]), *box], digits)
            for k in (0, 1)
        ]
        solo.append(([*endpoint.prompt(dyad.role(1, (1,)), question, []), *box], digits))
    spoken = [
        _rows(model, contexts, scored)
        for contexts, scored in ((thinker, True), (solver, True), (solo, False))
    ]
    rule, alone = outcomes(family, 2)
    return World(
        family=family,
        answer="last",
        weight=np.full(QUESTIONS, 1 / QUESTIONS),
        logits=(spoken[0][0], spoken[1][0]),
        context=(np.arange(QUESTIONS), np.arange(2 * QUESTIONS).reshape(QUESTIONS, 2)),
        outcome=np.broadcast_to(rule, (QUESTIONS, 2, 2)).astype(float),
        alone=spoken[2][0],
        alone_outcome=np.array([alone] * QUESTIONS),
        grams=(spoken[0][1], spoken[1][1]),
    )


def _token(tokenizer: Any, digit: int) -> int:
    ids = tokenizer.encode(str(digit), add_special_tokens=False)
    if len(ids) != 1:
        raise ValueError(
            f"a language world says one digit as one token, but {digit} is {ids}. Remedy: "
            "another model."
        )
    return int(ids[0])


def _rows(
    model: Any, contexts: list[tuple[list[int], list[int]]], scored: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Log-probs [C, 2] of the two digits in each context, and the Gram matrix [2 C, 2 C] of d log
    pi / dparameters, pi being the model's distribution over the two (empty if not `scored`).
    """
    import torch

    from ccpo.models.policy import completion_logprobs

    logits = []
    scores = []
    for prompt, digits in contexts:
        logps = completion_logprobs(model, [prompt, prompt], [[d] for d in digits], 1.0)[0][:, 0]
        logits.append(logps.detach().double().numpy())
        two = torch.log_softmax(logps, 0)
        for k in range(2 if scored else 0):
            gradient = torch.autograd.grad(
                two[k], list(model.parameters()), retain_graph=True, allow_unused=True
            )
            scores.append(torch.cat([g.reshape(-1) for g in gradient if g is not None]).double())
    table = torch.stack(scores) if scores else torch.zeros(0, 1, dtype=torch.double)
    return np.stack(logits), (table @ table.T).numpy()
