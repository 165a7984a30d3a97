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
    OracleExperiment,
    RunConfig,
    canonical,
    fingerprint,
    read_experiment,
    read_models,
    read_run,
)


def experiment(folder: Path, **over: Any) -> Path:
    """A config folder with the smoke experiment, its blocks replaced by `over` (keys with dots go
    down).
    """
    shutil.copytree(ROOT / "config", folder, dirs_exist_ok=True)
    path = folder / "experiments" / "smoke.yaml"
    raw = yaml.safe_load(path.read_text())
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
        {"base__evaluate": {"tasks": 16, "decodings": {"g": {"temperature": 0, "samples": 4}}}},
        "all the same",
    ),
    "no greedy answers": (
        {"base__evaluate": {"tasks": 16, "decodings": {"t1": {"temperature": 1}}, "primary": "t1"}},
        "temperatures [1.0]",
    ),
    "a primary decoding that is none": (
        {"base__evaluate": {"tasks": 16, "primary": "gredy"}},
        "Did you mean 'greedy'?",
    ),
    "a comparison of unlike decodings": (
        {
            "grid__condition__ccpo": {
                "team": "think_solve",
                "credit": "ccpo",
                "train": {"fanout": [4, 1]},
                "evaluate": {"primary": "sampled"},
            }
        },
        "compare names conditions that differ in evaluate.primary",
    ),
    "a decoding's name": (
        {"base__evaluate": {"tasks": 16, "decodings": {"a b": {"temperature": 0}}}},
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
    assert (
        RunConfig.model_validate(run_data(credit={"name": "ccpo", "lam": 0.2})).id == run.id
    )  # a default said aloud
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
        r"benchmark gsm8k has no train split, train\.steps is 2\. Set train\.steps to 0, or",
    ),
    "nothing to evaluate": (
        {"train": 9},
        {},
        r"gsm8k has no test split, and evaluate\.also names no other\..* some of: .*arithmetic",
    ),
    "a further benchmark without a test split": (
        {"train": 9},
        {"base__benchmark": "arithmetic", "base__evaluate__also": ["gsm8k"]},
        r"evaluate\.also names gsm8k, which has no test split",
    ),
}


@pytest.mark.parametrize("case", sorted(SPLITS))
def test_a_split_that_is_not_there_is_found_before_launch(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits, over, message = SPLITS[case]
    monkeypatch.setattr(benchmark.load("gsm8k"), "SPLITS", splits)
    with pytest.raises(ValueError, match=message):
        read_experiment(
            "smoke", experiment(tmp_path / "config", **{"base__benchmark": "gsm8k", **over})
        )


def test_a_benchmark_may_lack_the_split_that_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    gsm8k = benchmark.load("gsm8k")
    monkeypatch.setattr(gsm8k, "SPLITS", {"train": 9, "validation": 2})
    learnt = RunConfig.model_validate(
        run_data(benchmark="gsm8k", evaluate={"also": ["arithmetic"]})
    )
    assert [c.name for c in learnt.evaluated] == ["arithmetic"]
    monkeypatch.setattr(gsm8k, "SPLITS", {"test": 9})
    assert [
        c.name for c in RunConfig.model_validate(run_data(evaluate={"also": ["gsm8k"]})).evaluated
    ] == ["arithmetic", "gsm8k"]
    untrained = RunConfig.model_validate(
        run_data(benchmark="gsm8k", credit="none", train={"steps": 0})
    )
    assert [c.name for c in untrained.evaluated] == ["gsm8k"]


PRESETS = sorted(yaml.safe_load((ROOT / "config" / "presets.yaml").read_text()))


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
    raw = yaml.safe_load((ROOT / "config" / "presets.yaml").read_text())[name]
    assert run.objective.name == raw["objective"]
    assert list(run.train.fanout) == raw["train"]["fanout"]
    assert run.credit.name == (
        raw["credit"] if isinstance(raw["credit"], str) else raw["credit"]["name"]
    )
    assert mine.objective.name == "dapo"
    assert run.train.lr == 1e-4  # of the base
    assert found.manifest()["conditions"]["published"]["preset"] == name


def test_a_preset_is_its_content(tmp_path: Path) -> None:
    """The same settings typed by hand are the same run; the two presets that a z-score makes equal
    are still two.
    """
    typed = {
        "team": "reasoner_actor",
        "credit": "magrpo",
        "advantage": {"name": "group_z", "eps_inside": True},
    }
    typed |= {"objective": "grpo", "sampling": {"temperature": 0.7}, "train": {"fanout": [8, 1]}}
    grid = {"condition": {"a": {"preset": "magrpo@c3"}, "b": typed}, "seed": [0]}
    runs = read_experiment("smoke", experiment(tmp_path / "config", grid=grid, compare=[])).runs
    assert runs["a"][0].id == runs["b"][0].id


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
    raw = yaml.safe_load(path.read_text())
    raw |= {k: raw[k] | v if k == "oracle" else v for k, v in over.items()}
    path.write_text(yaml.safe_dump(raw))
    with pytest.raises(ValueError, match=re.escape(message)):
        read_experiment("credit_truth", tmp_path / "config")
