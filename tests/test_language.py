"""A language model as an oracle world: tables against the model's own forward pass, gradients
against autograd of the summed outcome.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_diagnose import METHODS

from ccpo import team
from ccpo.models import policy
from ccpo.oracle import diagnose, language
from ccpo.oracle import world as oracle
from ccpo.play.engine import SamplingParams
from ccpo.play.engine.hf import HF
from ccpo.play.types import AgentEndpoint
from ccpo.tree import Plan


def test_the_tables_are_the_models_probabilities(tiny: Path) -> None:
    """The Thinker's two digits as the engine draws them: frequencies over 4,000 messages of one
    token, 4 standard errors.
    """
    world = language.build(tiny, "necessity", 0)
    model, tokenizer = policy.load(tiny)
    speaker = AgentEndpoint(HF(model, [tokenizer.eos_token_id]), tokenizer)
    for x, (question, truth) in enumerate(language.questions(0)):
        prompt = speaker.prompt(team.load("think_solve").team().roles["thinker"], question, [])
        texts = [
            speaker.text(c)
            for c in speaker.engine.generate([prompt], 4000, SamplingParams(1.0, 1), [x])[0]
        ]
        counts = np.array([texts.count(str(truth)), texts.count(str(truth + 1))])
        p = world.policy(0)[x, 0]
        assert abs(counts[0] / counts.sum() - p) < 4 * np.sqrt(p * (1 - p) / counts.sum())


@pytest.mark.parametrize("family", ["necessity", "sabotage"])
def test_the_gradient_is_that_of_the_summed_outcome(family: str, tiny: Path) -> None:
    """|dJ/dtheta|^2 from the tables and Gram matrices of both turns together, against autograd
    through the model.
    """
    world = language.build(tiny, family, 1)
    model, tokenizer = policy.load(tiny)
    speaker = AgentEndpoint(HF(model, [tokenizer.eos_token_id]), tokenizer)
    dyad = team.load("think_solve").team()
    box = tokenizer.encode("\\boxed{", add_special_tokens=False)

    def chances(prompt: list[int], digits: list[int]) -> torch.Tensor:
        return torch.softmax(
            policy.completion_logprobs(model, [prompt] * 2, [[d] for d in digits], 1.0)[0][:, 0], 0
        )

    by_turn = []
    for frozen in (1, 0):  # what one turn adds: the other one's probabilities are constants
        outcome = torch.zeros(())
        for x, (question, truth) in enumerate(language.questions(1)):
            digits = [tokenizer.encode(str(truth + k), add_special_tokens=False)[0] for k in (0, 1)]
            first = chances(speaker.prompt(dyad.roles["thinker"], question, []), digits)
            first = first.detach() if frozen == 0 else first
            for a in (0, 1):
                second = chances(
                    [*speaker.prompt(dyad.roles["solver"], question, [str(truth + a)]), *box],
                    digits,
                )
                second = second.detach() if frozen == 1 else second
                outcome = (
                    outcome + 0.5 * first[a] * (second * torch.tensor(world.outcome[x, a])).sum()
                )
        gradient = torch.autograd.grad(outcome, list(model.parameters()), allow_unused=True)
        by_turn.append(float(sum((g**2).sum() for g in gradient if g is not None)))
        assert float(outcome.detach()) == pytest.approx(oracle.value(world), abs=1e-5)
    for turn in (0, 1):
        true = oracle.gradient(world, turn)
        assert float(diagnose.inner(true, true, world.gram(turn))) == pytest.approx(
            by_turn[turn], rel=1e-3
        )


def test_methods_are_measured_in_it(tiny: Path) -> None:
    chosen = [m for m in METHODS if m.label in ("shared", "ccpo", "c3", "ccpo_vote")]
    worlds = diagnose.Worlds("redundancy", "language", instances=2, seed=0, model=tiny)
    rows, skipped = diagnose.diagnose(worlds, chosen, ["none", "group_mean"], tokens=256)
    by = {(r["method"], r["advantage"], r["turn"], r["instance"]): r for r in rows}
    assert len(by) == 3 * 2 * 2 * 2
    assert by["c3", "none", 1, 0]["bias_raw"] < 1e-9
    assert by["shared", "group_mean", 0, 0]["cosine"] == pytest.approx(1, abs=1e-6)
    assert by["shared", "group_mean", 0, 0]["noise_tokens"] > 0
    assert [s["method"] for s in skipped] == ["ccpo_vote"]
    with pytest.raises(ValueError, match="--model"):
        diagnose.diagnose(replace(worlds, model=None), chosen, ["none"], tokens=256)


def test_a_plan_costs_what_it_costs_in_tables(tiny: Path) -> None:
    world = language.build(tiny, "free_riding", 2)
    assert diagnose.cost(world, Plan((4, 1))) == (8, 4)
    assert np.abs(oracle.advantage(world, 1)).max() > 0
