"""The forecast: against counts of what is really played, brute-force schedules, and its own
sources' order.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import SPEC, make_files, run_data

from ccpo.config import Experiment, Protocol, RunConfig, read_experiment, tasks_slug
from ccpo.operate import forecast

PROTOCOL = Protocol(name="test", tasks=8)


def run_of(**over: Any) -> RunConfig:
    return RunConfig.model_validate(run_data(**over))


@pytest.mark.parametrize("credit", ["shared", "ccpo"])
def test_counts_from_a_models_size_are_those_of_full_messages(
    tmp_path: Path, tiny: Path, credit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With messages that fill their limits (an untaught model that never ends one) a pilot
    generates what the limits say, to the token.
    """
    from ccpo.models import policy

    monkeypatch.setattr(forecast, "FILLED", 1.0)
    monkeypatch.setattr(policy, "end_ids", lambda *_: [])
    files = make_files(tmp_path, tiny, credit=credit)
    run = run_of(credit=credit)
    files["tasks"].rename(tmp_path / f"{tasks_slug(run.benchmark)}.parquet")
    told = forecast.of_size(run, [PROTOCOL], 1e4, gpus=False)
    found = forecast.of_pilot(run, [PROTOCOL], tiny, tmp_path)
    assert found.generated == told.generated == 4 * (8 if credit == "shared" else 12) * 6
    assert found.calls == told.calls == 4 * (4 if credit == "shared" else 8)
    assert found.updates == told.updates == 4
    # factual; the reader's under solo, blank, shuffle, message_only; swap of either; untrained
    greedily = 2 + 4 * 1 + (2 + 1) + 2
    assert found.task_generated == pytest.approx(
        (greedily + 2 * (2 + 2)) * 6
    )  # and twice more: factual and untrained at other temperatures


def test_a_run_ends_by_the_first_of_its_two_limits() -> None:
    run = run_of(train={"steps": 10, "tokens": 1000})
    assert forecast._updates(run, 99) == 10
    assert forecast._updates(run, 100) == 10
    assert forecast._updates(run, 334) == 3
    assert forecast._updates(run, 333) == 4  # it ends after the update that reaches the limit
    assert forecast._updates(run_of(train={"steps": 10}), 1e9) == 10


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_the_schedule_is_that_of_a_clock(slots: int) -> None:
    chains = [3, 1, 4, 1, 5, 9, 2, 6]
    waiting = list(chains)
    running = []
    clock = 0
    while waiting or running:
        while waiting and len(running) < slots:
            running.append(waiting.pop(0))
        clock += 1
        running = [left - 1 for left in running if left > 1]
    assert forecast._makespan(chains, slots) == clock


def test_finished_runs_come_before_a_pilot_and_a_pilot_before_the_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    experiment = read_experiment("quickstart")
    assert isinstance(experiment, Experiment)
    first = {label: next(iter(runs.values())) for label, runs in experiment.runs.items()}
    pace = forecast.Pace("pilot", 0, 1000.0, 0.0, 10.0, 0.5, 100.0, 0.01, 2.0, 5.0)
    protocols = experiment.protocols
    pilots = {forecast.key(first[name], protocols): pace for name in ("single", "ccpo")}
    ready = forecast.Pace("finished runs", 7, 2000.0, 0.0, 10.0, 0.5, 100.0, 0.01, 2.0, 5.0)
    monkeypatch.setattr(
        forecast,
        "of_finished",
        lambda runs, protocols, folder: ready if runs[0].credit.name == "ccpo" else None,
    )
    rows = {
        row.condition: row
        for row in forecast.forecast(experiment, pilots, 2, gpus=False).conditions
    }
    assert {k: row.source for k, row in rows.items()} == {
        "single": "pilot",
        "shared": "model size",
        "ccpo": "finished runs",
        "outcome": "model size",
        "vote_shared": "model size",
        "vote_ccpo": "model size",
    }
    # 150,000 tokens would take 150 of them; the run allows 100
    assert rows["single"].updates == 100
    assert rows["single"].train_tokens == 8 * 100 * 1000
    assert rows["ccpo"].train_tokens == 8 * 7 * 2000
    assert rows["single"].evaluation_tokens == 8 * 256 * 100


def test_the_key_of_a_pilot_knows_what_changes_its_pace_and_nothing_else() -> None:
    base = run_of()
    same = [
        run_of(seed=7),
        run_of(train={"steps": 9}),
        run_of(train={"tokens": 500}),
    ]
    other = [
        run_of(credit="shared"),
        run_of(train={"tasks": 2}),
        run_of(sampling={"max_tokens": [6, 7]}),
        run_of(policy="shared"),
    ]
    fewer = PROTOCOL.model_copy(update={"name": "other", "tasks": 3})
    more = Protocol.model_validate({**PROTOCOL.model_dump(mode="json"), "interventions": ["solo"]})
    own = forecast.key(base, [PROTOCOL])
    assert {forecast.key(run, [PROTOCOL]) for run in same} == {own}
    assert forecast.key(base, [fewer]) == own
    keys = [
        *(forecast.key(run, [PROTOCOL]) for run in [base, *other]),
        forecast.key(base, [more]),
        forecast.key(base, [PROTOCOL, more]),
    ]
    assert len(set(keys)) == len(keys)


def test_the_key_of_a_pilot_is_that_of_any_replica() -> None:
    def started(**over: Any) -> str:
        run = run_of(model={"name": "test", "spec": {**SPEC, **over}})
        return forecast.key(run, [PROTOCOL])

    assert started(seed=3) == started(sha256="a" * 64) == started()
    assert started(hidden=32) != started()


def test_each_base_model_is_prepared_once_and_a_pinned_one_is_only_copied() -> None:
    """Smoke has two of its own, side by side where there is room; the work of training stays."""
    experiment = read_experiment("smoke")
    assert isinstance(experiment, Experiment)
    runs = {label: dict(list(of.items())[:1]) for label, of in experiment.runs.items()}
    one = experiment.model_copy(update={"runs": runs})

    def jobs(study: Experiment) -> int:
        return forecast.forecast(study, {}, 8, gpus=False, folder=Path("nowhere")).jobs

    n = len(runs)  # trainings and rollouts, scores in groups of eight, pages, base models
    assert jobs(experiment) == 2 * (2 * n) + -(-2 * n // 8) + 2 + 2
    assert jobs(one) == 2 * n + -(-n // 8) + 2 + 1
    pinned = experiment.runs["single"][0].models[0]
    assert forecast._preparing(pinned) == forecast.PROCESS
    spec = pinned.spec.model_copy(update={"sha256": ""})
    made = pinned.model_copy(update={"spec": spec})
    assert forecast._preparing(made) == forecast.PROCESS + 300 * 64 * 1e-3


def test_sizes_from_names_and_from_folders(tiny: Path) -> None:
    named = {
        m: read_experiment(e)
        for m, e in (("1.5", "ccpo_v5"), ("4", "c3_duo_math"), ("0.135", "smollm2"))
    }
    for billions, experiment in named.items():
        assert isinstance(experiment, Experiment)
        run = next(iter(next(iter(experiment.runs.values())).values()))
        assert run.models[0].parameters == float(billions) * 1e9
    from transformers import AutoModelForCausalLM

    counted = sum(forecast._counted(path) for path in tiny.glob("*.safetensors"))
    assert counted == AutoModelForCausalLM.from_pretrained(tiny).num_parameters()


def test_more_seeds_for_a_smaller_effect_or_a_larger_family() -> None:
    experiment = read_experiment("quickstart")
    assert isinstance(experiment, Experiment)

    def needed(effect: float, n: int) -> int:
        study = experiment.model_copy(update={"effect": effect, "compare": experiment.compare[:n]})
        return forecast._seeds(study, Path("nowhere"))[0].needed or 0

    assert needed(0.05, 1) < needed(0.05, 3) < needed(0.02, 3)


def test_tasks_of_every_protocol_count_as_often_as_they_are_played() -> None:
    """One of eight tasks played greedily alone, one of two tasks with four samples of each message
    more: by hand.
    """
    run = run_of(credit="shared")
    greedy = {"greedy": {"temperature": 0}}
    many = {"t1": {"temperature": 1, "samples": 5}}
    short = Protocol(name="a", tasks=8, decodings=greedy, interventions=())
    wide = Protocol(name="b", tasks=2, decodings=many, primary="t1", interventions=())
    message = 2 * forecast.FILLED * 6  # two turns
    pace = forecast.of_size(run, [short, wide], 1e4, gpus=False)
    assert pace.task_generated == pytest.approx((8 * message + 2 * 5 * message) / 10)
