"""Oracle worlds that a language model spells out: messages of one token, so that the whole vocabulary of both agents can be summed.

A small random decoder is both agents of a think_solve dyad; prompts, the leak guard and the removal of the Thinker are those of training. A
thought is good if it is in a declared half of the vocabulary, an answer is right if it is in another, which the question decides; the
family's rule says what that makes of the episode. The tables of such a world are an ordinary `World`; its parameters are the model's,
shared by both turns, and `scores` are the derivatives of log-probabilities by autograd.

Answers are summed into good and bad ones: nothing behind an answer depends on its wording, so no expectation changes, and d log P(good)
is the mean of its tokens' score vectors; a single gradient is the mean over wordings, so its noise leaves the wording's out. `scores` are
coordinates in a basis of what the score vectors span, so that lengths and angles are those in the space of all parameters.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

from ccpo import benchmark
from ccpo import team as teams
from ccpo.play.rollout import Speaker
from ccpo.study.world import QUESTIONS, World, alone_right, rule

ALPHABET = "0123456789+-=;"  # with the prompts' phrases and the marks about 25 tokens
POISON = 5  # in sabotage one thought in so many is the poison
SPREAD = 0.25  # of the weights: as built, a model's messages would hardly depend on its prompt


def build(family: str, seed: int) -> World:
    """The world of a model with random weights, which vary with the seed as the questions do; float64, so that sums agree to 1e-9."""
    import torch

    from ccpo.config import WarmStart
    from ccpo.learn import model as models

    size: dict[str, Any] = {"hidden": 16, "layers": 1, "heads": 2, "batch": 1, "lr": 1.0, "steps": 1}
    spec = WarmStart.model_validate({"source": "warm_start", "benchmark": "arithmetic", "teams": ("think_solve",), **size})
    tokenizer = models.tiny_tokenizer(models.roles_of(spec.teams), characters=ALPHABET)
    generator = torch.Generator().manual_seed(seed)
    model = models.tiny_model(spec, tokenizer).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0.0, SPREAD, generator=generator)
    asked = benchmark.load("arithmetic").tasks("train", {}, operations=2, n_train=QUESTIONS * (seed + 1))[-QUESTIONS:]
    return spell(family, model, tokenizer, [task.question for task in asked])


def next_token(model: Any, prompts: list[list[int]]) -> list[Any]:
    """Probabilities [V] of the token after each prompt. One by one, so that the derivatives of one prompt's messages cost one prompt."""
    import torch

    last = [model.base_model(input_ids=torch.tensor([p]), use_cache=False).last_hidden_state[0, -1] for p in prompts]
    return [torch.softmax(model.get_output_embeddings()(hidden), -1) for hidden in last]


def marks(family: str, size: int, questions: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Which of `size` tokens are bad thoughts [V], and which are right answers to each question [X, V]."""
    bad = [zlib.crc32(f"thought {t}".encode()) % (POISON if family == "sabotage" else 2) == 0 for t in range(size)]
    right = [[zlib.crc32(f"answer {t} to {q}".encode()) % 2 == 0 for t in range(size)] for q in questions]
    return np.array(bad), np.array(right)


def spell(family: str, model: Any, tokenizer: Any, questions: list[str]) -> World:
    """The world that a model and some questions make. In free_riding the thought does not reach the Solver."""
    import torch

    team, speaker = teams.load("think_solve").team(), Speaker(None, tokenizer)  # type: ignore[arg-type]
    x, v = len(questions), len(tokenizer)
    bad, right = marks(family, v, questions)
    heard = ["" if family == "free_riding" else tokenizer.decode([token], skip_special_tokens=True) for token in range(v)]
    thinker, solver, solo = team.role(0, (0, 1)), team.role(1, (0, 1)), team.role(1, (1,))
    thoughts = next_token(model, [speaker.prompt(thinker, q, []) for q in questions])
    answers = next_token(model, [speaker.prompt(solver, q, [text]) for q in questions for text in heard])
    good = [p[torch.tensor(right[row // v])].sum() for row, p in enumerate(answers)]
    logs = [[torch.log(p) for p in thoughts], [torch.log(torch.stack([p, 1 - p])) for p in good]]
    with torch.no_grad():
        alone = next_token(model, [speaker.prompt(solo, q, []) for q in questions])
        lone = np.array([float(p[torch.tensor(row)].sum()) for p, row in zip(alone, right, strict=True)])
    outcome = rule(family, np.stack(np.broadcast_arrays(~bad[:, None], np.array([[True, False]]))))
    return World(
        family,
        "last",
        np.full(x, 1 / x),
        tuple(torch.stack(rows).detach().numpy() for rows in logs),
        (np.arange(x), np.arange(x * v).reshape(x, v)),
        np.broadcast_to(outcome, (x, v, 2)).astype(float),
        np.log(np.stack([lone, 1 - lone], 1)),
        np.array([alone_right(family)] * x),
        _coordinates(model, logs),
    )


def _coordinates(model: Any, logs: list[list[Any]]) -> tuple[np.ndarray, ...]:
    """Derivatives [C, m, D] of each turn's log-probabilities (rows [m] by context), in an orthonormal basis of what they span."""
    import torch

    parameters = list(model.parameters())
    rows = []
    for one in (one for turn in logs for row in turn for one in row):
        found = torch.autograd.grad(one, parameters, retain_graph=True, materialize_grads=True)
        rows.append(torch.cat([g.reshape(-1) for g in found]))
    upper: np.ndarray = np.linalg.qr(torch.stack(rows).numpy().T, mode="r")  # type: ignore[assignment]
    scores = upper.T  # lengths and angles of the rows are kept
    shapes = [(len(turn), len(turn[0])) for turn in logs]
    cut = shapes[0][0] * shapes[0][1]
    return scores[:cut].reshape(*shapes[0], -1), scores[cut:].reshape(*shapes[1], -1)
