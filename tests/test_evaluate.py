"""An evaluation that is interrupted goes on with the next intervention; one that is complete cleans
up; forecasts stand beside actuals.
"""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from conftest import make_files, make_protocol, sources

from ccpo import schema, team
from ccpo.benchmark import Task
from ccpo.config import Experiment, read_protocol, read_run, tasks_slug
from ccpo.evaluate import evaluate
from ccpo.evaluate.parts import parts_of, played_before
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
    inputs = sources(files, make_protocol(tmp_path))
    whole = tmp_path / "whole" / "eval" / "a" / "rollouts.parquet"
    again = tmp_path / "again" / "eval" / "a" / "rollouts.parquet"
    evaluate.rollout(inputs, scratch=tmp_path / "other", out=whole)
    run = read_run(files["config"])
    protocol = read_protocol(inputs.protocol)
    play = evaluate.rollouts.evaluate
    played = list[tuple[float, str]]()
    parts = [(protocol.decodings[name].temperature, kind) for name, kind in parts_of(run, protocol)]
    # greedy with all interventions; at two temperatures the team as it is, and untrained
    assert len(set(parts)) == 8 + 2 + 2

    def dying(playing: PlayingTeam, tasks: Any, evaluation: EvaluationPass, *more: Any) -> Any:
        if len(played) % 2 == 1:
            played.append((0.0, "killed"))
            raise Killed
        played.append((playing.temperature, evaluation.intervention))
        return play(playing, tasks, evaluation, *more)

    monkeypatch.setattr(evaluate.rollouts, "evaluate", dying)
    for _ in parts[:-1]:
        with pytest.raises(Killed):
            evaluate.rollout(inputs, scratch=files["scratch"], out=again)
        assert not again.exists()
    evaluate.rollout(inputs, scratch=files["scratch"], out=again)
    assert [part for part in played if part[1] != "killed"] == parts  # each once
    assert again.read_bytes() == whole.read_bytes()
    # what was kept of another policy is not taken for this one's
    with pytest.raises(Killed):
        evaluate.rollout(
            replace(inputs, untrained=(files["out"] / "model" / "policy0",)),
            scratch=files["scratch"],
            out=tmp_path / "third" / "eval" / "a" / "rollouts.parquet",
        )


def test_a_scored_run_leaves_no_scratch(files: dict[str, Path], tmp_path: Path) -> None:
    training.train(**files)
    assert files["scratch"].is_dir()
    protocol = make_protocol(tmp_path)
    own = tmp_path / "scratch of the evaluation"
    other = tmp_path / "scratch of another protocol"
    other.mkdir()
    rollouts = tmp_path / "eval" / "a" / "rollouts.parquet"
    evaluate.rollout(sources(files, protocol), scratch=own, out=rollouts)
    assert own.is_dir()
    evaluate.score(
        evaluate.Played(files["config"], protocol, (files["tasks"],), rollouts),
        scratch=[files["scratch"], own],
        out=tmp_path / "scores.parquet",
        graders=tmp_path / "graders.parquet",
    )
    assert not files["scratch"].exists()
    assert not own.exists()
    assert other.is_dir()


def test_the_report_says_how_far_off_a_forecast_was(tmp_path: Path, tiny: Path) -> None:
    files = make_files(tmp_path, tiny)
    run = read_run(files["config"])
    training.train(**{**files, "out": tmp_path / "runs" / run.id})
    protocol = read_protocol(make_protocol(tmp_path))
    files["tasks"].rename(tmp_path / f"{tasks_slug(run.benchmark)}.parquet")
    pace = forecast.of_pilot(run, [protocol], tiny, tmp_path)
    actual = (
        schema.read_table(tmp_path / "runs" / run.id / "ledger.parquet", "ledger")
        .to_pandas()
        .generated_tokens.sum()
    )
    experiment = Experiment(
        name="e",
        question="How far off?",
        primary_metric="accuracy",
        runs={"c": {0: run}},
        protocols=(protocol,),
    )
    made = forecast.forecast(experiment, {forecast.key(run, [protocol]): pace}, 1, gpus=False)
    condition = made.conditions[0].model_copy(
        update={"train_tokens": 1.5 * actual, "update_seconds": 0.0}
    )
    made = made.model_copy(update={"conditions": (condition,)})
    planned = experiment.manifest()
    page = report.forecast(made, planned, tmp_path / "runs")
    assert "<td>pilot</td>" in page
    assert "<td>+50 %</td>" in page
    assert "<td>-100 %</td>" in page
    # the experiment was changed since, or a run is not there
    changed = planned.model_copy(update={"conditions": ()})
    assert "<td>c</td>" not in report.forecast(made, changed, tmp_path / "runs")
    assert "<td>c</td>" not in report.forecast(made, planned, tmp_path / "elsewhere")


def played(tmp_path: Path, tiny: Path, name: str, **over: Any) -> pd.DataFrame:
    """What the untaught model says in the evaluation of a run."""
    files = make_files(
        tmp_path / name,
        tiny,
        credit="none",
        policy="shared",
        **over,
    )
    training.train(**files)
    rollouts = tmp_path / name / "eval" / "a" / "rollouts.parquet"
    inputs = sources(files, make_protocol(tmp_path, interventions=[]))
    evaluate.rollout(inputs, scratch=files["scratch"], out=rollouts)
    return schema.read_table(rollouts, "rollouts").to_pandas()


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


def evaluated(files: dict[str, Path], protocol: Path, folder: Path) -> Path:
    """The rollouts of a protocol in its folder of the run's."""
    out = folder / "eval" / protocol.stem / "rollouts.parquet"
    evaluate.rollout(sources(files, protocol), scratch=folder / "scratch", out=out)
    return out


def test_one_more_intervention_plays_that_one_only(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And gives the table that the larger protocol gives where nothing was played before. What is
    drawn in another way, of other policies or by changed files is played anew.
    """
    training.train(**files)
    small = make_protocol(tmp_path, interventions=["solo"])
    large = make_protocol(tmp_path, interventions=["solo", "untrained", "shuffle"])
    alone = evaluated(files, large, tmp_path / "alone")
    first = evaluated(files, small, tmp_path / "run")
    play = evaluate.rollouts.evaluate
    played = list[tuple[float, str]]()

    def counted(playing: PlayingTeam, items: Any, once: EvaluationPass, *more: Any) -> Any:
        played.append((playing.temperature, once.intervention))
        return play(playing, items, once, *more)

    monkeypatch.setattr(evaluate.rollouts, "evaluate", counted)
    whole = evaluated(files, large, tmp_path / "run")
    untrained = [(temperature, "untrained") for temperature in (0.0, 0.2, 1.0)]
    assert sorted(played) == sorted([(0.0, "shuffle.0"), *untrained])
    assert whole.read_bytes() == alone.read_bytes()
    for over in (
        {"seed": 1},
        {"tasks": 7},
        {"max_tokens": [5, 5]},
        {"decodings": {"greedy": {"temperature": 0.5}}},
    ):
        played.clear()
        evaluated(files, make_protocol(tmp_path, interventions=["solo"], **over), tmp_path / "run")
        assert ((over.get("decodings") and 0.5) or 0.0, "solo.1") in played, over
    played.clear()
    other = make_protocol(tmp_path, interventions=["solo"], primary="sampled")
    evaluated(files, other, tmp_path / "run")
    assert played == [(1.0, "solo.1")]  # under another decoding; the rest was played
    for path in (tmp_path / "run" / "eval").glob("*/rollouts.parquet"):
        path.write_bytes(path.read_bytes() + b" ")
    played.clear()
    first.parent.rename(tmp_path / "gone")
    shutil.rmtree(tmp_path / "run" / "scratch")
    evaluated(files, small, tmp_path / "run")
    assert len(played) == 4


def test_as_many_samples_are_not_played_again_however_they_are_written(
    files: dict[str, Path], tmp_path: Path
) -> None:
    """Two of each task, as a number, by benchmark, or as what a budget comes to; not three, nor of
    truncated draws.
    """
    training.train(**files)
    run = read_run(files["config"])

    def of(**drawn: Any) -> Path:
        decodings = {"greedy": {"temperature": 0}, "t1": {"temperature": 1, **drawn}}
        return make_protocol(tmp_path, interventions=[], decodings=decodings)

    out = evaluated(files, of(samples=2), tmp_path / "run")
    rows = schema.read_table(out, "rollouts").to_pandas()
    drawn = rows[(rows.decoding == "t1") & (rows.turn == 1)]
    assert set(drawn.groupby("task_id")["sample"].count()) == {2}
    for asked, parts in (
        ({"samples": {"default": 2}}, 2),
        ({"samples": {"se": 0.125}}, 2),  # 0.25 / (8 * 0.125**2) = 2
        ({"samples": 3}, 1),
        ({"samples": 2, "top_k": 5}, 1),
    ):
        protocol = of(**asked)
        again = out.parent.parent / protocol.stem / out.name
        assert len(played_before(sources(files, protocol), run, again)) == parts, asked


def test_what_an_older_protocol_did_not_say_is_told_by_what_was_drawn(
    tmp_path: Path, tiny: Path
) -> None:
    """A single agent drew two samples of each task, by a protocol without the key that says so,
    which is four today.
    """
    alone = {"team": "single", "credit": "shared", "policy": "shared", "train": {"fanout": [4]}}
    files = make_files(tmp_path, tiny, **alone)
    training.train(**files)
    t1 = {"decodings": {"t1": {"temperature": 1}}, "primary": "t1", "interventions": []}
    older = make_protocol(tmp_path, **t1, single_samples=2)
    out = evaluated(files, older, tmp_path / "run")
    older.write_text(older.read_text().replace('"single_samples":2,', ""))
    assert read_protocol(older).single_samples == 4
    run = read_run(files["config"])
    for samples, parts in ((4, 0), (2, 1)):
        asked = make_protocol(tmp_path, **t1, single_samples=samples, seed=0)
        again = out.parent.parent / f"again{samples}" / out.name
        assert len(played_before(sources(files, asked), run, again)) == parts


def test_what_was_played_by_other_weights_is_played_again(
    files: dict[str, Path], tmp_path: Path
) -> None:
    training.train(**files)
    small = make_protocol(tmp_path, interventions=["solo"])
    large = make_protocol(tmp_path, interventions=["solo", "blank"])
    first = evaluated(files, small, tmp_path / "run")
    inputs = sources(files, large)
    run = read_run(files["config"])
    out = first.parent.parent / large.stem / first.name
    other = tmp_path / "other.parquet"
    other.write_bytes(files["tasks"].read_bytes() + b" ")
    assert len(played_before(inputs, run, out)) == 4
    for changed in (
        replace(inputs, model=files["out"] / "model" / "policy0"),
        replace(inputs, untrained=(files["out"] / "model" / "policy0",)),
        replace(inputs, tasks=(other,)),
    ):
        assert played_before(changed, run, out) == {}


def test_a_run_is_not_evaluated_on_what_it_was_trained_on(
    files: dict[str, Path], tmp_path: Path
) -> None:
    """Before any policy is loaded: there is none."""
    training.train(**files)
    shutil.rmtree(files["out"] / "model")
    trained_on = schema.read_table(files["tasks"], "tasks").to_pylist()
    other = tmp_path / "other.parquet"
    row = {**next(row for row in trained_on if row["split"] == "train"), "split": "test"}
    schema.write_table(other, schema.rows_to_table("tasks", [row]))
    inputs = sources(files, make_protocol(tmp_path), tasks=(other,))
    with pytest.raises(ValueError, match=r"1 of the items it was trained on are test items: other"):
        evaluate.rollout(inputs, scratch=tmp_path / "s", out=tmp_path / "eval/a/rollouts.parquet")


@pytest.mark.parametrize(("choice", "leakage"), [("hidden", 0.0), ("read", 1.0)])
def test_a_thought_leaks_what_its_reader_sees(choice: Any, leakage: float) -> None:
    """The answer stands in the thinking of the thought alone."""
    dyad = replace(team.load("think_solve").team(), thinking=choice)
    key = ("arithmetic", "a", "greedy", 0, "factual")
    texts = ("<think>3+4=7</think> add them", "\\boxed{7}")
    rows = [
        {
            "turn": turn,
            "agent": turn,
            "fate": "drawn",
            "completion": text,
            "n_completion_tokens": 1,
            "logprob": 0.0,
        }
        for turn, text in enumerate(texts)
    ]
    truths = {key[:2]: Task("a", "3+4", "7", "number")}
    [row] = evaluate.judge(dyad, {key: rows}, truths, {key[:2]: None})
    assert row["leakage"] == leakage
    assert row["leaks"] == [leakage, 0.0]
    assert row["accuracy"] == 1.0


@pytest.mark.parametrize("longest", [245, 255])
def test_room_is_looked_at_before_an_evaluation(
    longest: int, tmp_path: Path, tiny: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In a context of 256: after thoughts of 245 tokens the Solver's prompt may leave none, and no
    prompt leaves 255.
    """
    files = make_files(tmp_path, tiny)
    training.train(**files)
    protocol = make_protocol(tmp_path, interventions=[], max_tokens=[longest, 6])
    inputs = sources(files, protocol)
    out = tmp_path / "eval" / "a" / "rollouts.parquet"
    with caplog.at_level(logging.WARNING, "ccpo"):
        if longest == 255:
            with pytest.raises(ValueError, match=r"turn 0: .*no task leaves room.*max_tokens"):
                evaluate.rollout(inputs, scratch=files["scratch"], out=out)
        else:
            evaluate.rollout(inputs, scratch=files["scratch"], out=out)
            assert "turn 1: " in caplog.text
    assert out.exists() is (longest == 245)
