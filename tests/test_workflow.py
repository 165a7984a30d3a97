"""The workflow: bad configs end before any job, dry runs are quick and complete, adding a seed adds
that seed only.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

from ccpo.config import read_yaml


def snakemake(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.run(
        ["snakemake", *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The workflow, its config and the package in a folder of their own."""
    for name in ("workflow", "config", "ccpo", "envs"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Snakefile", tmp_path / "Snakefile")
    for link in ("profiles", "slurm"):
        (tmp_path / link).symlink_to(os.readlink(ROOT / link))
    return tmp_path


def jobs(text: str) -> dict[str, int]:
    """Counts by rule of a dry run."""
    table = text.split("Job stats:")[1]
    return {m[1]: int(m[2]) for m in re.finditer(r"^(\w+) +(\d+)$", table, re.MULTILINE)}


def spent() -> float:
    """Processor seconds of all commands that have ended: nothing else of the machine is in them."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_a_dry_run_of_the_quickstart_is_whole_and_quick(checkout: Path) -> None:
    """Quick beside what Snakemake takes to say its version on this machine: about as much again."""
    start = spent()
    snakemake(checkout, "--version")
    yardstick = spent() - start
    done = snakemake(checkout, "-n", "--quiet", "rules")
    seconds = spent() - start - yardstick
    assert done.returncode == 0, done.stderr
    planned = jobs(done.stdout + done.stderr)
    assert planned["train"] == planned["rollout"] == planned["score"] == 48
    assert planned["analyse"] == planned["report"] == planned["track"] == 1
    assert planned["model"] == 8  # each training seed starts from a base model of its own
    assert planned["figure"] == 7
    assert seconds < 5 * yardstick  # `make reproduce` is measured by hand


def test_a_misspelt_credit_stops_before_any_job(checkout: Path) -> None:
    path = checkout / "config" / "experiments" / "smoke.yaml"
    path.write_text(path.read_text().replace("credit: ccpo,", "credit: cppo,"))
    done = snakemake(checkout, "-n", "--config", "experiments=[smoke]")
    assert done.returncode != 0
    assert (
        "credit 'cppo' is not a file in ccpo/credit/. Did you mean 'ccpo'?"
        in done.stdout + done.stderr
    )
    assert not (checkout / "results").exists()


def test_runs_that_speak_with_vllm_are_trained_and_played_by_its_python(checkout: Path) -> None:
    """Those of one condition; all else, scoring them too, is done by the ordinary one. Without that
    Python nothing starts.
    """
    for name, old, new in (
        (
            "experiments/smoke.yaml",
            "objective: gspo,",
            "objective: gspo, sampling: {engine: vllm},",
        ),
        (
            "models.yaml",
            "hidden: 32\n  layers: 1\n  heads: 2",
            "hidden: 32\n  layers: 1\n  heads: 1",
        ),
    ):
        path = checkout / "config" / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))
    (checkout / "config" / "base_models" / "pins.json").unlink()  # those of other heads
    planned = ("-n", "-p", "--config", "experiments=[smoke]")
    done = snakemake(checkout, *planned)
    assert done.returncode != 0
    assert "2 run(s) have sampling.engine vllm" in done.stdout + done.stderr
    assert "Remedy: make .venv-vllm/.ready" in done.stdout + done.stderr
    done = snakemake(checkout, *planned, f"vllm_python={sys.executable}")
    assert done.returncode == 0, done.stderr
    commands = re.findall(
        r"(\S+) -m ccpo (\w+) .*?(single|think_solve|vote)\.", done.stdout + done.stderr
    )
    assert {(verb, team) for python, verb, team in commands if python == sys.executable} == {
        ("train", "single"),
        ("rollout", "single"),
    }
    assert {verb for python, verb, _ in commands if python == "python"} >= {
        "train",
        "rollout",
        "score",
    }


def test_each_agents_model_is_handed_over_in_the_agents_order(checkout: Path) -> None:
    path = checkout / "config" / "experiments" / "smoke.yaml"
    raw = read_yaml(path)
    three = {
        "team": "vote",
        "credit": "shared",
        "policy": "separate",
        "model": ["tiny", "smoke", "tiny"],
        "train": {"fanout": [4, 1, 1]},
    }
    raw["grid"] = {"condition": {"three": three}, "seed": [0]}
    raw["compare"] = []
    path.write_text(yaml.safe_dump(raw))
    done = snakemake(checkout, "-n", "-p", "--config", "experiments=[smoke]")
    assert done.returncode == 0, done.stderr
    text = done.stdout + done.stderr
    assert jobs(text)["model"] == 2
    folders = r"results/models/tiny-\w+ results/models/smoke-\w+ results/models/tiny-\w+"
    assert re.search(rf"ccpo train .*--model {folders} --scratch", text)
    assert re.search(rf"ccpo rollout .*--untrained {folders} --scratch", text)


def test_an_unknown_workflow_key_is_refused(checkout: Path) -> None:
    done = snakemake(checkout, "-n", "--config", "experimets=[smoke]")
    assert done.returncode != 0
    assert "unknown key(s) ['experimets']" in done.stdout + done.stderr


def test_how_trainings_are_sharded_is_asked_of_the_workflow(checkout: Path) -> None:
    done = snakemake(
        checkout, "-n", "-p", "--config", "experiments=[smoke]", "zero=2", "offload=True"
    )
    assert "--zero 2 --offload &>>" in done.stdout + done.stderr
    done = snakemake(checkout, "-n", "--config", "experiments=[smoke]", "zero=4")
    assert "config/config.yaml: ZeRO stage 4 is none. Remedy" in done.stdout + done.stderr


def test_adding_a_seed_and_editing_prose_run_only_what_is_new(checkout: Path) -> None:
    """A small study is run for real; then code, prose, the question, and how trainings are sharded
    change, and a seed is added.
    """
    path = checkout / "config" / "experiments" / "smoke.yaml"
    raw = read_yaml(path)
    raw["grid"]["condition"] = {"shared": raw["grid"]["condition"]["shared"]}
    raw["grid"]["seed"] = [0]
    raw["compare"] = []
    path.write_text(yaml.safe_dump(raw))
    only = ("--cores", "2", "--config", "experiments=[smoke]")
    done = snakemake(checkout, "--until", "score", *only)
    assert done.returncode == 0, done.stdout + done.stderr
    code = checkout / "ccpo" / "publish" / "draw.py"
    code.write_text(
        code.read_text().replace('"figure.figsize": (6.4, 3.9)', '"figure.figsize": (7, 4)')
    )
    (checkout / "README.md").write_text("New prose.\n")
    raw["question"] = "Does a new wording of the question train again?"
    raw["grid"]["seed"] = [0, 2]  # of two base models both start from the first
    path.write_text(yaml.safe_dump(raw))
    done = snakemake(checkout, "-n", "--quiet", "rules", *only, "zero=1")
    planned = jobs(done.stdout + done.stderr)
    assert planned["train"] == planned["rollout"] == planned["score"] == 1
    assert "model" not in planned
    assert "tasks" not in planned


def test_an_oracle_experiment_is_planned_beside_trainings(checkout: Path) -> None:
    """One job for each kind of world, one report, no import into MLflow; the trainings' jobs are
    those they have alone.
    """
    done = snakemake(
        checkout, "-n", "--quiet", "rules", "--config", "experiments=[credit_truth,smoke]"
    )
    assert done.returncode == 0, done.stderr
    planned = jobs(done.stdout + done.stderr)
    assert planned["diagnose"] == 16
    assert (
        planned["compare"]
        == planned["oracle_report"]
        == planned["report"]
        == planned["analyse"]
        == planned["track"]
        == 1
    )
    assert planned["train"] == 10
    assert planned["figure"] == 7 + 5
    assert planned["table"] == planned["experiment_config"] == 2
    assert planned["model"] == 1 + 2  # the oracle experiment's, and one for each training seed


def test_training_waits_for_every_table_it_is_compared_with(checkout: Path) -> None:
    """SmolLM2 learns arithmetic and is evaluated on GSM8K too; what is dropped is a named file
    beside the table.
    """
    done = snakemake(checkout, "-n", "--config", "experiments=[smollm2]")
    assert done.returncode == 0, done.stderr
    text = done.stdout + done.stderr
    blocks = re.findall(r"^rule train:\n    input: (.*)\n", text, re.MULTILINE)
    assert len(blocks) == 3
    for block in blocks:
        assert re.search(
            r"results/tasks/arithmetic-\w+\.parquet, results/tasks/gsm8k-\w+\.parquet", block
        )
    assert re.search(r"results/tasks/gsm8k-\w+\.dropped\.json", text)


def test_the_table_of_overlaps_is_a_target_of_its_own(checkout: Path) -> None:
    done = snakemake(checkout, "results/overlap.csv", "-n", "--quiet", "rules")
    assert done.returncode == 0, done.stderr
    assert jobs(done.stdout + done.stderr) == {"overlap": 1, "total": 1}


def test_a_study_without_training_asks_for_no_figure_of_training(checkout: Path) -> None:
    """`smollm2_read` evaluates one agent, untrained: all there is to draw is its accuracy."""
    done = snakemake(checkout, "-n", "--quiet", "rules", "--config", "experiments=[smollm2_read]")
    assert done.returncode == 0, done.stderr
    planned = jobs(done.stdout + done.stderr)
    assert planned["figure"] == 1
    assert planned["report"] == planned["table"] == 1
