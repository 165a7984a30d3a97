"""A probe is drawn as it says: contexts from the team's own play, candidates and replays of their
own; killed and resumed to the same table; weights kept on the way change no training.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from conftest import make_files, run_data
from safetensors.torch import load_file

from ccpo import schema, team
from ccpo.benchmark import Task
from ccpo.config import Probe, RunConfig, read_run
from ccpo.evaluate.probing import drawing, measuring, verdicts
from ccpo.learn import kept
from ccpo.learn import train as training
from ccpo.publish.probe_statistics import read_run_probe

SMALL = {"tasks": 3, "contexts": 2, "candidates": 4, "replays": 4}


class Killed(BaseException):
    """No handler of the project knows it."""


def asked(files: dict[str, Path], **over: Any) -> drawing.Sources:
    """A small probe of an untrained run."""
    path = files["out"].parent / "probe.json"
    path.write_text(Probe.model_validate({**SMALL, **over}).model_dump_json())
    return drawing.Sources(files["config"], path, files["tasks"], (files["model"],))


def rows_of(sources: drawing.Sources, folder: Path) -> list[dict[str, Any]]:
    out = folder / "messages.parquet"
    drawing.draw(sources, scratch=folder / "scratch", out=out)
    return schema.read_table(out, drawing.TABLE).to_pylist()


@pytest.mark.parametrize(
    ("name", "before", "later"),
    [
        ("single", {0: ()}, {0: ()}),
        ("think_solve", {0: (), 1: (0,)}, {0: (1,), 1: ()}),
        ("vote", {0: (), 1: (), 2: ()}, {0: (1, 2), 1: (0, 2), 2: (0, 1)}),
        ("chain", {0: (), 1: (0,), 2: (0, 1)}, {0: (1, 2), 1: (2,), 2: ()}),
    ],
)
def test_a_replay_keeps_what_a_message_was_written_from_and_draws_the_rest(
    name: str, before: dict[int, tuple[int, ...]], later: dict[int, tuple[int, ...]]
) -> None:
    built = team.load(name).team()
    turns = range(len(built.turns))
    assert {t: drawing.ancestors(built, t) for t in turns} == before
    assert {t: drawing.redrawn(built, t) for t in turns} == later


@pytest.mark.usefixtures("lively")
def test_contexts_candidates_and_replays_are_drawn_as_counted(
    files: dict[str, Path], tmp_path: Path
) -> None:
    rows = rows_of(asked(files), tmp_path)
    counts = Counter((row["probed"], row["turn"], row["removed"]) for row in rows)
    assert counts == {
        (-1, 0, -1): 3 * 2,  # own play: what contexts consist of
        (0, 0, -1): 3 * 4,  # one context a task
        (0, 1, -1): 3 * 4 * 4,
        (1, 1, -1): 3 * 2 * 4,  # nothing follows
        (-1, 1, 0): 3 * 4,  # the Solver alone
    }
    replays = [row["text"] for row in rows if (row["probed"], row["turn"]) == (0, 1)]
    assert len(set(replays)) > len(replays) / 2  # draws of their own
    other = rows_of(asked(files, seed=1), tmp_path / "other")
    same = [a["text"] == b["text"] for a, b in zip(rows, other, strict=True)]
    assert sum(same) < len(same) / 2


@pytest.mark.usefixtures("lively")
def test_voters_of_one_policy_and_one_prompt_draw_numbers_of_their_own(
    tmp_path: Path, tiny: Path
) -> None:
    over = {"team": "vote", "credit": "shared", "policy": "shared", "train": {"fanout": [4, 1, 1]}}
    rows = rows_of(asked(make_files(tmp_path, tiny, **over)), tmp_path)

    def texts(probed: int, turn: int) -> list[str]:
        return [r["text"] for r in rows if (r["probed"], r["turn"]) == (probed, turn)]

    for one, other in (
        (texts(0, 0), texts(1, 1)),  # candidates
        (texts(0, 1), texts(0, 2)),  # two voters of a replay
        (texts(0, 2), texts(1, 2)),  # one voter in replays of two turns
    ):
        same = sum(a == b for a, b in zip(one, other, strict=True))
        assert same < len(one) / 2


@pytest.mark.usefixtures("lively")
def test_a_context_holds_the_teams_own_message(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_for: list[Any] = []
    generate = drawing.generate_messages

    def noted(playing: Any, request: Any, seed: Any, ledger: Any) -> Any:
        asked_for.append((request.turn, request.n, request.read))
        return generate(playing, request, seed, ledger)

    monkeypatch.setattr(drawing, "generate_messages", noted)
    rows = rows_of(asked(files), tmp_path)
    own = [row["text"] for row in rows if row["probed"] == -1 and row["removed"] < 0]
    read = next(read for turn, n, read in asked_for if (turn, n) == (1, 4) and len(read) == 6)
    assert read == [[text] for text in own]
    candidates = [r["text"] for r in rows if (r["probed"], r["turn"]) == (0, 0)]
    below = next(read for turn, n, read in asked_for if (turn, n) == (1, 4) and len(read) == 12)
    assert below == [[text] for text in candidates]


@pytest.mark.usefixtures("lively")
def test_killed_and_resumed_gives_the_same_table(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = asked(files)
    whole = tmp_path / "whole.parquet"
    drawing.draw(sources, scratch=tmp_path / "one", out=whole)
    generate = drawing.generate_messages
    calls = 0

    def dying(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls in (2, 5):
            raise Killed
        return generate(*arguments)

    monkeypatch.setattr(drawing, "generate_messages", dying)
    again = tmp_path / "again.parquet"
    for _ in range(2):
        with pytest.raises(Killed):
            drawing.draw(sources, scratch=tmp_path / "two", out=again)
        assert not again.exists()
    drawing.draw(sources, scratch=tmp_path / "two", out=again)
    assert again.read_bytes() == whole.read_bytes()
    assert calls == 7  # own; turn 0 (candidates, replays), turn 1, removal: each once, two died


def message(turn: int, text: str, **place: int) -> dict[str, Any]:
    base = {"probed": -1, "context": 0, "candidate": -1, "replay": -1, "removed": -1}
    rest = {"task_id": "t", "agent": turn, "tokens": 1, "logprob": -0.5, "finish_reason": "stop"}
    return {**base, **rest, "turn": turn, "text": text, **place}


TASK = {"t": Task("t", "1 + 1 = ?", "2", kind="number")}


def test_verdicts_are_those_of_the_message_that_answers() -> None:
    dyad = team.load("think_solve").team()
    rows = [
        message(0, "own"),
        message(0, "add", probed=0, candidate=0),
        message(1, "\\boxed{2}", probed=0, candidate=0, replay=0),
        message(1, "\\boxed{3}", probed=0, candidate=0, replay=1),
        message(1, "\\boxed{2}", probed=1, candidate=0),
        message(1, "\\boxed{7}", candidate=0, removed=0),
    ]
    out = verdicts.rows(dyad, TASK, rows)
    seen = [(row["turn"], row["replay"], row["reward"], row["removed"]) for row in out]
    assert seen == [(0, 0, 1.0, -1), (0, 1, 0.0, -1), (1, 0, 1.0, -1), (-1, 0, 0.0, 0)]
    assert out[0]["answer"] == 0
    assert out[1]["answer"] > 0
    assert out[0]["text"] == out[1]["text"] != out[2]["text"]
    assert out[0]["next_text"] != out[1]["next_text"] != ""
    assert out[2]["next_text"] == ""


@pytest.mark.parametrize(
    ("tie", "texts", "reward", "answer"),
    [
        ("wrong", ("2", "2", "3"), 1.0, 0),
        ("wrong", ("2", "3", "4"), 0.0, verdicts.UNDECIDED),
        ("uniform", ("2", "3", "4"), 1 / 3, verdicts.UNDECIDED),
        ("first", ("2", "3", "4"), 1.0, 0),
        ("wrong", ("3", "3", "2"), 0.0, 1),
    ],
)
def test_a_vote_is_decided_by_its_rule(
    tie: str, texts: tuple[str, ...], reward: float, answer: int
) -> None:
    voters = team.load("vote").team(agents=3, tie=tie)
    rows = [message(0, f"\\boxed{{{texts[0]}}}", probed=0, candidate=0)]
    rows += [message(t, f"\\boxed{{{texts[t]}}}", probed=0, candidate=0, replay=0) for t in (1, 2)]
    (out,) = verdicts.rows(voters, TASK, rows)
    assert out["reward"] == pytest.approx(reward)
    assert out["answer"] == answer
    assert len(out["votes"].split(",")) == 3


@pytest.mark.usefixtures("lively")
def test_diagnostics_stand_beside_the_table_and_scratch_goes(
    files: dict[str, Path], tmp_path: Path
) -> None:
    rows_of(asked(files), tmp_path)
    drawn = measuring.Drawn(files["config"], files["tasks"], tmp_path / "messages.parquet")
    table = tmp_path / "probe.parquet"
    beside = tmp_path / "probe.diagnostics.json"
    measuring.measure(drawn, scratch=tmp_path / "scratch", table=table, diagnostics=beside)
    assert not (tmp_path / "scratch").exists()
    rows = schema.read_table(table, "probe").to_pylist()
    assert len(rows) == 3 * 16 + 6 * 4 + 12
    turns = read_run_probe(beside).turns
    assert [(t.turn, t.contexts, t.candidates, t.replays) for t in turns] == [
        (0, 3, 4, 4),
        (1, 6, 4, 1),
    ]
    assert {row.method for row in turns[0].left_out} >= {"mappo", "sepo", "ccpo_v1", "shapley"}
    assert {m.method for m in turns[0].methods} == {
        *("c3", "c3, all replays", "ccpo", "magrpo", "shared")
    }


# -- weights kept on the way


def weights(folder: Path) -> dict[str, bytes]:
    return {
        f"{path.parent.name}/{name}": tensor.numpy().tobytes()
        for path in sorted(folder.glob("policy*/model.safetensors"))
        for name, tensor in load_file(path).items()
    }


@pytest.mark.usefixtures("lively")
@pytest.mark.parametrize("policy", ["separate", "lora"])
def test_kept_weights_are_those_of_a_shorter_training_and_change_nothing(
    tmp_path: Path, tiny: Path, policy: str
) -> None:
    plain = make_files(tmp_path / "plain", tiny, policy=policy)
    keeping = make_files(tmp_path / "keeping", tiny, policy=policy)
    short = make_files(tmp_path / "short", tiny, policy=policy, train={"steps": 2})
    training.train(**plain)
    training.train(**keeping, options=training.Options(keep=(0.5,)))
    training.train(**short)
    assert weights(keeping["out"] / "kept-0.50") == weights(short["out"] / "model")
    assert weights(keeping["out"] / "model") == weights(plain["out"] / "model")
    assert weights(keeping["out"] / "kept-0.50") != weights(keeping["out"] / "model")
    for table in ("train", "credit", "ledger"):
        file = f"{table}.parquet"
        assert (keeping["out"] / file).read_bytes() == (plain["out"] / file).read_bytes()
    assert read_run(keeping["config"]).id == read_run(plain["config"]).id
    assert (keeping["out"] / "kept-0.50.manifest.json").is_file()
    outputs = json.loads((keeping["out"] / "provenance.json").read_text())["outputs"]
    assert "kept-0.50" in outputs
    plainly = json.loads((plain["out"] / "provenance.json").read_text())["outputs"]
    assert set(outputs) - set(plainly) == {"kept-0.50"}


@pytest.mark.usefixtures("lively")
def test_killed_after_a_share_was_kept_ends_as_uninterrupted(
    tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = make_files(tmp_path / "whole", tiny)
    training.train(**whole, options=training.Options(keep=(0.5,)))
    killed = make_files(tmp_path / "killed", tiny)
    write = kept.write

    def dying(*arguments: Any) -> None:
        write(*arguments)
        raise Killed

    monkeypatch.setattr(training, "EVERY", 1)
    monkeypatch.setattr(kept, "write", dying)
    with pytest.raises(Killed):
        training.train(**killed, options=training.Options(keep=(0.5,)))
    monkeypatch.setattr(kept, "write", write)
    training.train(**killed, options=training.Options(keep=(0.5,)))
    for folder in ("kept-0.50", "model"):
        assert weights(killed["out"] / folder) == weights(whole["out"] / folder)


def test_a_share_that_was_passed_unkept_is_said(
    tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = make_files(tmp_path, tiny)
    training.train(**files)
    with pytest.raises(ValueError, match=r"at 50%.*not kept. Remedy"):
        training.train(**files, options=training.Options(keep=(0.5,)))


# -- what can be asked


@pytest.mark.parametrize(
    ("block", "complaint"),
    [
        ({"at": [0.333]}, "two decimals"),
        ({"at": [1.5]}, "from 0 to 1"),
        ({"at": [0.5, 0.5]}, "twice"),
        ({"candidates": 6}, "multiple of 4"),
        ({"replay": 8}, "replay"),
    ],
)
def test_a_probe_that_cannot_be_drawn_is_refused(block: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Probe.model_validate(block)


def test_the_shares_are_no_part_of_a_probes_name() -> None:
    one = Probe(at=(1.0, 0.5))
    assert one.at == (0.5, 1.0)
    assert one.kept == (0.5,)
    assert one.id == Probe(at=(0.0,)).id != Probe(candidates=4).id


def test_a_benchmark_without_test_tasks_is_refused() -> None:
    run = RunConfig.model_validate(run_data())
    with pytest.raises(ValueError, match="no test split"):
        Probe(benchmark="math_train").check(run)
