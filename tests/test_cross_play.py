"""Cross-play: teams mixed of conditions say what their agents say, wherever the gain lives is where
it was put, and a killed cross-play goes on as if nothing had happened.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import SPEC, make_protocol, run_data, sources

from ccpo import schema, team
from ccpo.config import Cross, Protocol, RunConfig, WarmStart, canonical, read_run
from ccpo.config.cross import plans
from ccpo.data import door
from ccpo.evaluate import cross_gains, cross_play, evaluate
from ccpo.evaluate.cross_play import joined, narrowed, seatings
from ccpo.learn import train as training
from ccpo.manifest import CrossPlan, CrossPlayer
from ccpo.models import policy, prepare

PROTOCOL = Protocol(name="test", tasks=6)


def configs(**labels: dict[str, Any]) -> dict[str, dict[int, RunConfig]]:
    """Runs of two seeds by label."""
    return {
        label: {s: RunConfig.model_validate(run_data(**over, seed=s)) for s in (0, 1)}
        for label, over in labels.items()
    }


CHAIN: dict[str, Any] = {
    "team": {"name": "chain", "agents": 3},
    "credit": "shared",
    "train": {"fanout": [4, 1, 1]},
}
DYADS = {"a": {"credit": "shared"}, "b": {"credit": "ccpo"}}


# -- what is planned
# ------------------------------------------------------------------------------------------------


def test_conditions_are_crossed_within_a_topology_and_with_their_untrained_team() -> None:
    runs = configs(
        **DYADS,
        chain=CHAIN,
        none={"credit": "none", "train": {"steps": 0}},
        single={"team": "single", "credit": "shared", "policy": "shared", "train": {"fanout": [4]}},
    )
    dyad, chain = plans(Cross(), runs, PROTOCOL)
    assert (dyad.team, list(dyad.players)) == ("think_solve", ["a", "b", "untrained"])
    assert dyad.roles == ("thinker", "solver")
    assert (chain.team, list(chain.players)) == ("chain", ["chain", "untrained"])
    assert dyad.players["b"] == CrossPlayer(trained=True, runs={s: runs["b"][s].id for s in (0, 1)})
    assert not dyad.players["untrained"].trained
    assert (dyad.most, dyad.temperature, dyad.seeds) == (6, 0.0, (0, 1))
    [named] = plans(Cross(conditions=("a", "b"), untrained=False, seeds=(1,)), runs, PROTOCOL)
    assert (list(named.players), named.seeds) == (["a", "b"], (1,))


def test_voters_are_crossed_where_they_do_not_all_say_the_same() -> None:
    vote = {"team": {"name": "vote"}, "credit": "shared", "train": {"fanout": [4, 1, 1]}}
    runs = configs(vote=vote)
    [plan] = plans(Cross(), runs, PROTOCOL)
    assert (plan.decoding, plan.temperature) == ("sampled", 1.0)
    [asked] = plans(Cross(decoding="greedy"), runs, PROTOCOL)
    assert asked.temperature == 0.0


def test_each_base_model_has_an_untrained_team_of_its_own() -> None:
    model = run_data()["model"]
    runs = configs(a=DYADS["a"], b={**DYADS["b"], "model": {**model, "name": "other"}})
    [plan] = plans(Cross(), runs, PROTOCOL)
    assert list(plan.players) == ["a", "b", "untrained,test", "untrained,other"]


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        ({"conditions": ("a", "c")}, "names 'c'"),
        ({"conditions": ("a", "single")}, "has one agent"),
        ({"conditions": ("a",), "untrained": False}, "no two teams have a topology in common"),
        ({"seeds": (0, 7)}, r"names \[7\]"),
        ({"decoding": "hot"}, "'hot' is none of protocol test"),
        ({"conditions": ("a", "a")}, "names one twice"),
        ({"seeds": ()}, "is empty"),
    ],
)
def test_what_cannot_be_crossed_is_refused(asked: dict[str, Any], complaint: str) -> None:
    single = {"team": "single", "credit": "shared", "policy": "shared", "train": {"fanout": [4]}}
    runs = configs(**DYADS, single=single)
    with pytest.raises(ValueError, match=complaint):
        plans(Cross.model_validate(asked), runs, PROTOCOL)


def test_the_plan_does_not_depend_on_what_is_not_played() -> None:
    runs = configs(**DYADS)
    more = Protocol(name="other", tasks=6, interventions=("solo",))
    assert plans(Cross(), runs, PROTOCOL) == plans(Cross(), runs, more)


# -- who is mixed
# ------------------------------------------------------------------------------------------------


def test_pairs_are_all_pairings_and_larger_teams_have_one_other_agent() -> None:
    assert seatings(["a", "b", "c"], 2) == list(itertools.product("abc", repeat=2))
    chosen = seatings(["a", "b", "c"], 3)
    every = set(itertools.product("abc", repeat=3))
    mixed = {s for s in every if sorted(map(s.count, set(s))) in ([3], [1, 2])}
    assert set(chosen) == mixed
    assert len(chosen) == len(mixed) == 3 + 3 * 3 * 2


def test_a_message_depends_on_its_author_and_on_those_it_reads() -> None:
    chain = team.load("chain").team(agents=3)
    vote = team.load("vote").team(agents=3)
    seats = ("a", "b", "c")
    assert [joined(narrowed(chain, t, seats)) for t in range(3)] == ["a|*|*", "a|b|*", "a|b|c"]
    assert [joined(narrowed(vote, t, seats)) for t in range(3)] == ["a|*|*", "*|b|*", "*|*|c"]


# -- where a gain lives
# ------------------------------------------------------------------------------------------------


def made(worth: Mapping[tuple[str, ...], float], n_seeds: int, noise: float) -> Any:
    """A cross-play whose teams are worth what is said, up to noise of each mark."""
    labels = list(dict.fromkeys(label for seats in worth for label in seats))
    agents = len(next(iter(worth)))
    runs = {label: {s: f"{label}{s}" for s in range(n_seeds)} for label in labels}
    plan = CrossPlan(
        id="x",
        team="think_solve",
        roles=("thinker", "solver", "checker")[:agents],
        players={x: CrossPlayer(trained=True, runs=runs[x]) for x in labels},
        benchmark="arithmetic",
        params={},
        trained_on="t",
        tasks="t",
        most=None,
        decoding="greedy",
        temperature=0.0,
        top_p=1.0,
        top_k=0,
        samples=1,
        limits=(6,),
        seed=0,
        stage=1,
    )
    rng = np.random.default_rng(1)
    tables = {
        seed: pd.DataFrame(
            [
                {
                    "task_id": str(t),
                    "sample": 0,
                    "seats": joined(seats),
                    "accuracy": value + noise * rng.standard_normal(),
                }
                for seats, value in worth.items()
                for t in range(20)
            ]
        ).sample(frac=1, random_state=0)
        for seed in range(n_seeds)
    }
    bases = {x: {s: f"base/{s}" for s in range(n_seeds)} for x in labels}
    return plan, tables, bases


def test_the_parts_of_a_gain_are_those_it_was_made_of() -> None:
    """Closed form: the first agent of b adds .05, the second .2, both together .1 more."""
    worth = {("a", "a"): 0.3, ("b", "a"): 0.35, ("a", "b"): 0.5, ("b", "b"): 0.65}
    play = cross_gains.statistics(cross_gains.read(*made(worth, 5, 0.0)))
    [gain] = [row for row in play.gains if (row.a, row.b) == ("a", "b")]
    assert gain.total.mean == pytest.approx(0.35)
    assert [row.mean for row in gain.agents] == pytest.approx([0.05, 0.2])
    assert gain.fit.mean == pytest.approx(0.1)
    [back] = [row for row in play.gains if (row.a, row.b) == ("b", "a")]
    assert [row.mean for row in back.agents] == pytest.approx([-0.15, -0.3])
    assert back.fit.mean == pytest.approx(0.1)
    effects = {(row.label, row.agent): row.mean for row in play.marginals}
    assert effects["b", 0] == pytest.approx((0.35 + 0.65) / 2 - 0.45)
    assert effects["a", 1] == pytest.approx((0.3 + 0.35) / 2 - 0.45)
    assert "+5.0" in gain.sentence
    assert "thinker of b in the company of a" in gain.sentence


def test_parts_add_up_in_every_seed_with_any_number_of_agents() -> None:
    rng = np.random.default_rng(2)
    for agents in (2, 3):
        worth = {seats: float(rng.random()) for seats in seatings(["a", "b", "c"], agents)}
        play = cross_gains.statistics(cross_gains.read(*made(worth, 4, 0.1)))
        assert len(play.gains) == 6
        for gain in play.gains:
            for seed, total in gain.total.by_seed.items():
                parts = [row.by_seed[seed] for row in (*gain.agents, gain.fit)]
                assert sum(parts) == pytest.approx(total)
        for agent in range(agents):
            own = [row.mean for row in play.marginals if row.agent == agent]
            assert sum(own) == pytest.approx(0.0)


def test_the_interval_of_a_part_covers_it() -> None:
    """Noise of marks alone: an interval over five seeds covers the truth in 95 % of 300 draws (four
    standard errors), and differences are paired: shifting a seed as a whole changes nothing.
    """
    worth = {("a", "a"): 0.3, ("b", "a"): 0.35, ("a", "b"): 0.5, ("b", "b"): 0.65}
    plan, _, bases = made(worth, 5, 0.0)
    rng = np.random.default_rng(3)
    inside = 0
    for _ in range(300):
        marks = {
            seats: {s: value + 0.3 * rng.standard_normal((20, 1)) for s in range(5)}
            for seats, value in worth.items()
        }
        of = cross_gains.Crossed(plan, marks, bases)
        fit = cross_gains.gain(of, "a", "b").fit
        assert fit.ci_low is not None
        assert fit.ci_high is not None
        inside += fit.ci_low <= 0.1 <= fit.ci_high
    # item noise is a floor, so that coverage is at least what is said
    assert inside / 300 >= 0.95 - 4 * (0.95 * 0.05 / 300) ** 0.5
    shift = {s: 10.0 * s for s in range(5)}
    moved = {
        seats: {s: v + shift[s] for s, v in of_seed.items()} for seats, of_seed in marks.items()
    }
    assert cross_gains.gain(cross_gains.Crossed(plan, moved, bases), "a", "b").fit.ci_low == (
        pytest.approx(fit.ci_low)
    )


def test_a_team_that_was_not_played_is_named() -> None:
    plan, tables, bases = made({("a", "a"): 0.5, ("b", "b"): 0.5}, 2, 0.0)
    with pytest.raises(ValueError, match=r"seed 0: team a\|b was not played on all tasks"):
        cross_gains.read(plan, tables, bases)


# -- playing it
# ------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """No handler of the project knows it."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Path:
    """Two trained dyads of one seed as the workflow lays them out, and their plans. They start from
    other weights, since so short a training teaches nothing that could tell them apart.
    """
    folder = tmp_path_factory.mktemp("crossed")
    torch.manual_seed(1)
    spec = WarmStart.model_validate(SPEC)
    tokenizer = prepare.tiny_tokenizer(prepare.roles_of(spec.teams))
    policy.save(prepare.tiny_model(spec, tokenizer), tokenizer, folder / "other")
    starts = {"a": tiny, "b": folder / "other"}
    runs = configs(**DYADS)
    for decoding in ("greedy", "sampled"):
        [plan] = plans(Cross(seeds=(0,), decoding=decoding), runs, PROTOCOL)
        plan.write(folder / f"{decoding}.json")
    (folder / "models").mkdir()
    (folder / "models" / runs["a"][0].models[0].slug).symlink_to(tiny)
    door.tasks(runs["a"][0].benchmark, folder / "tasks.parquet")
    for label, of_label in runs.items():
        out = folder / "runs" / of_label[0].id
        schema.write_text(out / "config.json", canonical(of_label[0].model_dump(mode="json")))
        training.train(
            config=out / "config.json",
            tasks=folder / "tasks.parquet",
            model=starts[label],
            scratch=folder / "scratch" / of_label[0].id,
            out=out,
        )
    return folder


def crossing(folder: Path, decoding: str = "greedy") -> cross_play.CrossSources:
    table = folder / "tasks.parquet"
    return cross_play.CrossSources(
        folder / f"{decoding}.json", 0, folder / "runs", folder / "models", table, table
    )


@pytest.mark.parametrize("decoding", ["greedy", "sampled"])
def test_a_team_that_is_not_mixed_says_what_its_evaluation_says(
    trained: Path, tmp_path: Path, decoding: str
) -> None:
    """Against the evaluation of each run, trained and untrained: messages, and then verdicts."""
    of = crossing(trained, decoding)
    cross_play.play(of, scratch=tmp_path / "s", out=tmp_path / "x.parquet")
    rows = schema.read_table(tmp_path / "x.parquet", "rollouts").to_pandas()
    run = of.run("b")
    config = read_run(run / "config.json")
    table = trained / "tasks.parquet"
    files = {"config": run / "config.json", "tasks": table, "out": run}
    untrained = of.models / config.models[0].slug
    protocol = make_protocol(tmp_path, tasks=6)
    inputs = sources({**files, "model": untrained}, protocol)
    out = tmp_path / "run" / "eval" / "p" / "rollouts.parquet"
    evaluate.rollout(inputs, scratch=tmp_path / "t", out=out)
    alone = schema.read_table(out, "rollouts").to_pandas()
    alone = alone[alone.decoding == decoding]
    for label, kind in (("b", "factual"), ("untrained", "untrained")):
        own = alone[alone.intervention == kind]
        for turn, seats in ((0, f"{label}|*"), (1, f"{label}|{label}")):
            mine = rows[rows.intervention == seats].reset_index(drop=True)
            theirs = own[own.turn == turn].reset_index(drop=True)
            columns = ["task_id", "sample", "prompt", "completion", "logprob", "finish_reason"]
            pd.testing.assert_frame_equal(mine[columns], theirs[columns])
    # who answers is asked what the first agent's own partner is asked: it reads that agent
    asked = {seats: own.prompt.tolist() for seats, own in rows.groupby("intervention")}
    assert asked["a|b"] == asked["a|a"]
    assert asked["b|a"] == asked["b|b"]
    if decoding == "sampled":  # greedily all say nothing that is printed
        assert asked["a|b"] != asked["b|b"]
        answers = {seats: own.completion.tolist() for seats, own in rows.groupby("intervention")}
        assert answers["a|b"] != answers["a|a"]
    played = cross_play.CrossPlayed(of.plan, run / "config.json", table, tmp_path / "x.parquet")
    cross_play.score(played, scratch=tmp_path / "s", out=tmp_path / "verdicts.parquet")
    assert not (tmp_path / "s").exists()
    verdicts = schema.read_table(tmp_path / "verdicts.parquet", "cross").to_pandas()
    assert len(verdicts) == 9 * 6
    judged = evaluate.Played(run / "config.json", protocol, (table,), out)
    evaluate.score(
        judged,
        scratch=[tmp_path / "none"],
        out=tmp_path / "scores.parquet",
        graders=tmp_path / "graders.parquet",
    )
    scores = schema.read_table(tmp_path / "scores.parquet", "scores").to_pandas()
    scores = scores[(scores.decoding == decoding) & (scores.intervention == "factual")]
    own = verdicts[verdicts.seats == "b|b"]
    assert own.accuracy.tolist() == scores.accuracy.tolist()
    assert own.answer.replace("-", "").tolist() == scores.answer.tolist()


def test_a_killed_cross_play_goes_on_and_ends_the_same(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tmp_path / "whole.parquet"
    again = tmp_path / "again.parquet"
    cross_play.play(crossing(trained), scratch=tmp_path / "one", out=whole)
    draw = cross_play.rollouts.generate_messages
    drawn: list[int] = []

    def dying(playing: Any, request: Any, *more: Any) -> Any:
        if len(drawn) % 3 == 2:
            drawn.append(-1)
            raise Killed
        drawn.append(request.turn)
        return draw(playing, request, *more)

    monkeypatch.setattr(cross_play.rollouts, "generate_messages", dying)
    for _ in range(5):
        with pytest.raises(Killed):
            cross_play.play(crossing(trained), scratch=tmp_path / "two", out=again)
        assert not again.exists()
    cross_play.play(crossing(trained), scratch=tmp_path / "two", out=again)
    assert [turn for turn in drawn if turn >= 0] == [0] * 3 + [1] * 9  # each once
    assert again.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("tie", ["wrong", "uniform", "first"])
def test_mixed_votes_are_counted_by_value(tie: str, tmp_path: Path) -> None:
    """By brute force: three voters from two conditions, their answers as they are."""
    data = run_data(
        team={"name": "vote", "agents": 3, "tie": tie},
        credit="shared",
        train={"fanout": [4, 1, 1]},
    )
    run = RunConfig.model_validate(data)
    [plan] = plans(Cross(seeds=(0,)), {"a": {0: run}}, PROTOCOL)
    plan.write(tmp_path / "plan.json")
    schema.write_text(tmp_path / "config.json", canonical(run.model_dump(mode="json")))
    door.tasks(run.benchmark, tmp_path / "tasks.parquet")
    tasks = [
        row
        for row in schema.read_table(tmp_path / "tasks.parquet", "tasks").to_pylist()
        if row["split"] == "test"
    ][:2]
    labels = list(plan.players)
    spoken = {
        (0, "a"): ["{t}", "7777"],
        (0, "untrained"): ["8888", "{t}"],
        (1, "a"): ["{t}.0", "7777"],
        (1, "untrained"): ["9999", "{t}"],
        (2, "a"): ["7777", "{t}"],
        (2, "untrained"): ["", "7777.0"],
    }
    rows = [
        {
            "benchmark": "arithmetic",
            "task_id": task["task_id"],
            "decoding": "greedy",
            "sample": 0,
            "turn": turn,
            "agent": turn,
            "fate": "drawn",
            "intervention": joined(tuple(label if a == turn else "*" for a in range(3))),
            "prompt": "",
            "n_prompt_tokens": 1,
            "n_completion_tokens": 1,
            "logprob": 0.0,
            "finish_reason": "stop",
            "completion": rf"\boxed{{{text}}}".replace("{t}", task["truth"]) if text else "",
        }
        for (turn, label), texts in spoken.items()
        for task, text in zip(tasks, texts, strict=True)
    ]
    schema.write_table(tmp_path / "r.parquet", schema.rows_to_table("rollouts", rows))
    played = cross_play.CrossPlayed(
        *(tmp_path / name for name in ("plan.json", "config.json", "tasks.parquet", "r.parquet"))
    )
    cross_play.score(played, scratch=tmp_path / "s", out=tmp_path / "x.parquet")
    table = schema.read_table(tmp_path / "x.parquet", "cross").to_pandas()
    for seats in seatings(labels, 3):
        own = table[table.seats == joined(seats)].accuracy.tolist()
        for i, accuracy in enumerate(own):
            texts = [spoken[turn, label][i].removesuffix(".0") for turn, label in enumerate(seats)]
            counts = {text: texts.count(text) for text in texts if text}
            most = [text for text, n in counts.items() if n == max(counts.values())]
            if tie == "uniform":
                wanted = ("{t}" in most) / len(most)
            elif tie == "first":
                wanted = float(most[0] == "{t}")
            else:
                wanted = float(most == ["{t}"])
            assert accuracy == pytest.approx(wanted), (seats, i)
