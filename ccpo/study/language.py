"""Oracle worlds that a language model spells out: messages of one token, so that the whole vocabulary of both agents can be summed.

A small random decoder is both agents of a think_solve dyad; prompts, the leak guard and the removal of the Thinker are those of training. A
thought is good if it is in a declared half of the vocabulary, an answer is right if it is in another, which the question decides; the
family's rule says what that makes of the episode. The tables of such a world are an ordinary `World`; its parameters are the model's, shared
by both turns, and `scores` are the derivatives of log-probabilities by autograd.

Answers are summed into good and bad ones: nothing behind an answer depends on its wording, so this loses nothing, and d log P(good) is
the mean of its tokens' score vectors. `scores` are coordinates in a basis of what the score vectors span, so that lengths and angles are those
in the space of all parameters.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Spelt:
    """What a model says, with gradients: probabilities of thoughts [X, V], and of answers [X V, V] to each question and thought; of
    answers alone [X, V]. `poor` [V] and `right` [X, V] mark bad thoughts and right answers."""

    thoughts: Any
    answers: Any
    alone: Any
    poor: np.ndarray
    right: np.ndarray


def listen(family: str, model: Any, tokenizer: Any, questions: list[str]) -> Spelt:
    """Asks a model for the next token after every prompt there is."""
    team, speaker = teams.load("think_solve").team(), Speaker(None, tokenizer)  # type: ignore[arg-type]
    vocabulary = range(len(tokenizer))
    deaf = family == "free_riding"  # the thought does not reach the Solver
    heard = ["" if deaf else tokenizer.decode([token], skip_special_tokens=True) for token in vocabulary]
    thinker, solver, solo = team.role(0, (0, 1)), team.role(1, (0, 1)), team.role(1, (1,))
    poor = [zlib.crc32(f"thought {t}".encode()) % (POISON if family == "sabotage" else 2) == 0 for t in vocabulary]
    right = [[zlib.crc32(f"answer {t} to {q}".encode()) % 2 == 0 for t in vocabulary] for q in questions]
    return Spelt(
        next_token(model, [speaker.prompt(thinker, q, []) for q in questions]),
        next_token(model, [speaker.prompt(solver, q, [text]) for q in questions for text in heard]),
        next_token(model, [speaker.prompt(solo, q, []) for q in questions]).detach(),
        np.array(poor),
        np.array(right),
    )


def next_token(model: Any, prompts: list[list[int]]) -> Any:
    """Probabilities [P, V] of the token after each prompt; padded on the right, which causal attention does not see."""
    import torch

    width = max(map(len, prompts))
    ids = torch.tensor([p + [0] * (width - len(p)) for p in prompts])
    hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    last = hidden[torch.arange(len(prompts)), torch.tensor([len(p) - 1 for p in prompts])]
    return torch.softmax(model.get_output_embeddings()(last), -1)


def spell(family: str, model: Any, tokenizer: Any, questions: list[str]) -> World:
    """The world that a model and some questions make."""
    import torch

    said = listen(family, model, tokenizer, questions)
    x, v = said.right.shape
    right = torch.tensor(said.right.repeat(v, 0))  # [X V, V]
    good = (said.answers * right).sum(1)
    logs = [torch.log(said.thoughts), torch.log(torch.stack([good, 1 - good], 1))]
    outcome = rule(family, np.stack(np.broadcast_arrays(~said.poor[:, None], np.array([True, False])[None])))
    alone = (said.alone.numpy() * said.right).sum(1)
    return World(
        family,
        "last",
        np.full(x, 1 / x),
        tuple(log.detach().numpy() for log in logs),
        (np.arange(x), np.arange(x * v).reshape(x, v)),
        np.broadcast_to(outcome, (x, v, 2)).astype(float),
        np.log(np.stack([alone, 1 - alone], 1)),
        np.array([alone_right(family)] * x),
        _coordinates(model, logs),
    )


def _coordinates(model: Any, logs: list[Any]) -> tuple[np.ndarray, ...]:
    """Derivatives [C, m, D] of each turn's log-probabilities [C, m], in an orthonormal basis of what they span."""
    import torch

    parameters = [p for p in model.parameters() if p.requires_grad]
    flat = torch.cat([log.reshape(-1) for log in logs])
    rows = []
    for one in flat:
        found = torch.autograd.grad(one, parameters, retain_graph=True, allow_unused=True)
        rows.append(torch.cat([torch.zeros(p.numel()).double() if g is None else g.reshape(-1) for g, p in zip(found, parameters, strict=True)]))
    scores = np.linalg.qr(torch.stack(rows).numpy().T, mode="r").T  # lengths and angles of the rows are kept
    cut = logs[0].numel()
    return scores[:cut].reshape(*logs[0].shape, -1), scores[cut:].reshape(*logs[1].shape, -1)
