"""Base models: which training seed starts from which, their pinned bytes, and the rule that makes
them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT, SPEC
from safetensors.numpy import load_file, save_file

from ccpo import STAGE_VERSIONS, schema
from ccpo.config import (
    Experiment,
    Model,
    RunConfig,
    WarmStart,
    read_experiment,
    read_listed,
    read_models,
    read_yaml,
)
from ccpo.models import base_models, policy, prepare

SMALL = {**SPEC, "least_accuracy": 0.0, "replicas": 2}
FILES = ["chat_template.jinja", "config.json", "generation_config.json", "model.safetensors"]
FILES += ["tokenizer.json", "tokenizer_config.json"]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config folder with the model `small`, whose two replicas are pinned."""
    config = tmp_path_factory.mktemp("pinned") / "config"
    shutil.copytree(ROOT / "config", config, ignore=shutil.ignore_patterns("base_models"))
    edit(config, small=SMALL)
    base_models.pin(["small"], config, slots=2, say=lambda line: None)
    return config


@pytest.fixture
def config(made: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    return Path(shutil.copytree(made, tmp_path / "config"))


def edit(config: Path, **models: Any) -> None:
    """Adds keys to models of models.yaml, or models to it."""
    path = config / "models.yaml"
    raw = read_yaml(path)
    for name, keys in models.items():
        raw[name] = {**raw.get(name, {}), **keys}
    path.write_text(yaml.safe_dump(raw))


def study(config: Path, model: object = "small", seeds: tuple[int, ...] = (0, 1)) -> Experiment:
    """The experiment smoke, of dyads with policies of their own, from a model, of some seeds."""
    path = config / "experiments" / "smoke.yaml"
    raw = read_yaml(path)
    kept = {k: v for k, v in raw["grid"]["condition"].items() if k in ("shared", "ccpo")}
    raw["grid"] = {"condition": kept, "seed": list(seeds)}
    raw["base"]["model"] = model
    path.write_text(yaml.safe_dump(raw))
    found = read_experiment("smoke", config)
    assert isinstance(found, Experiment)
    return found


def pins(config: Path) -> dict[str, Any]:
    return schema.read_json(config / "base_models" / "pins.json")


def spec_of(run: RunConfig) -> WarmStart:
    assert isinstance(run.model, Model)
    assert isinstance(run.model.spec, WarmStart)
    return run.model.spec


# -- which seed starts from which ----------------------------------------------------------------


def test_each_training_seed_has_its_own_base_model_until_they_are_used_up(config: Path) -> None:
    edit(config, several={**SMALL, "seed": 5, "replicas": 3})
    found = study(config, "several", seeds=(0, 1, 2, 3, 7))
    for runs in found.runs.values():
        starts = {seed: spec_of(run).seed for seed, run in runs.items()}
        assert starts == {0: 5, 1: 6, 2: 7, 3: 5, 7: 6}
        assert {run.base for run in runs.values()} == {"several/5", "several/6", "several/7"}


def test_replicas_differ_in_their_seed_alone_and_a_run_knows_nothing_of_the_others(
    config: Path,
) -> None:
    two = study(config).runs["ccpo"]
    specs = [spec_of(run).model_dump(mode="json") for run in two.values()]
    assert [spec["seed"] for spec in specs] == [0, 1]
    assert {k for k in specs[0] if specs[0][k] != specs[1][k]} == {"seed", "sha256"}
    assert "replicas" not in two[0].model_dump_json()
    assert len({run.models[0].slug for run in two.values()}) == 2
    edit(config, small={"replicas": 1})
    assert study(config).runs["ccpo"][0].id == two[0].id


def test_a_run_made_by_copy_is_the_run_that_is_read_back(config: Path) -> None:
    for named in ("small", ["small", "smoke"]):
        for runs in study(config, named, seeds=(0, 1, 2, 3)).runs.values():
            for run in runs.values():
                assert RunConfig.model_validate_json(run.model_dump_json()).id == run.id


def test_each_agents_model_has_replicas_of_its_own(config: Path) -> None:
    edit(config, large={**SMALL, "hidden": 32, "replicas": 3})
    runs = study(config, ["large", "small"], seeds=(0, 1, 2, 5)).runs["ccpo"]
    starts = {seed: run.base for seed, run in runs.items()}
    want = {0: "large/0+small/0", 1: "large/1+small/1", 2: "large/2+small/0", 5: "large/2+small/1"}
    assert starts == want


def test_the_manifest_names_the_base_model_of_each_seed(config: Path) -> None:
    planned = study(config, seeds=(0, 1, 2)).manifest().condition("ccpo")
    assert planned.bases == {0: "small/0", 1: "small/1", 2: "small/0"}
    assert list(planned.runs) == [0, 1, 2]
    published = study(config, "smollm2-135m").manifest().condition("ccpo")
    assert published.bases == {0: "smollm2-135m", 1: "smollm2-135m"}


def test_where_one_model_is_named_the_first_replica_is_meant(config: Path) -> None:
    assert read_models(config)["small"].base == "small/0"
    path = config / "experiments" / "credit_truth.yaml"
    path.write_text(path.read_text().replace("model: tiny", "model: small"))
    asked = read_experiment("credit_truth", config)
    assert not isinstance(asked, Experiment)
    assert asked.model == read_models(config)["small"]


# -- identity and refusals -----------------------------------------------------------------------


def test_the_pinned_bytes_are_part_of_a_runs_name(config: Path) -> None:
    pinned = study(config).runs["ccpo"]
    assert {s: spec_of(run).sha256 for s, run in pinned.items()} == {
        int(seed): pin["sha256"] for seed, pin in pins(config)["small"].items()
    }
    (config / "base_models" / "pins.json").unlink()
    made_here = study(config).runs["ccpo"]
    assert [spec_of(run).sha256 for run in made_here.values()] == ["", ""]
    assert len({run.id for run in [*pinned.values(), *made_here.values()]}) == 4
    assert len({run.models[0].slug for run in [*pinned.values(), *made_here.values()]}) == 4
    assert [run.base for run in made_here.values()] == ["small/0", "small/1"]


def changed_pins(config: Path, change: Callable[[dict[str, Any]], object]) -> None:
    found = pins(config)
    change(found)
    schema.write_json(config / "base_models" / "pins.json", found)


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "an edited recipe": (
        lambda config: edit(config, small={"steps": 11}),
        r"smoke\.yaml, condition \w+: model small: its replica with seed 0 is pinned .* as made by "
        r"recipe [0-9a-f]{8}, but models\.yaml and this code say [0-9a-f]{8}: .* Remedy: `python "
        r"-m ccpo base-models small` makes its pins anew; or give the edited model another name",
    ),
    "another first seed": (
        lambda config: edit(config, small={"seed": 1}),
        r"model small: its replica with seed 2 is not pinned, and those with seeds 0, 1 are",
    ),
    "more replicas than pins": (
        lambda config: edit(config, small={"replicas": 3}),
        r"its replica with seed 2 is not pinned.* a model is pinned whole\. Remedy: .* fewer",
    ),
    "a pin of a model from elsewhere": (
        lambda config: changed_pins(config, lambda p: p.update({"smollm2-135m": p["small"]})),
        r"model smollm2-135m is pinned .*, but its source is wheel",
    ),
    "a pin that is no hash": (
        lambda config: changed_pins(config, lambda p: p["small"]["0"].update(sha256="abc")),
        r"models\.yaml, small: pins\.0\.sha256: .* \(given: 'abc'\)",
    ),
    "pins cut short": (
        lambda config: (config / "base_models" / "pins.json").write_text('{"small": '),
        r"pins\.json is (no JSON mapping|not JSON) .*Remedy: git checkout -- .*pins",
    ),
    "replicas of a model from elsewhere": (
        lambda config: edit(config, **{"smollm2-135m": {"replicas": 2}}),
        r"models\.yaml, smollm2-135m: unknown key 'spec\.wheel\.replicas'",
    ),
    "a hash written into models.yaml": (
        lambda config: edit(config, small={"sha256": "0" * 64}),
        r"models\.yaml, small: unknown key 'spec\.warm_start\.sha256'",
    ),
    "no replica": (
        lambda config: edit(config, small={"replicas": 0}),
        r"small: spec\.warm_start\.replicas: .* greater than or equal to 1 \(given: 0\)",
    ),
}


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_what_does_not_fit_is_refused_in_words(case: str, config: Path) -> None:
    change, said = REFUSED[case]
    change(config)
    with pytest.raises(ValueError, match=said):
        study(config, "smollm2-135m" if "elsewhere" in case else "small")


def test_an_edited_recipe_stops_the_experiments_that_use_it_only(config: Path) -> None:
    edit(config, small={"steps": 11})
    study(config, "smoke")
    with pytest.raises(ValueError, match="model small"):
        study(config, ["smoke", "small"])


def test_another_version_of_the_code_makes_pins_stale(
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(STAGE_VERSIONS, "model", STAGE_VERSIONS["model"] + 1)
    with pytest.raises(ValueError, match="edited after pinning"):
        study(config)


# -- bytes ---------------------------------------------------------------------------------------


def test_a_pinned_model_is_copied_byte_for_byte(config: Path, tmp_path: Path) -> None:
    for seed, run in study(config).runs["ccpo"].items():
        out = tmp_path / f"out{seed}"
        prepare.prepare(run.models[0], out, config / "base_models")
        assert schema.sha256(out) == pins(config)["small"][str(seed)]["sha256"]
        assert sorted(p.name for p in out.iterdir()) == FILES


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a weight file cut short": lambda folder: cut(folder / "model.safetensors"),
    "a file missing": lambda folder: (folder / "tokenizer.json").unlink(),
    "a file too many": lambda folder: (folder / "notes.txt").write_text("mine"),
}


@pytest.mark.parametrize("case", sorted(DAMAGE))
def test_a_damaged_pin_is_refused(case: str, config: Path, tmp_path: Path) -> None:
    DAMAGE[case](config / "base_models" / "small" / "1")
    runs = study(config).runs["ccpo"]
    said = r"small/1 has sha256 \w+, pins.json pins \w+\. Remedy: git checkout -- .*small/1$"
    with pytest.raises(ValueError, match=said):
        prepare.prepare(runs[1].models[0], tmp_path / "out", config / "base_models")
    assert not [p for p in tmp_path.iterdir() if p.name != "config"]
    prepare.prepare(runs[0].models[0], tmp_path / "out", config / "base_models")


def test_a_missing_pin_is_refused_and_what_was_there_stays(config: Path, tmp_path: Path) -> None:
    shutil.rmtree(config / "base_models" / "small")
    run = study(config).runs["ccpo"][0]
    (tmp_path / "out").mkdir()
    with pytest.raises(ValueError, match=r"small/0 is pinned, but is not there\. Remedy: git"):
        prepare.prepare(run.models[0], tmp_path / "out", config / "base_models")
    assert (tmp_path / "out").is_dir()


def test_weights_are_rounded_to_the_nearest_float16(tiny: Path) -> None:
    """Against numpy's rounding; what it computes in stays float32."""
    untouched = policy.load(tiny)[0]
    rounded = policy.load(tiny)[0]
    prepare.round_weights(rounded)
    for before, after in zip(untouched.parameters(), rounded.parameters(), strict=True):
        want = before.detach().numpy().astype(np.float16).astype(np.float32)
        assert np.array_equal(after.detach().numpy(), want)
    assert not all(map(torch.equal, untouched.parameters(), rounded.parameters()))
    assert {p.dtype for p in rounded.parameters()} == {torch.float32}


def test_it_is_kept_in_float16_and_computed_in_float32(made: Path, tmp_path: Path) -> None:
    folder = made / "base_models" / "small" / "0"
    kept = load_file(folder / "model.safetensors")
    assert {v.dtype for v in kept.values()} == {np.dtype(np.float16)}
    assert json.loads((folder / "config.json").read_text())["dtype"] == "float16"
    loaded, tokenizer = policy.load(folder)
    assert loaded.dtype == loaded.config.dtype == torch.float32
    weights = loaded.state_dict()
    assert all(np.array_equal(weights[k].numpy(), v.astype(np.float32)) for k, v in kept.items())
    policy.save(loaded, tokenizer, tmp_path / "trained")
    trained = load_file(tmp_path / "trained" / "model.safetensors")
    assert {v.dtype for v in trained.values()} == {np.dtype(np.float32)}
    assert json.loads((tmp_path / "trained" / "config.json").read_text())["dtype"] == "float32"


# -- the rule ------------------------------------------------------------------------------------


def test_the_verb_pins_what_a_workflow_would_make(config: Path, tmp_path: Path) -> None:
    """Both replicas, warm-started here once more, are the pinned bytes; they are two models."""
    for unpinned in read_listed(config)["small"].unpinned():
        prepare.prepare(unpinned, tmp_path / unpinned.base)
        seed = unpinned.base.split("/")[1]
        assert schema.sha256(tmp_path / unpinned.base) == pins(config)["small"][seed]["sha256"]
    assert base_models.largest_difference(tmp_path / "small/0", tmp_path / "small/1")


def test_pins_made_anew_replace_those_of_the_named_model_only(config: Path) -> None:
    edit(config, other={**SMALL, "replicas": 1, "seed": 3})
    before = pins(config)["small"]
    base_models.pin(["other"], config, say=lambda line: None)
    assert pins(config)["small"] == before
    assert list(pins(config)["other"]) == ["3"]
    edit(config, small={"steps": 11, "replicas": 1})
    base_models.pin(["small"], config, say=lambda line: None)
    assert list(pins(config)["small"]) == ["0"]
    assert pins(config)["small"]["0"]["spec"] != before["0"]["spec"]
    assert [p.name for p in (config / "base_models" / "small").iterdir()] == ["0"]
    assert study(config).runs["ccpo"][1].base == "small/0"


def test_a_model_that_cannot_be_made_leaves_the_pins_alone(config: Path) -> None:
    edit(config, small={"least_accuracy": 0.9})
    before = schema.sha256(config / "base_models")
    said = r"base model small/0 cannot be made: ccpo model: warm start: solo accuracy"
    with pytest.raises(ValueError, match=said):
        base_models.pin(["small"], config, slots=2, say=lambda line: None)
    assert schema.sha256(config / "base_models") == before


def test_names_are_those_of_models_made_here() -> None:
    assert base_models.named([], ROOT / "config") == ["tiny", "tiny_teams", "tiny_small", "smoke"]
    assert base_models.named(["smoke"], ROOT / "config") == ["smoke"]
    with pytest.raises(ValueError, match=r"'smok' is not in models\.yaml\. Did you mean 'smoke"):
        base_models.named(["smok"], ROOT / "config")
    with pytest.raises(ValueError, match="smollm2-135m has the source wheel, which pins it by"):
        base_models.named(["smollm2-135m"], ROOT / "config")


def verb(config: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`python -m ccpo base-models` where the config folder is."""
    command = [sys.executable, "-m", "ccpo", "base-models", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command,
        cwd=config.parent,
        env=environment,
        capture_output=True,
        text=True,
    )


def test_comparing_finds_the_bytes_identical_or_says_how_far_they_are(config: Path) -> None:
    """One replica as it is; one whose weight is moved and pinned so, as another processor might."""
    folder = config / "base_models" / "small" / "1"
    weights = load_file(folder / "model.safetensors")
    moved = weights["model.norm.weight"].copy()
    moved[3] -= np.float16(0.25)
    exact = abs(float(moved[3]) - float(weights["model.norm.weight"][3]))
    save_file(
        {**weights, "model.norm.weight": moved},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    changed_pins(config, lambda p: p["small"]["1"].update(sha256=schema.sha256(folder)))
    before = schema.sha256(config)
    done = verb(config, "--compare", "small")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^small/0: identical bytes$", done.stdout, re.MULTILINE)
    number = r"\d\.\d{3}"
    both = rf"{number} sampled and {number} greedy"
    found = re.search(
        rf"^small/1: largest difference of weights (\S+); solo accuracy, pinned {both}, "
        rf"made here {both}$",
        done.stdout,
        re.MULTILINE,
    )
    assert found, done.stdout
    assert float(found[1]) == pytest.approx(exact, rel=1e-2)
    assert schema.sha256(config) == before


def test_comparing_needs_pins_that_are_whole(config: Path) -> None:
    done = verb(config, "--compare", "smoke")
    assert done.returncode == 1
    assert "model smoke is not pinned in config/base_models/pins.json, so there" in done.stderr
    cut(config / "base_models" / "small" / "0" / "model.safetensors")
    done = verb(config, "--compare", "small")
    assert done.returncode == 1
    assert re.search(r"base model config/base_models/small/0 has sha256", done.stderr)


def test_differences_in_words(made: Path, tmp_path: Path) -> None:
    one = made / "base_models" / "small" / "0"
    spec = WarmStart.model_validate({k: v for k, v in SMALL.items() if k != "replicas"})
    assert base_models.difference(one, one, spec) == "identical bytes"
    other = Path(shutil.copytree(one, tmp_path / "other"))
    (other / "config.json").write_text((one / "config.json").read_text() + "\n")
    (other / "more.txt").write_text("more")
    said = base_models.difference(one, other, spec)
    assert said == "identical weights, other bytes in config.json, more.txt"
    weights = load_file(one / "model.safetensors")
    weights.pop("model.norm.weight")
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    assert base_models.largest_difference(one, other) is None
    assert base_models.difference(one, other, spec) == "its weights have other names or shapes"


# -- what is shipped -----------------------------------------------------------------------------


def test_what_git_keeps_is_what_is_pinned_and_nothing_else() -> None:
    folder = ROOT / "config" / "base_models"
    listed = read_listed(ROOT / "config")
    pinned = {m.base: m for one in listed.values() if one.pins for m in one.replicas}
    kept = {p.parent.relative_to(folder).as_posix() for p in folder.rglob("config.json")}
    assert kept == set(pinned)
    assert set(pins(ROOT / "config")) <= set(listed)
    for base, one in pinned.items():
        assert isinstance(one.spec, WarmStart)
        assert schema.sha256(folder / base) == one.spec.sha256


def test_smoke_is_pinned_and_taught() -> None:
    """The solo role's accuracy, sampled, of what everybody starts from."""
    for one in read_listed(ROOT / "config")["smoke"].replicas:
        assert isinstance(one.spec, WarmStart)
        assert one.spec.sha256
        found = prepare.solo_accuracy(ROOT / "config/base_models" / one.base, one.spec, 1.0)
        assert found >= one.spec.least_accuracy
