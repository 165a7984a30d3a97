"""An evaluation that is interrupted goes on with the next intervention; one that is complete cleans
up; forecasts stand beside actuals.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from conftest import make_files

from ccpo import schema, team
from ccpo.benchmark import Task
from ccpo.config import Experiment, read_run
from ccpo.evaluate import evaluate
from ccpo.learn import train as training
from ccpo.models import policy
from ccpo.operate import forecast
from ccpo.play.rollout import EvaluationPass
from ccpo.play.types import PlayingTeam
from ccpo.publish import report


class Killed(BaseException):
    """No handler of the project knows it."""


def test_a_killed_evaluation_goes_on_with_the_next_intervention(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training.train(**files)
    inputs: dict[str, Any] = {
        "config": files["config"],
        "tasks": [files["tasks"]],
        "model": files["out"] / "model",
        "untrained": files["model"],
    }
    whole = tmp_path / "whole.parquet"
    again = tmp_path / "again.parquet"
    evaluate.rollout(**inputs, scratch=tmp_path / "other", out=whole)
    run = read_run(files["config"])
    play = evaluate.rollouts.evaluate
    played = list[tuple[float, str]]()
    parts = [
        (run.evaluate.decodings[name].temperature, kind) for name, kind in evaluate.parts_of(run)
    ]
    # greedy with all interventions; at two temperatures the team as it is, and untrained
    assert len(set(parts)) == 5 + 2 + 2

    def dying(playing: PlayingTeam, tasks: Any, evaluation: EvaluationPass, *more: Any) -> Any:
        if len(played) % 2 == 1:
            played.append((0.0, "killed"))
            raise Killed
        played.append((playing.temperature, evaluation.intervention))
        return play(playing, tasks, evaluation, *more)

    monkeypatch.setattr(evaluate.rollouts, "evaluate", dying)
    for _ in parts[:-1]:
        with pytest.raises(Killed):
            evaluate.rollout(**inputs, scratch=files["scratch"], out=again)
        assert not again.exists()
    evaluate.rollout(**inputs, scratch=files["scratch"], out=again)
    assert [part for part in played if part[1] != "killed"] == parts  # each once
    assert again.read_bytes() == whole.read_bytes()
    # what was kept of another policy is not taken for this one's
    with pytest.raises(Killed):
        evaluate.rollout(
            **{**inputs, "untrained": files["out"] / "model" / "policy0"},
            scratch=files["scratch"],
            out=tmp_path / "third.parquet",
        )


def test_a_scored_run_leaves_no_scratch(files: dict[str, Path], tmp_path: Path) -> None:
    training.train(**files)
    assert files["scratch"].is_dir()
    common: dict[str, Any] = {
        "config": files["config"],
        "tasks": [files["tasks"]],
        "scratch": files["scratch"],
    }
    rollouts = tmp_path / "rollouts.parquet"
    evaluate.rollout(**common, model=files["out"] / "model", untrained=files["model"], out=rollouts)
    evaluate.score(
        **common,
        rollouts=rollouts,
        out=tmp_path / "scores.parquet",
        graders=tmp_path / "graders.parquet",
    )
    assert not files["scratch"].exists()


def test_the_report_says_how_far_off_a_forecast_was(tmp_path: Path, tiny: Path) -> None:
    files = make_files(tmp_path, tiny)
    run = read_run(files["config"])
    training.train(**{**files, "out": tmp_path / "runs" / run.id})
    pace = forecast.of_pilot(run, tiny, [files["tasks"]])
    actual = (
        schema.read_table(tmp_path / "runs" / run.id / "ledger.parquet", "ledger")
        .to_pandas()
        .generated_tokens.sum()
    )
    experiment = Experiment(
        name="e", question="How far off?", primary_metric="accuracy", runs={"c": {0: run}}
    )
    made = forecast.forecast(experiment, {forecast.key(run): pace}, 1, gpus=False)
    condition = made.conditions[0].model_copy(
        update={"train_tokens": 1.5 * actual, "update_seconds": 0.0}
    )
    made = made.model_copy(update={"conditions": (condition,)})
    page = report.forecast(made, {"conditions": {"c": {"runs": {"0": run.id}}}}, tmp_path / "runs")
    assert "<td>pilot</td>" in page
    assert "<td>+50 %</td>" in page
    assert "<td>-100 %</td>" in page
    # the experiment was changed since
    assert "<td>c</td>" not in report.forecast(made, {"conditions": {}}, tmp_path)


def played(tmp_path: Path, tiny: Path, name: str, **over: Any) -> pd.DataFrame:
    """What the untaught model says in the evaluation of a run."""
    files = make_files(
        tmp_path / name,
        tiny,
        evaluate={"interventions": []},
        credit="none",
        policy="shared",
        **over,
    )
    training.train(**files)
    inputs: dict[str, Any] = {
        "config": files["config"],
        "tasks": [files["tasks"]],
        "scratch": files["scratch"],
    }
    evaluate.rollout(
        **inputs, model=files["out"] / "model", untrained=tiny, out=tmp_path / f"{name}.parquet"
    )
    return schema.read_table(tmp_path / f"{name}.parquet", "rollouts").to_pandas()


def test_draws_are_paired_between_conditions_and_others_for_every_training_seed(
    tmp_path: Path, tiny: Path
) -> None:
    """One policy throughout. Drawn for two seeds it says other things, and greedily the same; for
    two conditions of a seed the same.
    """
    idle = {"steps": 0}
    rows = {
        "a": played(tmp_path, tiny, "a", seed=0, train=idle),
        "other condition": played(tmp_path, tiny, "b", seed=0, objective="gspo", train=idle),
        "other seed": played(tmp_path, tiny, "c", seed=1, train=idle),
    }
    assert rows["a"].equals(rows["other condition"])
    for decoding, same in (("greedy", True), ("sampled", False)):
        texts = [
            rows[name][rows[name].decoding == decoding].completion.tolist()
            for name in ("a", "other seed")
        ]
        assert (texts[0] == texts[1]) is same


def test_the_log_prob_of_a_message_is_that_of_its_tokens(tmp_path: Path, tiny: Path) -> None:
    """By one plain forward of the model over prompt and message, at the temperature it was drawn
    with (greedily: 1), to 1e-4.
    """
    rows = played(tmp_path, tiny, "a", team="single", train={"steps": 0, "fanout": [4]})
    model, tokenizer = policy.load(tiny)
    temperatures = {"greedy": 1.0, "low": 0.2, "sampled": 1.0}
    checked = 0
    for row in rows[
        rows.finish_reason == "length"
    ].itertuples():  # of the others the end token is not in the text
        prompt, message = (
            tokenizer.encode(text, add_special_tokens=False)
            for text in (row.prompt, row.completion)
        )
        if len(message) != row.n_completion_tokens or len(prompt) != row.n_prompt_tokens:
            continue  # a text that other tokens spell too
        with torch.no_grad():
            logits = (
                model(torch.tensor([prompt + message])).logits[0, len(prompt) - 1 : -1].double()
            )
        logps = torch.log_softmax(logits / temperatures[row.decoding], -1)[
            range(len(message)), message
        ]
        assert row.logprob == pytest.approx(float(logps.sum()), abs=1e-4)
        checked += 1
    assert checked > 5


@pytest.mark.parametrize(("choice", "leakage"), [("hidden", 0.0), ("read", 1.0)])
def test_a_thought_leaks_what_its_reader_sees(choice: Any, leakage: float) -> None:
    """The answer stands in the thinking of the thought alone."""
    dyad = replace(team.load("think_solve").team(), thinking=choice)
    key = ("arithmetic", "a", "greedy", 0, "factual")
    texts = ("<think>3+4=7</think> add them", "\\boxed{7}")
    rows = [
        {"turn": turn, "completion": text, "n_completion_tokens": 1, "logprob": 0.0}
        for turn, text in enumerate(texts)
    ]
    truths = {key[:2]: Task("a", "3+4", "7", "number")}
    [row] = evaluate.judge(dyad, {key: rows}, truths, {key[:2]: None})
    assert row["leakage"] == leakage
    assert row["accuracy"] == 1.0


@pytest.mark.parametrize("longest", [245, 255])
def test_room_is_looked_at_before_an_evaluation(
    longest: int, tmp_path: Path, tiny: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In a context of 256: after thoughts of 245 tokens the Solver's prompt may leave none, and no
    prompt leaves 255.
    """
    files = make_files(tmp_path, tiny, evaluate={"interventions": [], "max_tokens": [longest, 6]})
    training.train(**files)
    inputs: dict[str, Any] = {"config": files["config"], "tasks": [files["tasks"]]}
    inputs |= {"model": files["out"] / "model", "untrained": tiny, "scratch": files["scratch"]}
    out = tmp_path / "rollouts.parquet"
    with caplog.at_level(logging.WARNING, "ccpo"):
        if longest == 255:
            with pytest.raises(ValueError, match=r"turn 0: .*no task leaves room.*max_tokens"):
                evaluate.rollout(**inputs, out=out)
        else:
            evaluate.rollout(**inputs, out=out)
            assert "turn 1: " in caplog.text
    assert out.exists() is (longest == 245)
