"""Losses against hand-written numpy, reductions, and exact accumulation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import conforming
from functions import OBJECTIVES

from ccpo import objective
from ccpo.objective import kl_k3, kl_to_go

grpo = OBJECTIVES["grpo"]
rema_turn = OBJECTIVES["rema_turn"]
grpo_dual = OBJECTIVES["grpo_dual"]

TOKENWISE = ("grpo", "dapo", "dr_grpo", "grpo_dual", "reinforce_pp")
DUAL = {"grpo_dual": 3.0, "rema_turn": 3.0}
CLIP = {"clip_low": 0.2, "clip_high": 0.3}


def batch(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    new = torch.tensor(rng.normal(-1, 0.4, (6, 5)))
    old = torch.tensor(rng.normal(-1, 0.4, (6, 5)))
    lengths = rng.integers(1, 6, 6)
    mask = torch.tensor(np.arange(5)[None] < lengths[:, None])
    return new.requires_grad_(), old, torch.tensor(rng.normal(size=6)), mask


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_every_objective_keeps_the_contract(name: str) -> None:
    """Each complaint says what is missing and how to write it; ccpo/objective/__init__.py is the
    contract.
    """
    module = conforming(objective, name)
    where = f"ccpo/objective/{name}.py"
    new, old, a, mask = batch(7)
    total, cut = module.loss(objective.Batch(new, old, a, mask))
    assert total.shape == cut.shape == (), (
        f"{where}: loss gives the shapes {total.shape}, {cut.shape}. Remedy: a sum and a count"
    )
    assert module.divisor([1, 2], 9) > 0, (
        f"{where}: divisor gives {module.divisor([1, 2], 9)}. Remedy: a number above 0"
    )


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_equals_the_loop(name: str) -> None:
    new, old, a, mask = batch(0)
    loss, clipped = OBJECTIVES[name](new, old, a, mask, **CLIP)
    want = 0.0
    count = 0
    for i in range(6):
        n = int(mask[i].sum())
        ratio = np.exp((new[i, :n] - old[i, :n]).detach().numpy())
        ratios = ratio if name in TOKENWISE else [np.exp(np.log(ratio).mean())]
        for r in ratios:
            free = r * a[i].item()
            bound = min(max(r, 0.8), 1.3) * a[i].item()
            gain = min(free, bound)
            least = DUAL.get(name, np.inf) * a[i].item() if a[i] < 0 else -np.inf
            want -= max(gain, least)
            count += bound < free or gain < least
    assert loss.item() == pytest.approx(want, rel=1e-12)
    assert int(clipped) == count > 0


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_ratio_one_is_reinforce(name: str) -> None:
    new, _, a, mask = batch(1)
    OBJECTIVES[name](new, new.detach(), a, mask, **CLIP)[0].backward()
    weight = mask / (1 if name in TOKENWISE else mask.sum(1, keepdim=True))
    assert torch.allclose(new.grad, -a[:, None] * weight, atol=1e-12)


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_masked_tokens_do_not_matter_and_parts_add_up(name: str) -> None:
    new, old, a, mask = batch(2)
    loss = OBJECTIVES[name](new, old, a, mask, **CLIP)[0]
    noisy = torch.where(mask, new, torch.full_like(new, 50.0))
    assert OBJECTIVES[name](noisy, old, a, mask, **CLIP)[0].item() == pytest.approx(
        loss.item(), rel=1e-12
    )
    parts = [
        OBJECTIVES[name](new[s], old[s], a[s], mask[s], **CLIP)[0]
        for s in (slice(0, 2), slice(2, 6))
    ]
    assert sum(parts).item() == pytest.approx(loss.item(), rel=1e-12)
    lengths = mask.sum(1).tolist()
    assert objective.load(name).divisor(lengths, 5) == {
        "dr_grpo": 30,
        "gspo": 6,
        "rema_turn": 6,
    }.get(name, sum(lengths))


def test_all_masked_is_zero_with_a_finite_gradient() -> None:
    for name, loss_of in OBJECTIVES.items():
        new, old, a, mask = batch(3)
        loss = loss_of(new, old, a, torch.zeros_like(mask), **CLIP)[0]
        loss.backward()
        assert loss.item() == 0, name
        assert torch.isfinite(new.grad).all()


def test_the_dual_clip_bounds_what_a_bad_message_can_cost() -> None:
    """A turn with ratio e^2 = 7.39 and A = -1 costs 3, not 7.39, and pulls no more; with ratio 1.1
    it costs 1.1.
    """
    for gap, cost, pulled in ((2.0, 3.0, 0.0), (5.0, 3.0, 0.0), (float(np.log(1.1)), 1.1, 1.1)):
        new = torch.full((1, 2), gap, dtype=torch.float64, requires_grad=True)
        loss, clipped = rema_turn(
            new, torch.zeros(1, 2), torch.tensor([-1.0]), torch.ones(1, 2, dtype=torch.bool), **CLIP
        )
        loss.backward()
        assert loss.item() == pytest.approx(cost, rel=1e-12)
        assert new.grad.sum().item() == pytest.approx(pulled, rel=1e-9)
        assert int(clipped) == (pulled == 0)


def test_a_dual_clip_by_token_is_grpo_where_nothing_is_far_off() -> None:
    new, old, a, mask = batch(5)
    near = new.detach() + 0.1 * (old - new.detach())
    assert grpo_dual(new, near, a, mask, **CLIP)[0].item() == pytest.approx(
        grpo(new, near, a, mask, **CLIP)[0].item(), rel=1e-12
    )
    far = torch.full((1, 2), 2.0, dtype=torch.float64)
    down = (torch.zeros(1, 2), torch.tensor([-1.0]), torch.ones(1, 2, dtype=torch.bool))
    assert grpo(far, *down, **CLIP)[0].item() == pytest.approx(2 * np.exp(2.0))
    assert grpo_dual(far, *down, **CLIP)[0].item() == pytest.approx(2 * 3.0)
    assert grpo_dual(far, *down, **CLIP, dual=5.0)[0].item() == pytest.approx(2 * 5.0)


def test_the_divergence_to_go_is_what_the_later_tokens_cost() -> None:
    new, old, _, mask = batch(4)
    to_go = kl_to_go(new.detach(), old, mask)
    for i in range(6):
        n = int(mask[i].sum())
        gap = (new.detach() - old)[i, :n].numpy()
        assert to_go[i, :n].numpy() == pytest.approx([gap[t:].sum() for t in range(n)], abs=1e-12)


def test_k3_is_the_divergence_on_average_and_its_gradient_starts_at_zero() -> None:
    """Under tokens drawn from the policy the mean of k3 is KL(policy, reference), here summed
    exactly over three tokens.
    """
    p = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    q = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    one = torch.ones(1, 1, dtype=torch.bool)
    mean = sum(
        p[i] * kl_k3(p[i].log().reshape(1, 1), q[i].log().reshape(1, 1), one) for i in range(3)
    )
    assert float(mean) == pytest.approx(float((p * (p / q).log()).sum()), rel=1e-12)
    new, _, _, mask = batch(5)
    kl_k3(new, new.detach(), mask).backward()
    assert new.grad.abs().max() == 0
    assert float(kl_k3(new.detach() + 50 * ~mask, new.detach(), mask)) == 0


def test_an_advantage_for_each_token_is_the_one_for_the_message_when_constant() -> None:
    new, old, a, mask = batch(6)
    by_token = a[:, None].expand_as(new)
    assert (
        grpo(new, old, a, mask, **CLIP)[0].item()
        == grpo(new, old, by_token, mask, **CLIP)[0].item()
    )
