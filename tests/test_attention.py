"""Attention that branches, against a loop over rows and heads that copies all to every row."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import Gemma2Config, Gemma2ForCausalLM, Qwen2Config, Qwen2ForCausalLM
from transformers.cache_utils import DynamicLayer

from ccpo.play.engine.attention import NAME, Branches, CompletionLayer, attend, prepare

SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "intermediate_size": 16,
}


def softly(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """One query's attention [size] to keys and values [n, size], in float64."""
    weight = np.exp((keys.double() @ query.double()).numpy() * len(query) ** -0.5)
    return torch.from_numpy(weight / weight.sum()) @ values.double()


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=7),
    st.integers(0, 2**31),
    st.sampled_from([(2, 2), (4, 2), (3, 1)]),
    st.booleans(),
)
def test_rows_see_their_prompt_and_their_own_tokens(
    of: list[int], seed: int, heads: tuple[int, int], drop: bool
) -> None:
    """Prompts of different lengths with any number of rows in any order; then some rows leave.
    Within 1e-5 (float32).
    """
    torch.manual_seed(seed)
    (many, few) = heads
    size = 8
    own_length = 3
    _, numbered = np.unique(of, return_inverse=True)
    row_of = torch.from_numpy(numbered)
    length = torch.randint(1, 6, (numbered.max() + 1,))
    keys, values = torch.randn(2, len(length), few, 5, size)
    seen = (torch.arange(5) < length[:, None])[:, None, None]
    branches = Branches.make(
        [(keys, values)], torch.zeros(seen.shape).masked_fill(~seen, -torch.inf), row_of
    )
    query, key, value = (
        torch.randn(len(of), many, 1, size),
        *torch.randn(2, len(of), few, own_length, size),
    )
    if drop:
        keep = torch.randperm(len(of))[: max(1, len(of) // 2)].sort().values
        query = query[keep]
        key = key[keep]
        value = value[keep]
        row_of = row_of[keep]
        branches = branches.select(keep)
    result = attend(SimpleNamespace(layer_idx=0), query, key, value, None, branches=branches)[0]
    assert result.shape == (len(query), 1, many, size)
    for row in range(len(query)):
        prompt = row_of[row]
        n = length[row_of[row]]
        for head in range(many):
            at = head // (many // few)
            all_keys, all_values = (
                torch.cat([a[prompt, at, :n], b[row, at]])
                for a, b in ((keys, key), (values, value))
            )
            assert torch.allclose(
                result[row, 0, head].double(),
                softly(query[row, head, 0], all_keys, all_values),
                atol=1e-5,
            )


@pytest.mark.parametrize("queries", [1, 4])
@pytest.mark.parametrize("masked", [False, True])
def test_bfloat16_on_a_cpu_is_float32_but_for_rounding(queries: int, masked: bool) -> None:
    """Against the loop in float64 on the same rounded numbers: within bfloat16's 8 bits; without a
    mask it is causal.
    """
    torch.manual_seed(0)
    query = torch.randn(3, 4, queries, 8).bfloat16()
    key, value = torch.randn(2, 3, 2, 4, 8).bfloat16()
    mask = torch.rand(3, 1, queries, 4) < 0.5
    mask[..., 0] = True
    result = attend(SimpleNamespace(training=False), query, key, value, mask if masked else None)[0]
    assert result.dtype == torch.bfloat16
    for row, head, q in np.ndindex(3, 4, queries):
        seen = mask[row, 0, q] if masked else torch.arange(4) <= q + 4 - queries
        wanted = softly(query[row, head, q], key[row, head // 2][seen], value[row, head // 2][seen])
        assert torch.allclose(result[row, q, head].double(), wanted, atol=0.03)


def test_a_completion_layer_holds_what_a_dynamic_layer_holds() -> None:
    torch.manual_seed(0)
    ours = CompletionLayer(6)
    theirs = DynamicLayer()
    assert ours.get_seq_length() == theirs.get_seq_length() == 0
    for new in (1, 2, 1):
        given = torch.randn(2, len(ours.keys) if ours.is_initialized else 4, 2, new, 3)
        for a, b in zip(ours.update(*given), theirs.update(*given), strict=True):
            assert torch.equal(a, b)
        keep = torch.arange(0, given.shape[1], 2)
        ours.batch_select_indices(keep)
        theirs.batch_select_indices(keep)
        assert torch.equal(ours.keys, theirs.keys)
        assert torch.equal(ours.values, theirs.values)
        assert ours.get_seq_length() == theirs.get_seq_length()


def test_a_model_whose_layers_see_a_window_only_is_refused() -> None:
    full = Qwen2ForCausalLM(Qwen2Config(**SMALL, vocab_size=20))
    prepare(full)
    assert full.config._attn_implementation == NAME
    window = Qwen2Config(
        **SMALL, vocab_size=20, use_sliding_window=True, sliding_window=8, max_window_layers=1
    )
    with pytest.raises(
        ValueError,
        match=r"the model \(qwen2\) has layers that do not attend to all tokens "
        r".*DynamicSlidingWindowLayer",
    ):
        prepare(Qwen2ForCausalLM(window))


def test_a_model_that_asks_for_more_than_attention_is_refused() -> None:
    config: Any = Gemma2Config(
        **SMALL,
        head_dim=8,
        vocab_size=20,
        layer_types=["full_attention"] * 2,
        attn_logit_softcapping=50.0,
    )
    model = Gemma2ForCausalLM(config)
    prepare(model)
    with pytest.raises(ValueError, match="the model asks for softcap"):
        model(torch.tensor([[1, 2, 3]]))
