"""A prompt that is too long: told or refused before training, a cut episode while it lasts."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_files, run_data
from test_play import TASKS
from test_play import endpoint as scripted

from ccpo import schema, team
from ccpo.config import RunConfig
from ccpo.learn import train as training
from ccpo.learn.update import Lessons, update_policy
from ccpo.models import policy
from ccpo.play import room
from ccpo.play.engine import NO_ROOM
from ccpo.play.rollout import EvaluationPass, evaluate, play
from ccpo.play.types import Ledger, Message, PlayingTeam
from ccpo.tree import Plan


def dyad(thought: str, limit: int) -> PlayingTeam:
    """A Thinker whose every second message is long, and a Solver, in characters."""

    def thinker(prompt: str, j: int, u: float) -> str:
        return thought if j % 2 else "x"

    endpoints = [scripted(thinker), scripted(lambda p, j, u: "\\boxed{2}")]
    endpoints[1].engine.limit = limit  # of the Solver alone
    return PlayingTeam(team.load("think_solve").team(), endpoints, 1.0, (60, 20))


def solver_prompt() -> int:
    [solver] = room.measure(dyad("", 1000), TASKS[:1])
    return solver.prompts[0]


def test_an_episode_whose_prompt_leaves_no_room_is_cut_there() -> None:
    """The Solver's message is empty, unanswered and cut; nothing is booked for it, and the others
    are as ever.
    """
    ledger = Ledger()
    limit = solver_prompt() + 20 + 30
    played = play(Plan((4, 1)), TASKS[:1], dyad("y" * 50, limit), [0], ledger)
    tree = played.tree
    solver = tree.turn == 1
    assert tree.reward[solver].tolist() == [1, 0, 1, 0]
    assert tree.answer[solver].tolist() == [0, -1, 0, -1]
    assert tree.truncated[solver].tolist() == [False, True, False, True]
    empty = [not m.has_room for m in played.messages]
    assert empty == (solver & tree.truncated).tolist()
    booked = ledger.counts[1, "rollout"]
    assert booked["generated_tokens"] == 2 * len("\\boxed{2}")
    assert booked["prompt_tokens"] == 2 * (solver_prompt() + len("x"))


def test_an_evaluation_goes_on_past_a_prompt_without_room() -> None:
    playing = dyad("y" * 50, solver_prompt() + 20 + 30)
    endpoints = [scripted(lambda p, j, u: "y" * 50 if "1+1" in p else "x"), playing.endpoints[1]]
    playing = PlayingTeam(playing.team, endpoints, 1.0, (60, 20))
    rows = evaluate(playing, TASKS, EvaluationPass("factual", 1), [0], Ledger())
    solver = [(r["completion"], r["finish_reason"], r["n_completion_tokens"]) for r in rows[2:]]
    assert solver == [("", "length", 0), ("\\boxed{2}", "stop", 9)]


@pytest.mark.parametrize(
    ("spare", "outcome"), [(-1, "refused"), (0, "told"), (59, "told"), (60, "silent")]
)
def test_room_is_looked_at_before_training(
    spare: int, outcome: str, caplog: pytest.LogCaptureFixture
) -> None:
    """By hand: the Solver's prompt beside what it reads, 60 tokens of thought, 20 to generate."""
    longest = solver_prompt() + 20
    playing = dyad("", longest + spare)
    with caplog.at_level(logging.WARNING, "ccpo"):
        if outcome == "refused":
            with pytest.raises(ValueError, match=r"turn 1: .*no task leaves room.*Remedy"):
                room.check(playing, TASKS)
        else:
            room.check(playing, TASKS)
    assert ("turn 1" in caplog.text) is (outcome == "told")


@pytest.mark.usefixtures("lively")
@pytest.mark.parametrize("credit", ["ccpo", "mappo", "shared"])
def test_a_training_counts_cut_episodes_and_goes_on(
    credit: str, tmp_path: Path, tiny: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Messages of up to 125 tokens twice, in a context of 256."""
    over: dict[str, Any] = {"credit": credit, "policy": "shared", "train": {"steps": 3}}
    over["sampling"] = {"max_tokens": [125, 125]}
    if credit == "mappo":
        over["critic"] = {"lr": 1e-3}
    files = make_files(tmp_path, tiny, **over)
    with caplog.at_level(logging.WARNING, "ccpo"):
        training.train(**files)
    assert "may leave no room" in caplog.text
    table = schema.read_table(files["out"] / "train.parquet", "train").to_pandas()
    solver = table[table.agent == 1]
    assert (solver.no_room > 0).all()
    assert (solver.no_room < 1).any()
    assert (solver.truncated >= solver.no_room).all()
    assert (table[table.agent == 0].no_room == 0).all()
    assert np.isfinite(table[["loss", "grad_norm", "entropy", "message_tokens"]]).all(axis=None)
    assert (table.grad_norm > 0).any()


def test_an_update_of_empty_messages_moves_nothing(files: dict[str, Path]) -> None:
    run = RunConfig.model_validate(run_data())
    state = training.State(run, files["model"])
    empty = [Message([5, 6], NO_ROOM, "", "rollout")] * 3
    lessons = Lessons(empty, np.ones(3), np.arange(3))
    stats = update_policy(run, state.learner(0, run), lessons, 0)
    assert set(stats.columns().values()) == {0.0}
    start = policy.load(files["model"])[0].state_dict()
    weights = state.models[0].state_dict()
    assert all(torch.equal(weights[name], start[name]) for name in start)


def test_a_run_that_never_has_room_is_refused_before_an_update(tmp_path: Path, tiny: Path) -> None:
    files = make_files(tmp_path, tiny, sampling={"max_tokens": [6, 255]})
    with pytest.raises(ValueError, match=r"turn 1: .* context of 256: no task leaves room"):
        training.train(**files)
    assert not files["out"].exists()
