"""What prompts begin with in common is computed once, and nothing changes: neither hidden states,
nor log-probs, nor gradients.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.cache_utils import DynamicCache

from ccpo.learn import update
from ccpo.models import policy
from ccpo.play.engine import Completion, SamplingParams, hf
from ccpo.play.engine.prefix import find_shared, prefill
from ccpo.play.types import Message

PROMPTS = st.lists(st.lists(st.integers(5, 7), min_size=1, max_size=6), min_size=1, max_size=7)


@given(PROMPTS)
def test_a_group_begins_alike_and_something_is_left_of_each(prompts: list[list[int]]) -> None:
    result = find_shared(prompts)
    for group in range(len(result.length)):
        own = [prompts[i] for i in np.flatnonzero(result.group == group)]
        assert own
        assert len({tuple(p[: result.length[group]]) for p in own}) == 1
        assert all(len(p) > result.length[group] for p in own)
    computed = sum(result.length) + sum(
        len(p) - result.length[g] for p, g in zip(prompts, result.group, strict=True)
    )
    assert result.saved == sum(map(len, prompts)) - computed


@given(PROMPTS)
def test_no_other_cut_off_saves_more(prompts: list[list[int]]) -> None:
    """Brute force over all groupings of alphabetical neighbours by a least common length."""
    best = 0
    for cut in range(1, 7):
        saved = 0
        group = [sorted(prompts)[0]]
        for prompt in [*sorted(prompts)[1:], None]:
            if (
                prompt is not None
                and prompt[:cut] == group[-1][:cut]
                and min(len(prompt), len(group[-1])) >= cut
            ):
                group.append(prompt)
                continue
            alike = max(
                k for k in range(min(map(len, group))) if len({tuple(p[:k]) for p in group}) == 1
            )
            saved = saved + (len(group) - 1) * alike
            group = [prompt]
        best = max(best, saved)
    assert find_shared(prompts).saved == best


def test_the_prompts_of_a_tree_share_their_tasks_question_and_not_only_the_system_prompt() -> None:
    rng = np.random.default_rng(0)
    system = [9] * 20
    questions = [rng.integers(10, 90, 50).tolist() for _ in range(4)]
    prompts = [
        system + q + rng.integers(10, 90, 5 + k).tolist() for q in questions for k in range(3)
    ]
    result = find_shared(prompts)
    assert sorted(result.length) == [70] * 4
    assert [len(set(result.group[i : i + 3])) for i in range(0, 12, 3)] == [1] * 4
    # one prompt a task: only the system prompt is common
    assert len(find_shared(prompts[::3]).length) == 1


def rows_of(rng: np.random.Generator) -> tuple[list[list[int]], list[list[int]]]:
    """Prompts of two questions with two thoughts each, of different lengths, one alone; three
    messages for each, one of a single token.
    """
    questions = [rng.integers(5, 60, n).tolist() for n in (12, 9)]
    prompts = [q + rng.integers(5, 60, n).tolist() for q in questions for n in (3, 6)] + [
        rng.integers(5, 60, 7).tolist()
    ]
    prompts = [p for p in prompts for _ in range(3)]
    return prompts, [
        rng.integers(5, 60, n).tolist()
        for n in itertools.islice(itertools.cycle([4, 1, 7]), len(prompts))
    ]


@pytest.fixture
def model(tiny: Path) -> Any:
    return policy.load(tiny)[0].eval()


@pytest.mark.parametrize(("dtype", "near"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_shared_and_separate_have_the_same_log_probs_and_gradients(
    model: Any, dtype: torch.dtype, near: float
) -> None:
    """Relative to the gradient's norm; float32's own rounding is 6e-8 a number."""
    model.to(dtype)
    prompts, completions = rows_of(np.random.default_rng(0))
    gradients = []
    values = []
    for shared in (None, find_shared(prompts)):
        model.zero_grad()
        logps, mask, entropy = policy.completion_logprobs(
            model, prompts, completions, 0.7, shared, entropy_gradient=True
        )
        assert mask.sum(1).tolist() == list(map(len, completions))
        weight = torch.linspace(-1, 1, len(prompts), dtype=logps.dtype)
        ((logps * weight[:, None]).sum() + 0.1 * entropy.sum()).backward()
        values.append(logps.detach().double())
        gradients.append(torch.cat([p.grad.flatten().double() for p in model.parameters()]))
    assert find_shared(prompts).saved > 0.5 * sum(map(len, prompts))
    # log-softmax is done in float32
    assert (values[0] - values[1]).abs().max() < max(near, 1e-6) * values[0].abs().max()
    assert (gradients[0] - gradients[1]).norm() < max(near, 2e-7) * gradients[0].norm()
    assert gradients[0].norm() > 1


def test_hidden_states_are_those_of_each_row_alone(model: Any) -> None:
    prompts, completions = rows_of(np.random.default_rng(1))
    rows = [p + s for p, s in zip(prompts, completions, strict=True)]
    with torch.no_grad():
        for shared in (None, find_shared(prompts)):
            result = prefill(model, rows, shared, DynamicCache(config=model.config))
            for i, row in enumerate(rows):
                alone = model.base_model(input_ids=torch.tensor([row])).last_hidden_state[0]
                assert int(result.start[i] + result.length[i]) == len(row)
                assert torch.allclose(
                    result.hidden[i, : result.length[i]], alone[result.start[i] :], atol=1e-5
                )
                assert int(result.mask[i].sum()) == len(row)


def long(tokenizer: Any) -> list[list[int]]:
    """Prompts of two tasks, each with a common question of 60 tokens, and endings of different
    lengths; two are equal.
    """
    rng = np.random.default_rng(2)
    known = tokenizer.encode("0123456789+-= ", add_special_tokens=False)
    questions = [rng.choice(known, 60).tolist() for _ in range(2)]
    prompts = [q + rng.choice(known, n).tolist() for q in questions for n in (2, 5, 9)]
    return [*prompts, prompts[1]]


def test_an_engine_generates_behind_a_shared_prefix_what_transformers_generates(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Greedy token for token, with rows that end early and leave the batch; log-probs at a
    temperature within 1e-4 (float32).
    """
    model, tokenizer = policy.load(tiny)
    prompts = long(tokenizer)
    shared = []
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3)  # so that it prefers some tokens to others
    plain = copy.deepcopy(model)
    plain.set_attn_implementation("eager")

    def noting(model: Any, rows: Any, prefixes: Any, cache: Any) -> Any:
        shared.append(prefixes)
        return prefill(model, rows, prefixes, cache)

    monkeypatch.setattr(hf, "prefill", noting)
    theirs = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        with torch.no_grad():
            more = plain.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=12,
                do_sample=False,
                eos_token_id=-1,
            )
        theirs.append(more[0, len(prompt) :].tolist())
    # some rows end in the third token, some later, some never
    ends = sorted({row[2 + i] for i, row in enumerate(theirs[:3])})
    wanted = [
        row[: next((i + 1 for i, token in enumerate(row) if token in ends), 12)] for row in theirs
    ]
    assert len({len(row) for row in wanted}) > 1
    result = hf.HF(model, ends).generate(prompts, 1, SamplingParams(0.0, 12), [0])
    assert [row[0].token_ids for row in result] == wanted
    engine = hf.HF(model, [])
    drawn = engine.generate(prompts, 2, SamplingParams(0.7, 12), [1])
    pairs = [(prompt, c) for prompt, row in zip(prompts, drawn, strict=True) for c in row]
    for prompt, completions in pairs:
        with torch.no_grad():
            logits = plain(torch.tensor([prompt + completions.token_ids])).logits[
                0, len(prompt) - 1 : -1
            ]
        wanted = torch.log_softmax(logits / 0.7, -1).gather(
            1, torch.tensor(completions.token_ids)[:, None]
        )[:, 0]
        assert completions.logprobs == pytest.approx(wanted.tolist(), abs=1e-4)
    assert engine.logprobs([p for p, _ in pairs], [c.token_ids for _, c in pairs], 0.7)[
        0
    ] == pytest.approx(pairs[0][1].logprobs, abs=1e-4)
    # it did share, by task
    assert all(prefixes is not None and len(prefixes.length) == 2 for prefixes in shared)


@contextmanager
def counted(model: Any) -> Iterator[list[int]]:
    """The token ids, padding included, that each forward pass of the model is given."""
    seen: list[int] = []
    handle = model.get_input_embeddings().register_forward_pre_hook(
        lambda _, given: seen.append(given[0].numel())
    )
    yield seen
    handle.remove()


def test_an_engine_computes_what_is_common_once_and_holds_a_prompt_once(tiny: Path) -> None:
    """Two questions of 60 tokens, six different endings of at most 9 and 7 x 4 messages of 5
    tokens, the first of which follows the prompt.
    """
    model, tokenizer = policy.load(tiny)
    prompts = long(tokenizer)
    engine = hf.HF(model, [])
    with counted(model) as seen:
        engine.generate(prompts, 4, SamplingParams(1.0, 5), [0])
    assert seen == [2 * 60, 6 * 9, *[28] * 4]
    branches = engine._begin(prompts, 4, 5).branches
    assert {len(keys) for layer in branches.layers for keys in layer} == {6}
    assert len(branches.prompt) == 28


def test_an_update_computes_what_is_common_once(model: Any) -> None:
    """Two questions of 60 tokens, eight messages of 5 behind endings of 4 of each; nothing follows
    a message's last token.
    """
    rng = np.random.default_rng(3)
    prompts = [
        q + rng.integers(5, 60, 4).tolist()
        for q in (rng.integers(5, 60, 60).tolist() for _ in range(2))
        for _ in range(8)
    ]
    messages = [
        Message(p, Completion([7] * 5, [0.0] * 5, "length"), "", "rollout") for p in prompts
    ]
    with counted(model) as seen:
        for batch in update.micro_batches(messages, np.arange(16), model):
            some = [messages[i] for i in batch.rows]
            policy.completion_logprobs(
                model,
                [m.prompt for m in some],
                [m.completion.token_ids for m in some],
                1.0,
                batch.shared,
            )
    assert sum(seen) == 2 * 60 + 16 * (4 + 5 - 1)


def test_messages_of_a_single_token_behind_a_single_token() -> None:
    sizes = Few([[5]] * 3, [1, 1, 1], 64, 100)
    assert [b.rows.tolist() for b in update.micro_batches(sizes.messages, np.arange(3), sizes)] == [
        [0, 1, 2]
    ]


class Few:
    """Messages and a model of which only the sizes are read."""

    device = torch.device("cpu")

    def __init__(
        self, prompts: list[list[int]], lengths: list[int], hidden: int, vocabulary: int
    ) -> None:
        self.messages = [
            Message(p, Completion([1] * n, [0.0] * n, "stop"), "", "")
            for p, n in zip(prompts, lengths, strict=True)
        ]
        self.config = type("Sizes", (), {"hidden_size": hidden, "vocab_size": vocabulary})


@pytest.mark.parametrize("siblings", [1, 8, 64])
@pytest.mark.parametrize(("hidden", "vocabulary"), [(64, 100), (576, 49152), (2048, 151936)])
def test_batches_hold_each_message_once_and_are_bounded_whatever_the_group(
    siblings: int, hidden: int, vocabulary: int
) -> None:
    rng = np.random.default_rng(siblings)
    prompts = [rng.integers(5, 60, rng.integers(20, 300)).tolist() for _ in range(6)]
    prompts = [p for p in prompts for _ in range(siblings)]
    sizes = Few(prompts, rng.integers(1, 90, len(prompts)).tolist(), hidden, vocabulary)
    bounds = update._bounds(sizes)
    result = update.micro_batches(sizes.messages, np.arange(len(prompts)), sizes)
    assert sorted(np.concatenate([b.rows for b in result])) == list(range(len(prompts)))
    computed = 0
    for batch in result:
        length = np.array(
            [len(prompts[i]) + len(sizes.messages[i].completion.token_ids) - 1 for i in batch.rows]
        )
        if batch.shared is None:
            cost = len(length) * length.max()
        else:
            prefix = batch.shared.length[batch.shared.group]
            assert len(batch.shared.group) == len(batch.rows)
            cost = len(batch.shared.length) * prefix.max() + len(length) * (length - prefix).max()
        computed += cost
        if len(batch.rows) > 1:
            assert cost <= bounds.tokens
            assert (
                sum(len(sizes.messages[i].completion.token_ids) for i in batch.rows)
                <= bounds.logits
            )
    plain = sum(
        len(p) + len(m.completion.token_ids) for p, m in zip(prompts, sizes.messages, strict=True)
    )
    if siblings > 1:
        assert computed < 0.8 * plain
    assert update.micro_batches(sizes.messages, np.array([], dtype=int), sizes) == []
