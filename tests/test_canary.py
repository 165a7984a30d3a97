"""What is put between trainer and engine is noticed after the first update, with its numbers."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import run_data

from ccpo import schema
from ccpo.config import RunConfig
from ccpo.learn import canary
from ccpo.learn import train as training
from ccpo.play.engine import Completion, sums_by_layer
from ccpo.play.engine.hf import HF
from ccpo.play.types import Message

pytestmark = pytest.mark.usefixtures("lively")
LORA = {"policy": "lora", "lora": {"rank": 2}}


def state_of(files: dict[str, Path], **over: Any) -> tuple[training.State, Callable[[], object]]:
    """A training, and what makes one update of it."""
    run = RunConfig.model_validate(run_data(**over))
    state = training.State(run, files["model"])
    pool = training.read_tasks(files["tasks"], "train")
    return state, lambda: training.update(run, run.build_team(), pool, state)


def after_refresh(state: training.State, act: Callable[[HF], None]) -> None:
    """Does something to policy 0's engine each time it was shown new weights: nothing else is in
    its way before.
    """
    engine = state.engines[0]
    engine.refresh = lambda: act(engine)  # type: ignore[method-assign]


def own(engine: HF, model: Any) -> None:
    """The engine computes with weights of its own from now on, as vLLM does; their sums too."""
    engine.model = model
    engine.layer_sums = lambda: sums_by_layer(model.named_parameters())  # type: ignore[method-assign]


def test_an_update_in_step_is_recorded(files: dict[str, Path]) -> None:
    training.train(**files)
    table = schema.read_table(files["out"] / "canary.parquet", "canary").to_pandas()
    gaps = table[table.name == "gap"]
    assert gaps.step.tolist() == [1, 2, 3, 4]
    assert gaps.policy.tolist() == [0, 1, 0, 1]
    assert gaps.value.max() < 1e-4  # float32; on some processors the two compute the same bits
    assert gaps.value.min() >= 0
    ratios = table[table.name.str.startswith("ratio")].groupby("step").value.sum()
    assert ratios.to_numpy() == pytest.approx(1.0)
    ledger = schema.read_table(files["out"] / "ledger.parquet", "ledger").to_pandas()
    assert (ledger[ledger.purpose == "canary"].prompt_tokens > 0).all()
    assert ledger[ledger.purpose == "canary"].generated_tokens.sum() == 0


def test_weights_that_were_not_pushed(files: dict[str, Path]) -> None:
    state, update = state_of(files, train={"lr": 0.05})
    old = copy.deepcopy(state.models[0])
    after_refresh(state, lambda engine: setattr(engine, "model", old))
    with pytest.raises(
        ValueError, match=r"update 0, policy 0: canary: .* log-probs differ by \d.*allowed"
    ):
        update()


def test_one_layer_that_was_not_pushed_however_little_it_moved(files: dict[str, Path]) -> None:
    """At this learning rate log-probs move by less than the allowed gap: the sums of the weights
    tell.
    """
    state, update = state_of(files, train={"lr": 1e-7})
    old = copy.deepcopy(state.models[0])
    trained = state.models[0]

    def all_but_one(engine: HF) -> None:
        with torch.no_grad():
            for (name, own_weight), theirs in zip(
                old.named_parameters(), trained.parameters(), strict=True
            ):
                if "layers.0" not in name:
                    own_weight.copy_(theirs)
        own(engine, old)

    after_refresh(state, all_but_one)
    with pytest.raises(
        ValueError,
        match=r"canary: the weights of layers\.0 sum up to .* so that these were not pushed",
    ):
        update()
    assert (
        canary.gap(trained, state.engines[0], state.prompt_probes[0], 1.0) < canary.GAP["float32"]
    )


def test_an_adapter_that_was_not_switched_on(files: dict[str, Path]) -> None:
    state, update = state_of(files, **{**LORA, "train": {"lr": 0.1, "period": 2}})
    update()
    after_refresh(
        state, lambda engine: setattr(engine, "activate", functools.partial(state.activate, 1))
    )
    with pytest.raises(ValueError, match="update 1, policy 0: canary: on fixed messages"):
        update()


def test_a_prefix_that_was_computed_with_old_weights(files: dict[str, Path]) -> None:
    state, update = state_of(files, train={"lr": 0.05})
    engine = state.engines[0]
    stale = copy.deepcopy(state.models[0])
    begin = engine._begin

    def cached(*arguments: Any) -> Any:
        engine.model, live = stale, engine.model
        try:
            return begin(*arguments)
        finally:
            engine.model = live

    after_refresh(state, lambda engine: setattr(engine, "_begin", cached))
    with pytest.raises(ValueError, match="update 0, policy 0: canary: on fixed messages"):
        update()


def test_weights_that_were_rounded_on_their_way(files: dict[str, Path]) -> None:
    state, update = state_of(files)
    after_refresh(
        state, lambda engine: own(engine, copy.deepcopy(state.models[0]).to(torch.bfloat16).float())
    )
    with pytest.raises(ValueError, match="update 0, policy 0: canary: "):
        update()


def test_log_probs_that_are_no_numbers(files: dict[str, Path]) -> None:
    state, update = state_of(files)
    after_refresh(
        state,
        lambda engine: setattr(
            engine, "logprobs", lambda p, c, t: [[float("nan")] * len(token_ids) for token_ids in c]
        ),
    )
    with pytest.raises(ValueError, match="log-probs differ by nan"):
        update()


def test_the_histogram_is_numpys() -> None:
    ratio = np.exp(np.random.default_rng(0).normal(0, 0.3, 5000)).astype(np.float32)
    bounds = np.array([0, *canary.RATIOS, np.inf], dtype=np.float32)
    assert canary.histogram(torch.from_numpy(ratio)) == np.histogram(ratio, bounds)[0].tolist()


def test_text_that_has_other_tokens_than_were_drawn(files: dict[str, Path]) -> None:
    state, _ = state_of(files)
    tokenizer = state.tokenizers[0]
    whole = tokenizer.encode("\\boxed{7}", add_special_tokens=False)
    apart = [tokenizer.convert_tokens_to_ids(c) for c in "\\boxed{7}"]
    assert whole != apart

    def message(ids: list[int]) -> Message:
        return Message(
            [1],
            Completion([*ids, tokenizer.eos_token_id], [0.0] * (len(ids) + 1), "stop"),
            "\\boxed{7}",
            "",
        )

    assert canary.drift([message(whole), message(apart)], tokenizer) == 0.5
