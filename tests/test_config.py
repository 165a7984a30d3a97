"""Strictness: every bad input ends in one message that names value, place and remedy, before
anything runs.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, run_data

from ccpo import benchmark
from ccpo.config import (
    Experiment,
    OracleExperiment,
    Protocol,
    RunConfig,
    canonical,
    check_name,
    compared,
    differences,
    fingerprint,
    read_experiment,
    read_models,
    read_run,
    read_yaml,
)
from ccpo.config.grid import labels


def experiment(folder: Path, **over: Any) -> Path:
    """A config folder with the smoke experiment, its blocks replaced by `over` (keys with dots go
    down).
    """
    shutil.copytree(ROOT / "config", folder, dirs_exist_ok=True)
    path = folder / "experiments" / "smoke.yaml"
    raw = read_yaml(path)
    for key, value in over.items():
        at = raw
        *way, last = key.split("__")
        for step in way:
            at = at.setdefault(step, {})
        at[last] = value
    path.write_text(yaml.safe_dump(raw))
    return folder


BAD = {
    "unknown key of a run": ({"base__trian": {}}, "unknown key 'trian'"),
    "unknown key of a block": ({"base__train__stepz": 3}, "unknown key 'train.stepz'"),
    "unknown key of the experiment": ({"qestion": "x"}, "Did you mean 'question'"),
    "misspelt credit": ({"grid__condition__ccpo__credit": "cppo"}, "Did you mean 'ccpo'"),
    "misspelt team": ({"grid__condition__ccpo__team": "think_slove"}, "Did you mean 'think_solve'"),
    "misspelt benchmark": ({"base__benchmark": "arithmetics"}, "Did you mean 'arithmetic'"),
    "unknown parameter of a credit": (
        {"grid__condition__ccpo__credit": {"name": "ccpo", "lambda": 1.0}},
        "no parameter 'lambda'",
    ),
    "ill-typed parameter": (
        {"grid__condition__ccpo__credit": {"name": "ccpo", "lam": "big"}},
        "lam='big'",
    ),
    "impossible combination: vote credit": (
        {"grid__condition__ccpo__credit": "ccpo_vote"},
        "needs a team that votes",
    ),
    "impossible combination: votes that share a message": (
        {"grid__condition__vote_ccpo__train": {"fanout": [2, 2, 1]}},
        "needs flat episodes",
    ),
    "impossible combination: no siblings": (
        {"grid__condition__ccpo__credit": "c3"},
        "gives the messages of turn 1 none",
    ),
    "a z-score's parameter without one": (
        {"base__advantage": {"name": "group_mean", "ddof": 1}},
        "advantage group_mean has no parameter 'ddof'",
    ),
    "a critic that nobody asks": ({"base__critic": {"lr": 0.001}}, "neither credit"),
    "a method without its critic": ({"grid__condition__ccpo__credit": "mappo"}, "needs a critic"),
    "two uses of one critic": (
        {
            "grid__condition__ccpo": {
                "team": "think_solve",
                "credit": "mappo",
                "advantage": "gae",
                "train": {"fanout": [4, 1]},
            }
        },
        "has its own use for the critic",
    ),
    "training without credit": (
        {"grid__condition__single__credit": "none"},
        "Set train.steps to 0",
    ),
    "misspelt preset": ({"grid__condition__ccpo__preset": "ccpo@v6"}, "Did you mean 'ccpo@v"),
    "impossible combination: ccpo of one agent": (
        {"grid__condition__single__credit": "ccpo"},
        "two agents",
    ),
    "separate policies of one agent": (
        {"grid__condition__single__policy": "separate"},
        "Use policy shared",
    ),
    "fan-out of another team": (
        {"grid__condition__single__train": {"fanout": [4, 1]}},
        "has 1 turns",
    ),
    "a group of one": ({"grid__condition__single__train": {"fanout": [1]}}, "one episode a task"),
    "truncated sampling": (
        {"base__sampling": {"max_tokens": [16, 16], "top_p": 0.8}},
        "truncated sampling biases",
    ),
    "an engine nobody has": (
        {"base__sampling__engine": "sglang"},
        "sampling.engine: Input should be 'hf' or 'vllm'",
    ),
    "a model too narrow for vllm": (
        {"base__sampling__engine": "vllm"},
        "Use engine hf, or a model with heads 1",
    ),
    "missing model": ({"base__model": "tinny"}, "Did you mean 'tiny'"),
    "a missing model among several": ({"base__model": ["smoke", "smok"]}, "Did you mean 'smoke'"),
    "several models of one policy": (
        {"base__model": ["smoke", "tiny"], "base__policy": "shared"},
        "Use policy separate",
    ),
    "adapters of several models": (
        {
            "grid__condition__ccpo": {
                "model": ["smoke", "tiny"],
                "policy": "lora",
                "team": "think_solve",
                "credit": "ccpo",
                "train": {"fanout": [4, 1]},
            }
        },
        "cannot have policy lora",
    ),
    "comparison of what is not there": ({"compare": [["ccpo", "sharde"]]}, "Did you mean 'shared'"),
    "a learning rate written as text": ({"base__train__lr": "1e-4x"}, "train.lr"),
    "learning rate zero": ({"base__train__lr": 0}, "greater than 0"),
    "no seeds": ({"grid__seed": []}, "grid.seed must be a list that is not empty"),
    "a seed twice": ({"grid__seed": [1, 1]}, "names 1 twice"),
    "greedy samples": (
        {"evaluate": {"name": "a", "decodings": {"g": {"temperature": 0, "samples": 4}}}},
        "all the same",
    ),
    "no greedy answers": (
        {"evaluate": {"name": "a", "decodings": {"t1": {"temperature": 1}}, "primary": "t1"}},
        "temperatures [1.0]",
    ),
    "a primary decoding that is none": (
        {"evaluate": {"name": "a", "tasks": 16, "primary": "gredy"}},
        "Did you mean 'greedy'?",
    ),
    "an evaluation in a run": (
        {"base__evaluate": {"tasks": 16}},
        "evaluate is no key of a run: how it is evaluated is no part of its training. Remedy: move "
        "it to the top",
    ),
    "no evaluation": ({"evaluate": None}, "evaluate is missing. It names protocols of"),
    "no protocol at all": ({"evaluate": []}, "evaluate is missing"),
    "a misspelt protocol": ({"evaluate": "temperature"}, "Did you mean 'temperatures'?"),
    "a protocol twice": ({"evaluate": ["small", "small"]}, "names protocol 'small' twice"),
    "a protocol and one named as it": (
        {"evaluate": ["small", {"name": "Small"}]},
        "'small' and 'Small' differ in upper and lower case alone",
    ),
    "a protocol without a name": ({"evaluate": {"tasks": 16}}, "a block with a name of its own"),
    "a protocol's name": ({"evaluate": {"name": "a/b"}}, "no name that fits paths"),
    "an unknown key of a protocol": ({"evaluate": {"name": "a", "task": 3}}, "unknown key 'task'"),
    "an unknown intervention": (
        {"evaluate": {"name": "a", "interventions": ["sol"]}},
        "Did you mean 'solo'?",
    ),
    "an intervention twice": (
        {"evaluate": {"name": "a", "interventions": ["solo", "solo"]}},
        "name one twice",
    ),
    "an intervention of no such parameter": (
        {"evaluate": {"name": "a", "interventions": [{"name": "blank", "share": 0.5}]}},
        "intervention blank has no parameter 'share'",
    ),
    "a share that is none": (
        {"evaluate": {"name": "a", "interventions": [{"name": "truncate", "share": 1.5}]}},
        "truncate: share=1.5 is not between 0 and 1",
    ),
    "interventions that are no list": (
        {"evaluate": {"name": "a", "interventions": "solo"}},
        "interventions must be a list",
    ),
    "an intervention that changes nothing": (
        {"evaluate": {"name": "a", "interventions": ["factual"]}},
        "changes nothing and is always played",
    ),
    "further benchmarks that are no list": (
        {"evaluate": {"name": "a", "also": "gsm8k"}},
        "also must be a list of benchmarks",
    ),
    "a benchmark twice": (
        {"evaluate": {"name": "a", "also": [{"name": "arithmetic", "operations": 1}]}},
        "cannot be told apart",
    ),
    "a decoding's name": (
        {"evaluate": {"name": "a", "tasks": 16, "decodings": {"a b": {"temperature": 0}}}},
        "pattern",
    ),
}


@pytest.mark.parametrize("case", sorted(BAD))
def test_bad_experiments_say_what_is_wrong(case: str, tmp_path: Path) -> None:
    over, message = BAD[case]
    folder = experiment(tmp_path / "config", **over)
    with pytest.raises(ValueError, match=r"smoke\.yaml") as error:
        read_experiment("smoke", folder)
    assert message in str(error.value)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "config" / "experiments").glob("*.yaml")), ids=lambda p: p.stem
)
def test_every_shipped_experiment_is_valid(path: Path) -> None:
    study = read_experiment(path.stem, ROOT / "config")
    if isinstance(study, OracleExperiment):
        return
    ids = [run.id for runs in study.runs.values() for run in runs.values()]
    assert len(set(ids)) == len(ids) > 0
    for runs in study.runs.values():
        for run in runs.values():
            assert (
                RunConfig.model_validate(json.loads(canonical(run.model_dump(mode="json")))).id
                == run.id
            )


def test_identity_is_the_content() -> None:
    run = RunConfig.model_validate(run_data())
    assert RunConfig.model_validate(run_data(train={"lr": 0.001})).id == run.id
    # a default said aloud
    assert RunConfig.model_validate(run_data(credit={"name": "ccpo", "lam": 0.2})).id == run.id
    assert RunConfig.model_validate(run_data(credit={"name": "ccpo", "lam": 0.3})).id != run.id
    assert RunConfig.model_validate(run_data(seed=1)).id.split(".s")[0] == run.id.split(".s")[0]
    with pytest.raises(TypeError):
        fingerprint({"f": print})
    with pytest.raises(ValueError, match="not JSON compliant"):
        fingerprint({"x": float("nan")})


def test_merging_keeps_the_base_and_replaces_choices_whole(tmp_path: Path) -> None:
    folder = experiment(
        tmp_path / "config",
        base__credit={"name": "ccpo", "lam": 0.7},
        grid__condition={
            "a": {"team": "think_solve", "train": {"fanout": [4, 1]}},
            "b": {"team": "think_solve", "credit": "shared", "train": {"fanout": [2, 1]}},
        },
    )
    (folder / "experiments" / "smoke.yaml").write_text(
        (folder / "experiments" / "smoke.yaml")
        .read_text()
        .replace("- - ccpo\n  - shared", "- - a\n  - b")
    )
    study = read_experiment("smoke", folder)
    assert study.runs["a"][0].credit.params["lam"] == 0.7
    assert study.runs["b"][0].credit.params == {}
    assert study.runs["b"][0].train.lr == study.runs["a"][0].train.lr


def test_models_of_agents_are_an_axis_like_any_other(tmp_path: Path) -> None:
    folder = experiment(
        tmp_path / "config",
        grid__condition={
            "": {
                "team": "think_solve",
                "credit": "shared",
                "policy": "separate",
                "train": {"fanout": [4, 1]},
            }
        },
        grid__model=["smoke", ["smoke", "tiny"], ["tiny", "smoke"]],
        compare=[["smoke+tiny", "tiny+smoke"]],
    )
    study = read_experiment("smoke", folder)
    assert list(study.runs) == ["smoke", "smoke+tiny", "tiny+smoke"]
    names = {label: [m.name for m in runs[0].models] for label, runs in study.runs.items()}
    assert names == {
        "smoke": ["smoke"],
        "smoke+tiny": ["smoke", "tiny"],
        "tiny+smoke": ["tiny", "smoke"],
    }
    assert study.runs["tiny+smoke"][1].id.startswith("arithmetic.think_solve.shared.tiny+smoke.s1-")


def test_models_are_pinned(tmp_path: Path) -> None:
    folder = tmp_path / "config"
    folder.mkdir()
    (folder / "models.yaml").write_text("x: {source: hub, id: a/b, revision: main}\n")
    with pytest.raises(ValueError, match="revision"):
        read_models(folder)


def test_a_damaged_run_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        read_run(tmp_path / "no.json")
    (tmp_path / "cut.json").write_text('{"seed": ')
    with pytest.raises(ValueError, match="not JSON"):
        read_run(tmp_path / "cut.json")


def test_importing_the_config_loads_nothing_heavy() -> None:
    code = (
        "import sys, ccpo.config; print([m for m in "
        "('torch','transformers','mlflow','matplotlib','pandas','pyarrow') if m in "
        "sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.strip() == "[]"
    heavy = subprocess.run(
        [sys.executable, "-c", code.replace("ccpo.config", "ccpo.config, torch")],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert "torch" in heavy.stdout  # the check can fail


SPLITS = {
    "training without a train split": (
        {"test": 9},
        {},
        r"benchmark mbpp has no train split, train\.steps is 2\. Set train\.steps to 0, or",
    ),
    "nothing to evaluate": (
        {"train": 9},
        {},
        r"mbpp has no test split, and `also` of protocol smoke names no other\..* some of: ",
    ),
    "a further benchmark without a test split": (
        {"train": 9},
        {"base__benchmark": "arithmetic", "evaluate__also": ["mbpp"]},
        r"also names mbpp, which has no test split",
    ),
}


@pytest.mark.parametrize("case", sorted(SPLITS))
def test_a_split_that_is_not_there_is_found_before_launch(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits, over, message = SPLITS[case]
    monkeypatch.setattr(benchmark.load("mbpp"), "SPLITS", splits)
    with pytest.raises(ValueError, match=message):
        read_experiment(
            "smoke", experiment(tmp_path / "config", **{"base__benchmark": "mbpp", **over})
        )


def test_a_benchmark_may_lack_the_split_that_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    gsm8k = benchmark.load("gsm8k")
    monkeypatch.setattr(gsm8k, "SPLITS", {"train": 9, "validation": 2})

    def evaluated(run: RunConfig, *also: str) -> list[str]:
        protocol = Protocol.model_validate({"name": "a", "also": also})
        protocol.check(run)
        return [choice.name for choice in protocol.benchmarks(run)]

    learnt = RunConfig.model_validate(run_data(benchmark="gsm8k"))
    assert evaluated(learnt, "arithmetic") == ["arithmetic"]
    monkeypatch.setattr(gsm8k, "SPLITS", {"test": 9})
    both = evaluated(RunConfig.model_validate(run_data()), "gsm8k")
    assert both == ["arithmetic", "gsm8k"]
    untrained = RunConfig.model_validate(
        run_data(benchmark="gsm8k", credit="none", train={"steps": 0})
    )
    assert evaluated(untrained) == ["gsm8k"]


PRESETS = sorted(read_yaml(ROOT / "config" / "presets.yaml"))


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_valid_condition(name: str, tmp_path: Path) -> None:
    """Each alone gives a run; a key of the condition wins over the preset, and the preset over the
    base.
    """
    folder = experiment(
        tmp_path / "config",
        grid={
            "condition": {
                "published": {"preset": name},
                "mine": {"preset": name, "objective": "dapo"},
            },
            "seed": [0],
        },
        compare=[],
    )
    found = read_experiment("smoke", folder)
    run, mine = (found.runs[label][0] for label in ("published", "mine"))
    raw = read_yaml(ROOT / "config" / "presets.yaml")[name]
    for kind in ("objective", "credit"):
        named = raw[kind] if isinstance(raw[kind], str) else raw[kind]["name"]
        assert getattr(run, kind).name == named
    assert list(run.train.fanout) == raw["train"]["fanout"]
    assert mine.objective.name == "dapo"
    assert run.train.lr == 1e-4  # of the base
    assert found.manifest().condition("published").preset == name


def conditions(folder: Path, grid: dict[str, Any], **over: Any) -> dict[str, RunConfig]:
    """The smoke experiment's conditions under another grid, each by its first seed's run."""
    study = read_experiment("smoke", experiment(folder, grid=grid, compare=[], **over))
    assert isinstance(study, Experiment)
    return {label: next(iter(runs.values())) for label, runs in study.runs.items()}


def test_a_preset_is_its_content(tmp_path: Path) -> None:
    """The same settings typed by hand are the same run, and as a second condition are refused; the
    two presets that a z-score makes equal are still two.
    """
    typed = {
        "team": "reasoner_actor",
        "credit": "magrpo",
        "advantage": {"name": "group_z", "eps_inside": True},
        "policy": "separate",
        "objective": "grpo",
        "sampling": {"temperature": 0.7},
        "train": {"fanout": [8, 1], "order": "simultaneous"},
    }
    preset = {"preset": "magrpo@c3"}
    grid = {"condition": {"a": preset}, "seed": [0]}
    one = conditions(tmp_path / "a", grid)["a"]
    grid = {"condition": {"b": typed}, "seed": [0]}
    assert one.id == conditions(tmp_path / "b", grid)["b"].id
    grid = {"condition": {"a": preset, "b": typed}, "seed": [0]}
    with pytest.raises(ValueError, match="conditions 'a' and 'b' are one and the same run"):
        conditions(tmp_path / "c", grid)
    loo = {"condition": {"a": {"preset": "c3@paper"}, "b": {"preset": "c3@no-loo"}}, "seed": [0]}
    assert len({run.id for run in conditions(tmp_path / "d", loo).values()}) == 2


DYAD = {"team": "think_solve", "credit": "shared", "train": {"fanout": [4, 1]}}
AXES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "blocks": (
        {"train": [{"lr": "1e-4"}, {"lr": "1e-3"}]},
        ["d,lr=1e-4", "d,lr=1e-3"],
    ),
    "blocks that share a setting": (
        {"train": [{"lr": 1e-4, "tasks": 2}, {"lr": 1e-3, "tasks": 2}]},
        ["d,lr=0.0001", "d,lr=0.001"],
    ),
    "a block that sets less": (
        {"train": [{}, {"lr": 1e-3}]},
        ["d", "d,lr=0.001"],
    ),
    "choices of one name": (
        {"credit": ["shared", {"name": "ccpo", "lam": 0.1}, {"name": "ccpo", "lam": 0.25}]},
        ["d,shared", "d,ccpo,lam=0.1", "d,ccpo,lam=0.25"],
    ),
    "lists in blocks": (
        {"sampling": [{"max_tokens": [8, 8]}, {"max_tokens": [8, 16]}]},
        ["d,max_tokens=8+8", "d,max_tokens=8+16"],
    ),
    "floats that print alike when cut short": (
        {"train": [{"lr": 0.1}, {"lr": 0.1 + 2**-55}]},
        ["d,lr=0.1", "d,lr=0.10000000000000003"],
    ),
    "two axes": (
        {"shots": [0, 1], "train": [{"lr": 1e-3}, {"lr": 1e-4}]},
        ["d,0,lr=0.001", "d,0,lr=0.0001", "d,1,lr=0.001", "d,1,lr=0.0001"],
    ),
}


@pytest.mark.parametrize("case", sorted(AXES))
def test_labels_say_what_differs_and_none_is_lost(case: str, tmp_path: Path) -> None:
    axes, labels = AXES[case]
    found = conditions(tmp_path / "config", {"condition": {"d": DYAD}, **axes, "seed": [0]})
    assert list(found) == labels
    assert len({run.id for run in found.values()}) == len(labels)


NESTED: dict[str, tuple[list[object], list[str]]] = {
    "lists of blocks": (
        [{"also": [{"name": "a", "n": 5}]}, {"also": [{"name": "a", "n": 6}]}],
        ["also.0.n=5", "also.0.n=6"],
    ),
    "blocks in blocks": (
        [{"at": {"low": {"heat": 0.2}}}, {"at": {"low": {"heat": 0.3}}}],
        ["at.low.heat=0.2", "at.low.heat=0.3"],
    ),
    "lists in lists": ([[["a", "b"], "c"], [["a"], "c"]], ["0=a+b", "0=a"]),
    "choices in blocks": (
        [{"x": {"name": "a"}}, {"x": {"name": "b", "n": 1}}, {"x": "b"}],
        ["x=a", "x=b,x.n=1", "x=b"],
    ),
    "nothing and truth": ([None, True, 0, "a"], ["none", "true", "0", "a"]),
}


ALONE = {"team": "single", "credit": "shared", "train": {"fanout": [8]}}
REPEATED = {"condition": {"a": ALONE, "b": {"repeat_of": "a"}}, "seed": [0, 1]}


def test_a_repeat_is_its_condition_under_other_seeds(tmp_path: Path) -> None:
    """Equal configs are one run; a repeat trains anew, from the same base models, and is no run of
    another repeat; more seeds leave its runs as they are.
    """
    grid = {**REPEATED, "train": [{"lr": 0.001}, {"lr": 0.01}]}
    grid["condition"] = {**REPEATED["condition"], "c": {"repeat_of": "a"}}
    study = read_experiment("smoke", experiment(tmp_path, grid=grid, compare=[]))
    assert isinstance(study, Experiment)
    assert study.repeats == {f"{x},lr={lr}": f"a,lr={lr}" for x in "bc" for lr in (0.001, 0.01)}
    ids = [run.id for runs in study.runs.values() for run in runs.values()]
    assert len(set(ids)) == len(ids) == 12
    planned = study.manifest()
    for label, repeated in study.repeats.items():
        own = planned.condition(label)
        assert own.repeats == repeated
        assert list(own.pairs.values()) == [0, 1]
        for seed, other in own.pairs.items():
            run, original = study.runs[label][seed], study.runs[repeated][other]
            assert run.model_copy(update={"seed": other}) == original
            assert run.seed == seed != other
    assert planned.condition("a,lr=0.001").pairs == {}
    more = read_experiment(
        "smoke", experiment(tmp_path, grid={**grid, "seed": [0, 1, 2, 7000]}, compare=[])
    )
    again = {run.id for runs in more.runs.values() for run in runs.values()}  # type: ignore[union-attr]
    assert len(again) == 24
    fewer = {run.id for label in study.runs for run in study.runs[label].values()}
    close = read_experiment(
        "smoke", experiment(tmp_path, grid={**grid, "seed": [0, 1, 2]}, compare=[])
    )
    assert fewer <= {run.id for runs in close.runs.values() for run in runs.values()}  # type: ignore[union-attr]


def test_a_repeat_starts_from_the_base_models_of_what_it_repeats(tmp_path: Path) -> None:
    models = read_yaml(ROOT / "config" / "models.yaml")
    several = next(
        name
        for name, spec in models.items()
        if isinstance(spec, dict) and spec.get("replicas", 1) > 1
    )
    study = read_experiment(
        "smoke", experiment(tmp_path, grid=REPEATED, base__model=several, compare=[])
    )
    planned = study.manifest()
    own = planned.condition("b")  # type: ignore[union-attr]
    original = planned.condition("a")  # type: ignore[union-attr]
    assert len(set(original.bases.values())) > 1
    assert [own.bases[s] for s in own.pairs] == [original.bases[s] for s in own.pairs.values()]


@pytest.mark.parametrize(
    ("blocks", "compare", "complaint"),
    [
        ({"b": {"repeat_of": "x"}}, [], "repeat_of names 'x'"),
        ({"b": {"repeat_of": "b"}}, [], "repeat_of names 'b'"),
        ({"b": {"repeat_of": ["a"]}}, [], r"repeat_of names \['a'\]"),
        ({"b": {"repeat_of": "a", "policy": "shared"}}, [], "stands beside policy. .* Remedy"),
        (
            {"b": {"repeat_of": "a"}, "c": {"repeat_of": "b"}},
            [],
            "'b', which is a repeat itself. Remedy: name 'a'",
        ),
        ({"b": {"repeat_of": "a"}}, [["a", "b"]], "compare names 'b', which repeats 'a' .* Remedy"),
    ],
)
def test_a_repeat_of_nothing_or_with_more_is_refused(
    blocks: dict[str, Any], compare: list[list[str]], complaint: str, tmp_path: Path
) -> None:
    grid = {"condition": {"a": ALONE, **blocks}, "seed": [0]}
    with pytest.raises(ValueError, match=complaint):
        read_experiment("smoke", experiment(tmp_path, grid=grid, compare=compare))


@pytest.mark.parametrize("case", sorted(NESTED))
def test_labels_of_nested_values(case: str) -> None:
    values, wanted = NESTED[case]
    assert labels(values) == wanted


LOST: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "a value twice": (
        {"d": DYAD},
        {"train": [{"lr": 0.1}, {"lr": 0.1}]},
        r"two conditions have the label 'd': condition 'd', grid\.train \{'lr': 0\.1\}; and",
    ),
    "a number written in two ways": (
        {"d": DYAD},
        {"train": [{"lr": "1e-4"}, {"lr": 0.0001}]},
        "conditions 'd,lr=1e-4' and 'd,lr=0.0001' are one and the same run",
    ),
    "a default said aloud": (
        {"d": DYAD},
        {"credit": ["ccpo", {"name": "ccpo", "lam": 0.2}]},
        "conditions 'd,ccpo' and 'd,ccpo,lam=0.2' are one and the same run",
    ),
    "a list and a text": (
        {"d": DYAD | {"policy": "separate"}},
        {"model": ["smoke+tiny", ["smoke", "tiny"]]},
        "two conditions have the label 'd,smoke.tiny'",
    ),
    "two conditions of equal blocks": (
        {"d": DYAD, "e": DYAD},
        {},
        "conditions 'd' and 'e' are one and the same run",
    ),
    "a value that fits no path": (
        {"d": DYAD},
        {"overlap": ["stop", {"accept": "it is a toy"}]},
        "condition label 'd,accept=it is a toy', made of the values of the grid's axes",
    ),
}


@pytest.mark.parametrize("case", sorted(LOST))
def test_conditions_that_would_be_one_are_refused(case: str, tmp_path: Path) -> None:
    blocks, axes, message = LOST[case]
    with pytest.raises(ValueError, match=message):
        conditions(tmp_path / "config", {"condition": blocks, **axes, "seed": [0]})


SEVERAL = {
    "a list of benchmarks": {"base__benchmark": ["arithmetic", "gsm8k"]},
    "shares of benchmarks": {"base__benchmark": {"arithmetic": 0.5, "gsm8k": 0.5}},
    "a list under a name": {"base__benchmark": {"name": ["arithmetic", "gsm8k"]}},
    "a list in a condition": {"grid__condition__ccpo__benchmark": ["arithmetic", "gsm8k"]},
    "a list in an axis": {"grid__benchmark": [["arithmetic", "gsm8k"]]},
    "nothing": {"base__benchmark": None},
}


@pytest.mark.parametrize("case", sorted(SEVERAL))
def test_several_training_benchmarks_are_refused_in_words(case: str, tmp_path: Path) -> None:
    folder = experiment(tmp_path / "config", **SEVERAL[case])
    with pytest.raises(
        ValueError, match=r"smoke\.yaml, condition \S+: .*benchmark must be"
    ) as error:
        read_experiment("smoke", folder)
    assert "others to evaluate on stand in a protocol's `also`" in str(error.value)


FORMS = {
    "a condition that is a word": ({"grid__condition__ccpo": "shared"}, "must be a mapping"),
    "conditions in a list": ({"grid__condition": [DYAD]}, r"grid\.condition must be a mapping"),
    "a grid that is a list": ({"grid": [0]}, "grid must be a mapping"),
    "a base that is a list": ({"base": ["smoke"]}, "base must be a mapping"),
    "a comparison that is a word": ({"compare": ["ccpo"]}, "compare must be a list of pairs"),
    "a comparison with itself": ({"compare": [["ccpo", "ccpo"]]}, "'ccpo' against itself"),
    "a list of teams": ({"grid__condition__ccpo__team": ["vote"]}, "team must be a single file"),
}


@pytest.mark.parametrize("case", sorted(FORMS))
def test_a_block_of_the_wrong_form_is_named(case: str, tmp_path: Path) -> None:
    over, message = FORMS[case]
    with pytest.raises(ValueError, match=message):
        read_experiment("smoke", experiment(tmp_path / "config", **over))


TWICE = {
    "at the top": ("a: 1\nb: 2\na: 1\n", "line 3: the key 'a' is written twice, in line 1 too"),
    "in a block": ("x:\n  a: 1\n  b: 2\n  a: 3\n", "line 4: the key 'a'"),
    "in a flow": ("x: {a: 1, a: 2}\n", "line 1: the key 'a'"),
    "in a list": ("x:\n- a: 1\n  'a': 2\n", "line 3: the key 'a'"),
    "in an anchor": ("x: &x {a: 1,\n  a: 2}\ny: *x\n", "line 2: the key 'a'"),
    "a merge twice": ("x: &x {a: 1}\ny:\n  <<: *x\n  <<: *x\n", "line 4: the key '<<'"),
    "a key that is read as false": ("no: 1\n", "line 1: the key no is read as False"),
    "a key that is read as a number": ("x: {1_0: 1}\n", "the key 1_0 is read as 10"),
    "a key that is a list": ("? [a, b]\n: 1\n", "line 1: the key"),
    "itself": ("x: &x {y: *x}\n", "line 1: a block contains itself"),
}


@pytest.mark.parametrize("case", sorted(TWICE))
def test_a_key_written_twice_is_refused_with_its_line(case: str, tmp_path: Path) -> None:
    text, message = TWICE[case]
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"x\.yaml") as error:
        read_yaml(path)
    assert message in str(error.value)


def test_what_a_mapping_overrides_of_what_it_merges_is_no_second_writing(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("x: &x {a: 1, b: 2}\ny: &y {<<: *x, a: 3}\nz: {<<: *y, a: 4}\nw: [*y, *y]\n")
    found = read_yaml(path)
    assert found["y"] == {"a": 3, "b": 2}
    assert found["z"] == {"a": 4, "b": 2}


@pytest.mark.parametrize("name", ["models.yaml", "presets.yaml", "experiments/smoke.yaml"])
def test_every_file_that_people_write_is_read_so(name: str, tmp_path: Path) -> None:
    folder = experiment(tmp_path / "config")
    path = folder / name
    path.write_text(path.read_text() + "\nlast: {a: 1, a: 2}\n")
    line = path.read_text().count("\n")
    with pytest.raises(
        ValueError, match=rf"{Path(name).name}, line {line}: the key 'a' is written"
    ):
        read_experiment("smoke", folder)


def test_a_key_written_twice_in_json_is_refused_with_its_lines(tmp_path: Path) -> None:
    folder = experiment(tmp_path / "config")
    pins = folder / "base_models" / "pins.json"
    pins.write_text('{"smoke": {"0": {}},\n "tiny": {},\n "smoke": {}}')
    with pytest.raises(
        ValueError, match=r"pins\.json: the key 'smoke' is written twice .* lines 1, 3"
    ):
        read_models(folder)
    run = tmp_path / "config.json"
    run.write_text('{"seed": 0, "seed": 1}')
    with pytest.raises(ValueError, match=r"config\.json: the key 'seed' is written twice"):
        read_run(run)


NAMES = {
    "Qwen/smoke": "'/'",
    "my smoke": "' '",
    "a;touch x": "';'",
    "$(id)": "'$'",
    "smоke": "CYRILLIC SMALL LETTER O",
    "größe": "LATIN SMALL LETTER O WITH DIAERESIS",
    ".hidden": "begins with '.'",
    "..": "begins with '.'",
    "-n": "begins with '-'",
    "a.": "ends with '.'",
    "": "is empty",
    "a\n": r"'\n'",
    "x" * 65: "at most 64",
}


@pytest.mark.parametrize("name", sorted(NAMES))
def test_names_fit_paths_and_shells(name: str, tmp_path: Path) -> None:
    """Of models, experiments, conditions; what is proposed instead is a name that fits."""
    folder = experiment(
        tmp_path / "config", grid={"condition": {"d": DYAD}, "seed": [0]}, compare=[]
    )
    with pytest.raises(ValueError, match="experiment") as error:
        read_experiment(name, folder)
    assert NAMES[name] in str(error.value)
    if proposed := re.search("name it as '(.*)'", str(error.value)):
        check_name("experiment", proposed[1])
    grid = {"condition": {"d": DYAD, name: {**DYAD, "shots": 1}}, "seed": [0]}
    with pytest.raises(ValueError, match="condition") as error:
        conditions(tmp_path / "other", grid)
    assert NAMES[name] in str(error.value)
    models = folder / "models.yaml"
    raw = read_yaml(models)
    models.write_text(yaml.safe_dump({**raw, name: raw["smoke"]}))
    with pytest.raises(ValueError, match=r"models\.yaml: ") as error:
        read_models(folder)
    assert NAMES[name] in str(error.value)


def test_names_that_some_file_systems_hold_for_one_are_refused(tmp_path: Path) -> None:
    grid = {"condition": {"d": DYAD, "D": {**DYAD, "shots": 1}}, "seed": [0]}
    with pytest.raises(ValueError, match="'D' and 'd' differ in upper and lower case alone"):
        conditions(tmp_path / "config", grid)
    folder = experiment(tmp_path / "other")
    shutil.copy(folder / "experiments" / "smoke.yaml", folder / "experiments" / "Smoke.yaml")
    with pytest.raises(ValueError, match="experiments 'Smoke' and 'smoke' differ"):
        read_experiment("smoke", folder)
    models = folder / "models.yaml"
    models.write_text(models.read_text() + "\nTiny: {source: hub, id: a/b, revision: main}\n")
    with pytest.raises(ValueError, match="models 'tiny' and 'Tiny' differ"):
        read_models(folder)


def test_an_experiment_is_named_as_its_file_is(tmp_path: Path) -> None:
    """On every file system, whatever that holds for the same."""
    with pytest.raises(ValueError, match=r"Smoke\.yaml does not exist\. Did you mean 'smoke'"):
        read_experiment("Smoke", experiment(tmp_path / "config"))


def test_a_folder_name_made_of_many_is_short_enough(tmp_path: Path) -> None:
    folder = experiment(tmp_path / "config")
    models = folder / "models.yaml"
    raw = read_yaml(models)
    names = [f"{letter * 62}{i}" for i, letter in enumerate("abcd")]
    models.write_text(yaml.safe_dump({**raw, **dict.fromkeys(names, raw["smoke"])}))
    path = folder / "experiments" / "smoke.yaml"
    study = read_yaml(path)
    four = {
        "team": {"name": "vote", "agents": 4, "tie": "wrong"},
        "credit": "shared",
        "policy": "separate",
        "model": names,
        "train": {"fanout": [4, 1, 1, 1]},
    }
    grid = {"condition": {"four": four}, "seed": [0]}
    path.write_text(yaml.safe_dump({**study, "grid": grid, "compare": []}))
    with pytest.raises(
        ValueError, match=r"condition four: run '.*' is a folder's name of \d+ bytes"
    ):
        read_experiment("smoke", folder)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_says_whose_policies_learn_when(name: str) -> None:
    """Nothing of it is left to the base, which it would change without a word."""
    preset = read_yaml(ROOT / "config" / "presets.yaml")[name]
    assert preset["policy"] in ("shared", "separate")
    assert preset["train"]["order"] in ("alternating", "simultaneous")
    assert ("period" in preset["train"]) == (preset["train"]["order"] == "alternating")


@pytest.mark.parametrize("name", ["c3@paper", "c3@no-loo", "magrpo@c3", "mappo@c3-paper"])
def test_in_the_paper_of_c3_every_method_has_two_models_that_learn_together(
    name: str, tmp_path: Path
) -> None:
    """C3 v2, Tables 3 and 4: two model instances; every row is trained on in every update."""
    over = {"base__train__order": "alternating", "base__policy": "shared"}
    grid = {"condition": {"a": {"preset": name}}, "seed": [0]}
    run = conditions(tmp_path / "config", grid, **over)["a"]
    assert (run.policy, run.train.order) == ("separate", "simultaneous")


def test_check_names_what_compared_conditions_differ_in_beside_their_methods(
    tmp_path: Path,
) -> None:
    grid = {
        "condition": {
            "c3": {"preset": "c3@paper"},
            "magrpo": {"preset": "magrpo@c3"},
            "mappo": {"preset": "mappo@c3-paper"},
            "one": {"preset": "magrpo@c3-shipped", "train": {"lr": 0.5}},
        },
        "seed": [0],
    }
    pairs = [["c3", "magrpo"], ["magrpo", "mappo"], ["one", "magrpo"]]
    study = read_experiment("smoke", experiment(tmp_path / "config", grid=grid, compare=pairs))
    assert isinstance(study, Experiment)
    assert compared(study) == [
        "c3 and magrpo differ beside their methods in train.fanout [2, 4] and [8, 1]",
        "one and magrpo differ beside their methods in policy shared and separate; train.lr 0.5 "
        "and 0.0001",
    ]
    runs = {label: of_label[0] for label, of_label in study.runs.items()}
    critic = runs["mappo"].critic
    assert critic is not None
    slower = runs["mappo"].model_copy(update={"critic": critic.model_copy(update={"lr": 0.5})})
    assert differences(runs["mappo"], slower) == {"critic.lr": (5e-5, 0.5)}
    other = read_models(tmp_path / "config")["tiny"]
    assert differences(runs["c3"], runs["c3"].model_copy(update={"model": other})) == {
        "model": ("smoke/0", "tiny/0")
    }


TEAM = {"team": "think_solve", "credit": "shared", "train": {"fanout": [2, 1]}}


def test_a_block_that_one_condition_lacks_is_named_by_its_settings_alone(tmp_path: Path) -> None:
    """And a setting that is called none is no setting that is not there."""
    grid = {
        "condition": {
            "adapters": {
                **TEAM,
                "policy": "lora",
                "lora": {"rank": 4, "alpha": 8},
            },
            "whole": {**TEAM, "policy": "separate"},
        },
        "seed": [0],
    }
    pairs = [["adapters", "whole"]]
    folder = experiment(tmp_path / "config", grid=grid, compare=pairs, single=False)
    study = read_experiment("smoke", folder)
    assert isinstance(study, Experiment)
    adapters, whole = (of_label[0] for of_label in study.runs.values())
    assert differences(adapters, whole) == {
        "policy": ("lora", "separate"),
        "lora.rank": (4, None),
        "lora.alpha": (8, None),
    }
    assert compared(study) == [
        "adapters and whole differ beside their methods in policy lora and separate; "
        "lora.rank 4 and not set; lora.alpha 8 and not set"
    ]
    params = {"word": "none"}
    named = whole.model_copy(update={"team": whole.team.model_copy(update={"params": params})})
    assert differences(named, whole) == {"team.params.word": ("none", None)}


BAD_AUDITS = {
    "unknown key": ({"oracle": {"method": {}}}, "unknown key 'method'"),
    "runs beside an oracle experiment": (
        {"base": {}},
        "An oracle experiment has question, note and oracle only",
    ),
    "unknown family": ({"oracle": {"families": ["anarchy"]}}, "families.0"),
    "misspelt credit": (
        {"oracle": {"methods": {"shared": {"credit": "shraed"}}}},
        "Did you mean 'shared'",
    ),
    "nothing to compare with": (
        {"oracle": {"methods": {"c3": {"credit": "c3"}}}},
        "needs the method 'shared'",
    ),
    "a model without a language": ({"oracle": {"shapes": ["dyad"]}}, "if, and only if"),
    "a model that is not there": ({"oracle": {"model": "tinny"}}, "Did you mean 'tiny'"),
    "a family twice": ({"oracle": {"families": ["necessity", "necessity"]}}, "names one twice"),
    "unknown raters": (
        {"oracle": {"methods": {"shared": {"credit": "shared", "raters": "kind"}}}},
        "methods.shared.raters",
    ),
    "one world": ({"oracle": {"instances": 1}}, "instances"),
}


@pytest.mark.parametrize("case", sorted(BAD_AUDITS))
def test_bad_audits_say_what_is_wrong(case: str, tmp_path: Path) -> None:
    over, message = BAD_AUDITS[case]
    shutil.copytree(ROOT / "config", tmp_path / "config")
    path = tmp_path / "config" / "experiments" / "credit_truth.yaml"
    raw = read_yaml(path)
    raw |= {k: raw[k] | v if k == "oracle" else v for k, v in over.items()}
    path.write_text(yaml.safe_dump(raw))
    with pytest.raises(ValueError, match=re.escape(message)):
        read_experiment("credit_truth", tmp_path / "config")
