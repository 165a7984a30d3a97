"""A credit method, a team, a benchmark, an advantage and an objective of one file each, put on the
package path: found, tested, trained.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import test_advantage
import test_credit
import test_figure
import test_intervention
import test_objective
import test_play
from conftest import make_files, make_protocol, run_data, sources

from ccpo import advantage, benchmark, credit, intervention, objective, schema, team
from ccpo.config import Experiment, RunConfig, read_protocol, read_run
from ccpo.data import door
from ccpo.evaluate import evaluate
from ccpo.evaluate.analyse import analyse
from ccpo.learn import train as training
from ccpo.publish import draw, figure, report, tables

CREDIT = '''
"""Half the outcome. Source: this test. Departures: none. Cost: none."""

import numpy as np

from ccpo.credit import sibling_groups
from ccpo.team import Team
from ccpo.tree import Plan, Tree

VERSION = 1


def plan(team: Team, fanout: tuple[int, ...], **_: object) -> Plan:
    return Plan(fanout)


def degenerate(compares: str, **_: object) -> str:
    return "it is the shared one, scaled"


def credit(tree: Tree, *, share: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    return np.where(tree.factual, share * tree.reward, 0.0), sibling_groups(tree)
'''
TEAM = '''
"""A Thinker, and a Solver who never works alone. Departures: none."""

from ccpo.team import Team, Turn
from ccpo.team.think_solve import SOLVER, THINKER

VERSION = 1


def team() -> Team:
    turns = (Turn(0, "thinker"), Turn(1, "solver", reads=(0,)))
    return Team(turns=turns, roles={"thinker": THINKER, "solver": SOLVER})
'''
BENCHMARK = '''
"""Counting letters."""

from collections.abc import Mapping
from pathlib import Path

from ccpo.benchmark import BOXED, Demo, Source, Task

VERSION = 1
FORM = BOXED
SOURCES: dict[str, Source] = {}
SPLITS = {"train": 0, "test": 0}
DEFECTS = "None known."
EXAMPLES = [
    ("\\\\boxed{3}", "3", "number", True),
    ("\\\\boxed{4}", "3", "number", False),
    ("three", "3", "number", False),
]


def tasks(split: str, raw: Mapping[str, Path], *, n_train: int = 16, n_test: int = 8) -> list[Task]:
    first = 1 if split == "train" else 100
    last = first + (n_train if split == "train" else n_test)
    return [Task(f"{split}-{n}", "x+" * n, str(n), "number") for n in range(first, last)]


def demos(n: int, *, seed: int = 1, n_train: int = 16, n_test: int = 8) -> list[Demo]:
    answers = [f"\\\\boxed{{{k}}}" for k in range(1, n + 1)]
    return [Demo("x+" * (k + 1), "count", text, text) for k, text in enumerate(answers)]
'''
ADVANTAGE = '''
"""Twice the credit. Source: this test. Remembers, compares with and divides by nothing."""

import numpy as np

from ccpo.advantage import Messages

VERSION = 1
COMPARES = "nothing"


def advantage(messages: Messages, *, times: float = 2.0) -> np.ndarray:
    return np.where(messages.trained, times * messages.credit, 0.0)
'''
OBJECTIVE = '''
"""REINFORCE: no ratio, no clip. Source: this test."""

from __future__ import annotations

from collections.abc import Sequence

from ccpo.objective import Batch

VERSION = 1
KL = "loss"


def loss(batch: Batch, *, weight: float = 1.0):
    gain = (batch.policy_logprobs * batch.advantage[:, None] * weight).where(batch.mask, 0.0)
    return -gain.sum(), (batch.mask & False).sum()


def divisor(lengths: Sequence[int], longest: int) -> int:
    return sum(lengths)
'''
INTERVENTION = '''
"""Who reads hears everything twice."""

from ccpo.intervention import Change, Material, read_agents, turns_of
from ccpo.team import Team

VERSION = 1
LABEL = "message doubled"
CHANGES = "agent"


def agents(team: Team) -> tuple[int, ...]:
    return read_agents(team)


def change(team: Team, agent: int) -> Change:
    return Change(altered=turns_of(team, [agent]))


def alter(material: Material, *, times: int = 2) -> list[str]:
    return [times * message for message in material.messages]
'''
FIGURE = '''
"""Seeds, counted."""

import pandas as pd

from ccpo.publish.figure import Contents
from ccpo.publish.statistics import TrainingStatistics

KIND = "training"
ORDER = 99
CAPTION = "Seeds of each condition."


def applies(contents: Contents) -> bool:
    return contents.trained


def collect(numbers: TrainingStatistics) -> pd.DataFrame:
    conditions = numbers.conditions.items()
    return pd.DataFrame([{"condition": c, "seeds": len(v.seeds)} for c, v in conditions])


def paint(frame: pd.DataFrame, axes, colours) -> None:
    axes.barh(frame.condition, frame.seeds, color=[colours[c] for c in frame.condition])
'''
FILES = (
    (intervention, INTERVENTION),
    (figure, FIGURE),
    (credit, CREDIT),
    (team, TEAM),
    (benchmark, BENCHMARK),
    (advantage, ADVANTAGE),
    (objective, OBJECTIVE),
)


@pytest.fixture
def plugged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Writes the files into a folder of their own and puts it on the packages' paths."""
    name = "plugged_in"
    for package, text in FILES:
        folder = tmp_path / package.__name__
        folder.mkdir()
        (folder / f"{name}.py").write_text(text)
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
    yield name
    for package, _ in FILES:
        sys.modules.pop(f"{package.__name__}.{name}", None)
        if isinstance(getattr(package, name, None), ModuleType):
            delattr(package, name)


def test_one_file_each_is_found_and_held_to_the_contract(plugged: str) -> None:
    for package, _ in FILES:
        assert plugged in package.names()
    test_credit.test_every_method_keeps_the_contract(plugged)
    test_play.test_every_team_keeps_the_contract(plugged)
    test_play.test_every_benchmark_keeps_the_contract(plugged)
    test_advantage.test_every_advantage_keeps_the_contract(plugged)
    test_objective.test_every_objective_keeps_the_contract(plugged)
    test_intervention.test_every_intervention_keeps_the_contract(plugged)
    test_figure.test_every_figure_keeps_the_contract(plugged)


TESTS = {
    credit: test_credit.test_every_method_keeps_the_contract,
    team: test_play.test_every_team_keeps_the_contract,
    benchmark: test_play.test_every_benchmark_keeps_the_contract,
    advantage: test_advantage.test_every_advantage_keeps_the_contract,
    objective: test_objective.test_every_objective_keeps_the_contract,
    intervention: test_intervention.test_every_intervention_keeps_the_contract,
    figure: test_figure.test_every_figure_keeps_the_contract,
}


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Puts a file on a package's path; returns the name that it has there."""
    written: list[str] = []

    def half(package: ModuleType, text: str) -> str:
        (tmp_path / "half_written.py").write_text(text)
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
        written.append(f"{package.__name__}.half_written")
        return "half_written"

    yield half
    for module in written:
        sys.modules.pop(module, None)


HALF_WRITTEN = [
    (
        credit,
        CREDIT,
        "VERSION = 1\n",
        "",
        "credit/half_written.py has no VERSION. Remedy: VERSION = 1",
    ),
    (credit, CREDIT, "Cost: none.", "", "its docstring has no `Cost:`. Remedy: `Cost: <messages"),
    (
        credit,
        CREDIT,
        "def degenerate",
        "def _degenerate",
        "has no degenerate(). Remedy: def degenerate(compares, **params), see "
        "ccpo/credit/__init__.py",
    ),
    (
        credit,
        CREDIT,
        "fanout: tuple[int, ...], **_: object)",
        "fanout: tuple[int, ...])",
        "plan() does not take share, which credit() has. Remedy: **_: object",
    ),
    (
        credit,
        CREDIT,
        "share: float = 0.5",
        "share=0.5",
        "credit()'s parameter share has no type. Remedy: as in `share: float`",
    ),
    (
        credit,
        CREDIT,
        "share: float = 0.5",
        "share: float",
        "credit()'s parameter share has no default. Remedy: as in `share: float = 0.5`",
    ),
    (credit, CREDIT, "Plan(fanout)", "None", "plan() gives None. Remedy: a ccpo.tree.Plan"),
    (
        credit,
        CREDIT,
        "return Plan(fanout)",
        "raise ValueError('not for this team')",
        "plan() refuses every team: ['think_solve: not for this team'",
    ),
    (
        credit,
        CREDIT,
        "np.where(tree.factual, share * tree.reward, 0.0)",
        "share * tree.reward",
        "messages that are not trained (group -1) have a credit. Remedy: 0 there",
    ),
    (
        credit,
        CREDIT,
        "sibling_groups(tree)",
        "np.zeros(len(tree), int)",
        "counterfactual messages are in a group. Remedy: group -1",
    ),
    (
        credit,
        CREDIT,
        'return "it is the shared one, scaled"',
        'return ""',
        'is an image of the shared reward\'s, and degenerate("group") says nothing',
    ),
    (team, TEAM, "def team()", "def make()", "has no team(). Remedy: def team(**params), see"),
    (
        figure,
        FIGURE,
        "ORDER = ",
        "PLACE = ",
        "half_written.py has no ORDER. Remedy: ORDER =",
    ),
    (figure, FIGURE, "def paint", "def draw", "has no paint(). Remedy: def paint(frame, axes, col"),
    (figure, FIGURE, "def collect(numbers", "def collect(stats", "collect(stats) does not take"),
    (team, TEAM, "VERSION = 1\n", "", "team/half_written.py has no VERSION"),
    (
        team,
        TEAM,
        "def team()",
        "def team(agents: int = 2)",
        "team(agents) does not take the arguments of the contract",
    ),
    (
        team,
        TEAM,
        'Turn(1, "solver", reads=(0,))',
        'Turn(2, "solver", reads=(0,))',
        "written by the agents [0, 2]. Remedy",
    ),
    (
        team,
        TEAM,
        'Turn(1, "solver", reads=(0,))',
        'Turn(1, "thinker")',
        "turn 1 gives the team's answer, and its role 'thinker' has none. Remedy: answers=True",
    ),
    (
        team,
        TEAM,
        'Turn(1, "solver", reads=(0,))',
        'Turn(1, "solver")',
        "a turn in role 'solver' reads [], and the prompt shows what is read. Remedy: {read}",
    ),
    (benchmark, BENCHMARK, "SPLITS = {", "PARTS = {", "has no SPLITS. Remedy: SPLITS = {...}, see"),
    (
        benchmark,
        BENCHMARK,
        "demos(n: int, *, seed: int = 1, n_train: int = 16, n_test: int = 8)",
        "demos(n: int)",
        "demos() does not take n_train, n_test, which tasks() has",
    ),
    (
        benchmark,
        BENCHMARK,
        '("three", "3", "number", False)',
        '("three", "3", "number", True)',
        "EXAMPLES say that 'three' against '3' is accepted: True; the verifier says False",
    ),
    (
        benchmark,
        BENCHMARK,
        '    ("three", "3", "number", False),\n',
        "",
        "2 EXAMPLES. Remedy: three or more (completion, truth, kind, accepted)",
    ),
    (
        benchmark,
        BENCHMARK,
        '"count", text, text',
        "text, text, text",
        "gives an answer away. Remedy: stop before the answer",
    ),
    (
        advantage,
        ADVANTAGE,
        'COMPARES = "nothing"\n',
        "",
        "has no COMPARES. Remedy: one of nothing, group, batch, memory, critic",
    ),
    (advantage, ADVANTAGE, "Source: this test. ", "", "its docstring has no `Source:`"),
    (objective, OBJECTIVE, "VERSION = 1\n", "", "has no VERSION. Remedy: VERSION = 1"),
    (
        objective,
        OBJECTIVE,
        "(lengths: Sequence[int], longest: int)",
        "()",
        "divisor() does not take the arguments of the contract. Remedy: def divisor(lengths, "
        "longest)",
    ),
    (intervention, INTERVENTION, 'LABEL = "', 'TITLE = "', "has no LABEL. Remedy: LABEL = "),
    (intervention, INTERVENTION, '"agent"', '"turn"', "CHANGES = 'turn'. Remedy: one of"),
    (intervention, INTERVENTION, "int = 2", "int", "alter()'s parameter times has no default"),
]


@pytest.mark.parametrize(("package", "text", "part", "instead", "complaint"), HALF_WRITTEN)
def test_a_half_written_file_is_told_what_is_missing(
    package: ModuleType,
    text: str,
    part: str,
    instead: str,
    complaint: str,
    write: Callable[[ModuleType, str], str],
) -> None:
    assert part in text
    name = write(package, text.replace(part, instead))
    with pytest.raises(AssertionError, match=re.escape(complaint)):
        TESTS[package](name)


@pytest.mark.parametrize(
    ("block", "package", "text", "part", "instead", "complaint"),
    [
        (
            "credit",
            credit,
            CREDIT,
            ", **_: object) -> Plan",
            ") -> Plan",
            "plan() does not take share, which credit() has. Remedy: **_: object",
        ),
        ("credit", credit, CREDIT, "def degenerate", "def _d", "has no degenerate(). Remedy: def"),
        ("team", team, TEAM, "VERSION = 1\n", "", "has no VERSION. Remedy: VERSION = 1"),
        ("benchmark", benchmark, BENCHMARK, "def tasks", "def _t", "has no tasks(). Remedy: def"),
        ("advantage", advantage, ADVANTAGE, "VERSION = 1\n", "", "has no VERSION. Remedy"),
        ("objective", objective, OBJECTIVE, "def divisor", "def _d", "has no divisor(). Remedy"),
    ],
)
def test_a_half_written_file_is_no_traceback_where_a_run_names_it(
    block: str,
    package: ModuleType,
    text: str,
    part: str,
    instead: str,
    complaint: str,
    write: Callable[[ModuleType, str], str],
) -> None:
    """What reads an experiment turns a ValueError into a line for the user."""
    assert part in text
    name = write(package, text.replace(part, instead))
    with pytest.raises(ValueError, match=re.escape(complaint)):
        RunConfig.model_validate(run_data(**{block: name}))


@pytest.mark.usefixtures("lively")
def test_one_file_each_trains(plugged: str, tmp_path: Path, tiny: Path) -> None:
    files = make_files(
        tmp_path / "run",
        tiny,
        benchmark=plugged,
        team=plugged,
        credit={"name": plugged, "share": 0.25},
        advantage={"name": plugged, "times": 3.0},
        objective={"name": plugged, "weight": 0.5, "entropy": 0.01},
        sampling={"max_tokens": [4, 4]},
    )
    assert read_run(files["config"]).credit.params == {"share": 0.25}
    training.train(**files)
    rows = schema.read_table(files["out"] / "credit.parquet", "credit").to_pylist()
    assert {r["credit"] / r["reward"] for r in rows if r["reward"]} == {0.25}
    assert {r["advantage"] / r["credit"] for r in rows if r["credit"]} == {3.0}


@pytest.mark.usefixtures("lively")
def test_a_benchmark_without_a_test_split_is_learnt_and_others_are_evaluated(
    plugged: str, tmp_path: Path, tiny: Path
) -> None:
    """As math_train is to math500: the table of the one holds no test task, and rollouts and scores
    are those of the other.
    """
    benchmark.load(plugged).SPLITS.pop("test")
    other = {"name": "arithmetic", "operations": 2, "n_train": 8, "n_test": 8}
    files = make_files(
        tmp_path / "run",
        tiny,
        benchmark=plugged,
        train={"steps": 1},
    )
    run = read_run(files["config"])
    path = make_protocol(tmp_path, also=[other])
    door.tasks(read_protocol(path).benchmarks(run)[0], tmp_path / "other.parquet")
    training.train(**files)
    rollouts = tmp_path / "eval" / "a" / "rollouts.parquet"
    scores = tmp_path / "scores.parquet"
    tasks = (tmp_path / "other.parquet",)
    inputs = sources(files, path, tasks=tasks)
    evaluate.rollout(inputs, scratch=files["scratch"], out=rollouts)
    evaluate.score(
        evaluate.Played(files["config"], path, tasks, rollouts),
        scratch=[files["scratch"]],
        out=scores,
        graders=tmp_path / "graders.parquet",
    )
    assert {r["benchmark"] for r in schema.read_table(scores, "scores").to_pylist()} == {
        "arithmetic"
    }
    assert {r["split"] for r in schema.read_table(files["tasks"], "tasks").to_pylist()} == {"train"}


def test_a_benchmark_without_a_train_split_is_evaluated_untrained(
    plugged: str, tmp_path: Path, tiny: Path
) -> None:
    benchmark.load(plugged).SPLITS.pop("train")
    files = make_files(
        tmp_path / "run",
        tiny,
        benchmark=plugged,
        credit="none",
        train={"steps": 0},
    )
    training.train(**files)
    assert (files["out"] / "provenance.json").is_file()


@pytest.mark.usefixtures("lively")
def test_one_file_each_reaches_the_report(plugged: str, tmp_path: Path, tiny: Path) -> None:
    """A run of the plugged team, benchmark, credit, advantage and objective, under the plugged
    intervention, in the plugged figure.
    """
    parts = {
        "benchmark": plugged,
        "team": plugged,
        "credit": plugged,
        "advantage": plugged,
        "objective": plugged,
    }
    files = make_files(tmp_path, tiny, **parts, sampling={"max_tokens": [4, 4]})
    run = read_run(files["config"])
    folder = tmp_path / "runs" / run.id
    files["out"] = folder
    training.train(**files)
    path = make_protocol(tmp_path, tasks=4, interventions=[plugged])
    protocol = read_protocol(path)
    evaluation = folder / "eval" / protocol.id
    rollouts = evaluation / "rollouts.parquet"
    evaluate.rollout(sources(files, path), scratch=files["scratch"], out=rollouts)
    evaluate.score(
        evaluate.Played(files["config"], path, (files["tasks"],), rollouts),
        scratch=[files["scratch"]],
        out=evaluation / "scores.parquet",
        graders=evaluation / "graders.parquet",
    )
    definition = Experiment(
        name="e",
        question="Does it reach the report?",
        primary_metric="accuracy",
        runs={"c": {0: run}},
        protocols=(protocol,),
    )
    experiment = tmp_path / "experiment.json"
    stats = tmp_path / "stats.json"
    table = tmp_path / "main.csv"
    definition.manifest().write(experiment)
    analyse(experiment=experiment, runs=tmp_path / "runs", stats=stats)
    changes = frozenset(protocol.changes(run.build_team()))
    assert changes == {f"{plugged}.0"}
    drawn = figure.of_contents(figure.Contents("training", interventions=changes))
    assert plugged in drawn
    for name in drawn:
        draw.draw(name, stats, tmp_path / f"{name}.svg", tmp_path / f"{name}.csv")
    assert f"c,0,thinker,{plugged}," in (tmp_path / "panel.csv").read_text()
    tables.write(stats, table)
    page = tmp_path / "report.html"
    svgs = [tmp_path / f"{name}.svg" for name in drawn]
    report.write(report.Files(stats, experiment, svgs, table, tmp_path / "runs"), page)
    assert "Seeds of each condition." in page.read_text()
