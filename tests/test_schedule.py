"""The learning rate and the steered weight in the course of a training, against what others compute
and against simulations; and that a setting that came later leaves older runs their names.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from conftest import run_data

from ccpo import schema
from ccpo.config import Objective, RunConfig, canonical
from ccpo.learn import schedule
from ccpo.learn import train as training


def settings(**changes: Any) -> Any:
    return RunConfig.model_validate(run_data(train={"steps": 40, "lr": 0.5, **changes})).train


def test_without_a_schedule_the_rate_is_what_it_was_before_there_were_any() -> None:
    for warmup in (0, 1, 4):
        of = settings(warmup=warmup, tokens=1000)
        for step in range(40):
            before = 0.5 * min(1.0, (step + 1) / (warmup + 1))
            assert schedule.learning_rate(of, step, 25 * step) == before


@pytest.mark.parametrize("floor", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_a_schedule_is_that_of_transformers(kind: str, floor: float) -> None:
    """Their warm-up begins at 0, which would waste an update; after it the two are the same."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([parameter], lr=0.5)
    if kind == "linear":
        theirs = transformers.get_linear_schedule_with_warmup(optimiser, 4, 40)
    else:
        theirs = transformers.get_cosine_schedule_with_warmup(optimiser, 4, 40)
    of = settings(schedule=kind, warmup_share=0.1, floor=floor)
    for step in range(40):
        rate = schedule.learning_rate(of, step, 0)
        if step >= 4:
            bare = theirs.get_last_lr()[0]
            assert rate == pytest.approx(0.5 * floor + (1 - floor) * bare, rel=1e-12)
        else:
            assert rate == pytest.approx(0.5 * (step + 1) / 5, rel=1e-12)
        optimiser.step()
        theirs.step()
    end = schedule.learning_rate(of, 40, 0)
    assert end == pytest.approx(0.5 * floor, abs=1e-12)


def test_a_training_that_ends_by_tokens_has_fallen_as_far() -> None:
    """Half of the tokens is half of the way, whatever the updates; and never beyond the end."""
    of = settings(schedule="linear", tokens=1000)
    assert schedule.progress(of, 1, 500) == 0.5
    assert schedule.learning_rate(of, 1, 500) == pytest.approx(0.25)
    assert schedule.progress(of, 30, 10) == 0.75
    assert schedule.learning_rate(of, 39, 2000) == 0.0


def test_a_divergence_is_steered_to_its_target() -> None:
    """A policy whose divergence falls as the weight rises, from both sides; noise and all."""
    goal = Objective(name="grpo", kl=0.01, kl_target=0.1, kl_horizon=1000)
    rng = np.random.default_rng(0)
    for start in (1e-4, 1.0):
        weight = start
        seen = []
        for _ in range(2000):
            divergence = 0.02 / np.sqrt(weight) * np.exp(0.1 * rng.normal())
            weight = schedule.steered(goal, weight, float(divergence), 50)
            seen.append(divergence)
        assert np.mean(seen[-500:]) == pytest.approx(0.1, rel=0.05)
    assert schedule.steered(goal, 0.5, 0.1, 50) == 0.5
    # never more than a fifth of the messages' share of the horizon at a time
    assert schedule.steered(goal, 0.5, 100.0, 1000) == pytest.approx(0.6)
    assert schedule.steered(goal, 0.5, 0.0, 1000) == pytest.approx(0.4)
    assert schedule.steered(Objective(name="grpo", kl=0.01), 0.5, 9.0, 50) == 0.5


def test_later_settings_at_their_defaults_are_no_part_of_a_run() -> None:
    run = RunConfig.model_validate(run_data())
    written = json.loads(run.model_dump_json())
    later = {"schedule", "floor", "warmup_share", "betas", "epochs"}
    assert not later & set(written["train"])
    assert not {"kl_target", "kl_horizon"} & set(written["objective"])
    assert RunConfig.model_validate(written) == run
    # said aloud at its default it is the same run, otherwise another
    assert RunConfig.model_validate(run_data(train={"epochs": 1})).id == run.id
    for name, value in (
        ("epochs", 2),
        ("schedule", "cosine"),
        ("betas", [0.9, 0.95]),
        ("warmup_share", 0.03),
    ):
        other = RunConfig.model_validate(run_data(train={name: value}))
        assert other.id != run.id
        assert RunConfig.model_validate(json.loads(other.model_dump_json())) == other


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train": {"warmup": 3, "warmup_share": 0.1}}, "both say"),
        ({"train": {"floor": 0.1}}, "schedule is constant"),
        ({"objective": {"name": "grpo", "kl_target": 0.1}}, "steers the weight kl, which is 0"),
        ({"train": {"betas": [0.9]}}, "betas"),
        ({"train": {"epochs": 0}}, "epochs"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        RunConfig.model_validate(run_data(**changes))


def counted(step: Callable[[float], float], norms: list[float]) -> Callable[[float], float]:
    """`step`, whose gradient norms are kept."""

    def stepping(lr: float) -> float:
        norms.append(step(lr))
        return norms[-1]

    return stepping


@pytest.mark.usefixtures("lively")
def test_two_epochs_are_two_passes_and_are_counted(files: dict[str, Path]) -> None:
    """The first pass of two is the only pass of one: the same messages in the same order; the
    tokens trained on are counted twice.
    """
    trained = {}
    steps: dict[int, list[float]] = {}
    for epochs in (1, 2):
        data = run_data(train={"steps": 1, "epochs": epochs})
        run = RunConfig.model_validate(data)
        files["config"].write_text(canonical(run.model_dump(mode="json")))
        state = training.State(run, files["model"])
        taken = steps[epochs] = []
        for each in state.optimisers:
            each.step = counted(each.step, taken)
        pool = training.read_tasks(files["tasks"], "train")
        ledger = training.update(run, run.build_team(), pool, state)
        trained[epochs] = ledger.total("trained_tokens")
    assert trained[2] == 2 * trained[1] > 0
    assert len(steps[2]) == 2 * len(steps[1])
    assert steps[2][: len(steps[1])] == steps[1]


@pytest.mark.usefixtures("lively")
def test_a_steered_weight_is_recorded_and_survives_a_resume(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    goal = {"name": "grpo", "kl": 0.5, "kl_target": 1e-9, "kl_horizon": 100}
    run = RunConfig.model_validate(run_data(objective=goal))
    files["config"].write_text(canonical(run.model_dump(mode="json")))
    training.train(**files)
    rows = schema.read_table(files["out"] / "canary.parquet", "canary").to_pylist()
    weights = [row["value"] for row in rows if row["name"] == "kl weight" and row["policy"] == 0]
    assert weights[0] == 0.5
    assert weights == sorted(weights)
    assert weights[-1] > 0.5
    assert all(row["value"] >= 0 for row in rows if row["name"] == "kl")
    again = files["out"].with_name("again")
    update = training.update
    calls = []

    def dying(*arguments: object) -> object:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return update(*arguments)

    monkeypatch.setattr(training, "SAVED", -1.0)
    monkeypatch.setattr(training, "update", dying)
    fresh = {**files, "out": again, "scratch": files["scratch"].with_name("fresh")}
    with pytest.raises(KeyboardInterrupt):
        training.train(**fresh)
    monkeypatch.setattr(training, "update", update)
    training.train(**fresh)
    resumed = schema.read_table(again / "canary.parquet", "canary").to_pylist()
    assert resumed == rows
