"""How many answers a protocol draws and how, the papers' protocols, and the single agent that an
experiment gets beside its teams.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, run_data
from pydantic import ValidationError
from test_config import TEAM, experiment

from ccpo.config import (
    Experiment,
    Protocol,
    RunConfig,
    read_experiment,
    read_protocols,
)
from ccpo.config.protocol import Decoding, NoiseBudget
from ccpo.operate.describe import describe

MATH = {
    "benchmark": {"name": "math_train", "subset": "full"},
    "overlap": "drop",
}


def protocol(**over: Any) -> Protocol:
    """A protocol that draws at temperature 1 alone, but for `over`."""
    drawn = {"temperature": 1.0, "samples": over.pop("samples", 1)}
    return Protocol.model_validate(
        {"name": "p", "decodings": {"t1": drawn}, "primary": "t1", "interventions": [], **over}
    )


@pytest.mark.parametrize("tasks", [1, 25, 30, 256, 500, 1319])
@pytest.mark.parametrize("se", [0.5, 0.1, 0.02, 0.01])
def test_a_noise_budget_is_the_fewest_samples_that_keep_it(tasks: int, se: float) -> None:
    """Against a search from one sample on; where equal, by exact arithmetic."""
    k = NoiseBudget(se=se).samples(tasks)
    squared = round(1 / (4 * se**2), 9)  # k n >= 1 / (4 se^2)
    fewest = next(n for n in range(1, 10_000) if n * tasks >= squared)
    assert k == fewest
    assert math.sqrt(0.25 / (tasks * k)) <= se * (1 + 1e-9)


def test_samples_by_benchmark_and_by_budget_are_resolved_and_said() -> None:
    by_name = protocol(
        also=["math500", "aime24"], samples={"aime24": 16, "default": 4}, single_samples=1
    )
    run = RunConfig.model_validate(run_data(**MATH))
    of_each = {
        choice.name: by_name.samples("t1", run, choice.name, by_name.tasks_of(choice))
        for choice in by_name.benchmarks(run)
    }
    assert of_each == {"math500": 4, "aime24": 16}
    assert by_name.most_samples(run) == 16
    budget = protocol(also=["math500", "aime24"], samples={"se": 0.03})
    assert budget.samples("t1", run, "math500", 500) == 1
    assert budget.samples("t1", run, "aime24", 30) == 10  # 0.25 / (30 * 0.0009) = 9.26
    made = Experiment(
        name="e",
        question="How many answers?",
        primary_metric="accuracy",
        runs={"a": {0: run}},
        protocols=(budget,),
    )
    assert any("1 of math500 + 10 of aime24 at temperature 1" in line for line in describe(made))


@pytest.mark.parametrize(
    ("decoding", "complaint"),
    [
        ({"temperature": 0, "samples": 4}, "samples=4 at temperature 0 are all the same"),
        ({"temperature": 0, "samples": {"se": 0.01}}, r"samples=\{se: 0.01\} at temperature 0"),
        ({"temperature": 0, "top_p": 0.8}, "top_p=0.8, top_k=0 at temperature 0 change nothing"),
        (
            {"temperature": 1, "samples": {"math50": 4}},
            "benchmark 'math50'. Did you mean 'math500'",
        ),
        ({"temperature": 1, "samples": 0}, "greater than or equal to 1"),
        ({"temperature": 1, "samples": {"se": 0}}, "greater than 0"),
        ({"temperature": 1, "top_p": 0}, "greater than 0"),
        ({"temperature": 1, "top_k": -1}, "greater than or equal to 0"),
    ],
)
def test_a_decoding_that_means_nothing_is_refused(decoding: Any, complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        Decoding.model_validate(decoding)


def test_samples_that_leave_a_benchmark_out_or_are_too_many_are_refused() -> None:
    run = RunConfig.model_validate(run_data(**MATH))
    with pytest.raises(ValueError, match=r"names neither aime24, .* nor a default"):
        protocol(also=["math500", "aime24"], samples={"math500": 4}).check(run)
    with pytest.raises(ValueError, match="asks for 8334 samples of each task; at most 4096"):
        protocol(also=["aime24"], samples={"se": 0.001}).check(run)


def test_how_answers_are_drawn_is_part_of_a_protocols_name() -> None:
    ids = {
        protocol(samples=1).id,
        protocol(samples=2).id,
        protocol(samples={"se": 0.01}).id,
        protocol(samples={"default": 2}).id,
        protocol(grader="c3").id,
        protocol(single_samples=1).id,
        protocol(decodings={"t1": {"temperature": 1, "top_p": 0.9}}).id,
        protocol(decodings={"t1": {"temperature": 1, "top_k": 9}}).id,
    }
    assert len(ids) == 8


def test_a_single_agent_draws_what_its_majority_needs() -> None:
    """More than the team where any are drawn, one where it answers greedily."""
    both = protocol(
        decodings={"greedy": {"temperature": 0}, "t1": {"temperature": 1, "samples": 2}},
        max_tokens=[9, 7],
    )
    dyad = RunConfig.model_validate(run_data())
    single = RunConfig.model_validate(
        run_data(team="single", credit="shared", policy="shared", train={"fanout": [4]})
    )
    counts = {
        (run.team.name, name): both.samples(name, run, "arithmetic", 8)
        for run in (dyad, single)
        for name in both.decodings
    }
    assert counts == {
        ("think_solve", "greedy"): 1,
        ("think_solve", "t1"): 2,
        ("single", "greedy"): 1,
        ("single", "t1"): 4,
    }
    assert (both.limits(dyad), both.limits(single)) == ((9, 7), (7,))


# -- the papers' protocols


def test_the_papers_protocols_say_what_the_papers_did() -> None:
    known = read_protocols(ROOT / "config")
    run = RunConfig.model_validate(run_data(**MATH))
    c3 = known["c3@paper"]
    n10 = c3.decodings["n10"]
    assert (n10.temperature, n10.top_p, n10.top_k, n10.samples) == (0.7, 0.8, 20, 10)
    assert n10.words == "at temperature 0.7, top-p 0.8, top-k 20"
    assert c3.decodings["greedy"].temperature == 0
    assert (c3.max_tokens, c3.tasks, c3.grader) == ((512,), None, "c3")
    later = known["c3@0.2"]
    drawn = {
        choice.name: later.samples("avg", run, choice.name, later.tasks_of(choice))
        for choice in later.benchmarks(run)
    }
    four = dict.fromkeys(["math500", "minerva_math", "gsm8k", "cmath"], 4)
    assert drawn == {**four, **dict.fromkeys(["amc23", "aime24", "aime25"], 16)}
    assert later.max_tokens == (2048,)
    ccpo = known["ccpo@v5"]
    assert (ccpo.decodings["sampled"].top_p, ccpo.grader) == (0.7, "ccpo")


@pytest.mark.parametrize("name", ["c3@paper", "c3@0.2", "ccpo@v5"])
def test_claims_are_not_made_under_a_papers_protocol(name: str, tmp_path: Path) -> None:
    also = read_protocols(ROOT / "config")[name].also
    assert also
    made = read_experiment("smoke", experiment(tmp_path / "second", evaluate=["small", name]))
    assert isinstance(made, Experiment)
    assert [protocol.name for protocol in made.protocols] == ["small", name]
    assert made.protocols[1].id.startswith(f"{name}-")
    with pytest.raises(ValueError, match=rf"claims cannot be made under protocol {name}: .*first"):
        read_experiment("smoke", experiment(tmp_path / "first", evaluate=name))


@pytest.mark.parametrize("name", ["c3@", "@paper", "c3@pa per", "c3@@paper"])
def test_a_protocols_version_is_a_name(name: str) -> None:
    with pytest.raises(ValidationError, match="fits paths and shells"):
        Protocol.model_validate({"name": name})


# -- the single agent beside teams


def conditions_of(folder: Path) -> dict[str, RunConfig]:
    made = read_experiment("smoke", folder)
    assert isinstance(made, Experiment)
    return {label: next(iter(runs.values())) for label, runs in made.runs.items()}


TEAMS = {
    "shared": {**TEAM, "credit": "shared", "train": {"fanout": [4, 2]}},
    "ccpo": {**TEAM, "credit": "ccpo"},
}
PAIRS = [["ccpo", "shared"]]


def test_teams_that_are_compared_get_a_single_agent(tmp_path: Path) -> None:
    grid = {"condition": TEAMS, "seed": [0, 1]}
    made = conditions_of(experiment(tmp_path, grid=grid, compare=PAIRS))
    assert set(made) == {"shared", "ccpo", "single"}
    single = made["single"]
    assert (single.team.name, single.credit.name, single.policy) == ("single", "shared", "shared")
    assert single.train.fanout == (8,)
    assert single.sampling.max_tokens == made["shared"].sampling.max_tokens[-1:]
    assert single.objective == made["shared"].objective
    assert single.base == made["shared"].base
    assert single.train.tokens == made["shared"].train.tokens
    # every cell of another axis has its own
    grid = {**grid, "shots": [0, 1]}
    pairs = [["ccpo,0", "shared,0"]]
    made = conditions_of(experiment(tmp_path / "axis", grid=grid, compare=pairs))
    assert {"single,0", "single,1"} < set(made)


@pytest.mark.parametrize(
    ("grid", "over"),
    [
        ({}, {"single": False}),
        ({}, {"compare": []}),
        ({"alone": {"team": "single", "credit": "shared", "train": {"fanout": [4]}}}, {}),
        ({"ccpo": {**TEAM, "credit": "ccpo", "model": "tiny"}}, {}),
        ({"ccpo": {**TEAM, "credit": "ccpo", "train": {"fanout": [4, 1], "tokens": 99}}}, {}),
    ],
    ids=["said", "nothing compared", "there already", "other models", "other budgets"],
)
def test_no_single_agent_is_added_where_there_is_one_or_can_be_none(
    grid: dict[str, Any], over: dict[str, Any], tmp_path: Path
) -> None:
    blocks = {**TEAMS, **grid}
    folder = experiment(
        tmp_path, **{"grid": {"condition": blocks, "seed": [0]}, "compare": PAIRS, **over}
    )
    assert set(conditions_of(folder)) == set(blocks)


def test_a_name_that_a_single_agent_would_have_is_refused(tmp_path: Path) -> None:
    blocks = {**TEAMS, "single": {**TEAM, "credit": "magrpo"}}
    grid = {"condition": blocks, "seed": [0]}
    with pytest.raises(ValueError, match=r"condition 'single' is no single agent .* Remedy"):
        read_experiment("smoke", experiment(tmp_path, grid=grid, compare=PAIRS))
    with pytest.raises(ValueError, match="single is true or false, it is 'no'"):
        read_experiment("smoke", experiment(tmp_path / "b", grid=grid, single="no"))


def test_shipped_experiments_that_compare_teams_have_a_single_agent() -> None:
    """Those that have none say why, or their teams have no model in common."""
    without = set()
    for path in sorted((ROOT / "config" / "experiments").glob("*.yaml")):
        made = read_experiment(path.stem, ROOT / "config")
        if isinstance(made, Experiment) and made.compare:
            firsts = [next(iter(runs.values())) for runs in made.runs.values()]
            if not any(len(run.train.fanout) == 1 for run in firsts):
                without.add(path.stem)
    pairs = {"heterogeneous", "heterogeneous_pairs"}
    assert without == {*pairs, "smollm2", "c3_ablations", "c3_fanout"}
