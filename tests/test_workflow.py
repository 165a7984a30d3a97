"""The workflow: bad configs end before any job, dry runs are quick and complete, adding a seed adds
that seed only.
"""

from __future__ import annotations

import os
import random
import re
import resource
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

from ccpo import schema
from ccpo.config import read_yaml


def snakemake(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.run(
        ["snakemake", *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )


def copy_project(folder: Path) -> None:
    """The workflow, its config and the package."""
    for name in ("workflow", "config", "ccpo", "envs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Snakefile", folder / "Snakefile")
    for link in ("profiles", "slurm"):
        (folder / link).symlink_to(os.readlink(ROOT / link))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The project in a folder of its own."""
    copy_project(tmp_path)
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
    assert planned["figure"] == 12
    # two topologies, each training seed with itself
    assert planned["cross"] == planned["cross_score"] == 16
    assert planned["cross_plan"] == 2
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


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of one run, played and scored for real, in a folder whose name has spaces, an umlaut
    and a sign of the shell."""
    folder = tmp_path_factory.mktemp("finished") / "mein prüf $tand (1)"
    folder.mkdir()
    copy_project(folder)
    path = folder / "config" / "experiments" / "smoke.yaml"
    raw = read_yaml(path)
    raw["grid"]["condition"] = {"shared": raw["grid"]["condition"]["shared"]}
    raw["grid"]["seed"] = [0]
    raw["compare"] = []
    path.write_text(yaml.safe_dump(raw))
    done = snakemake(folder, "--until", "score", *SMOKE)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


SMOKE = ("--cores", "2", "--config", "experiments=[smoke]")
MADE_ONCE = ("train", "rollout", "score", "model", "tasks", "run_config")


def planned(folder: Path, *arguments: str) -> dict[str, int]:
    """Jobs by rule that a dry run of the small study names."""
    done = snakemake(folder, "-n", "--quiet", "rules", *SMOKE, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return jobs(done.stdout + done.stderr)


def test_adding_a_seed_and_editing_prose_run_only_what_is_new(
    finished: Path, tmp_path: Path
) -> None:
    """Code, prose, the question, and how trainings are sharded change, and a seed is added."""
    folder = Path(shutil.copytree(finished, tmp_path / "edited", symlinks=True))
    code = folder / "ccpo" / "publish" / "draw.py"
    code.write_text(
        code.read_text().replace('"figure.figsize": (6.4, 3.9)', '"figure.figsize": (7, 4)')
    )
    (folder / "README.md").write_text("New prose.\n")
    path = folder / "config" / "experiments" / "smoke.yaml"
    raw = read_yaml(path)
    raw["question"] = "Does a new wording of the question train again?"
    raw["grid"]["seed"] = [0, 2]  # of two base models both start from the first
    path.write_text(yaml.safe_dump(raw))
    wanted = planned(folder, "zero=1")
    assert wanted["train"] == wanted["rollout"] == wanted["score"] == 1
    assert "model" not in wanted
    assert "tasks" not in wanted


def copied(source: Path, folder: Path) -> None:
    """As `cp -r` does: every file has the time at which it was copied."""
    shutil.copytree(source, folder, symlinks=True, copy_function=shutil.copyfile)


def touched(source: Path, folder: Path) -> None:
    """Everything has one time, the latest: files first, folders after."""
    copied(source, folder)
    now = time.time_ns()
    for path in sorted(folder.rglob("*"), reverse=True):
        os.utime(path, ns=(now, now))


def shuffled(source: Path, folder: Path) -> None:
    """As a clone on a network file system: times in any order."""
    copied(source, folder)
    order = random.Random(0)
    for path in sorted(folder.rglob("*")):
        at = time.time() - order.uniform(0, 1e6)
        os.utime(path, (at, at))


def reversed_times(source: Path, folder: Path) -> None:
    """What was made first is newest: every input is newer than what was made of it."""
    copied(source, folder)
    made = ["scores", "graders", "rollouts", "model", "provenance", "config", "tasks"]
    for path in folder.rglob("*"):
        rank = next((i for i, word in enumerate(made) if word in str(path.parent / path.stem)), 9)
        os.utime(path, (1e9 + rank * 1e4,) * 2)


@pytest.mark.parametrize("moved", [copied, touched, shuffled, reversed_times])
def test_the_same_bytes_are_the_same_run_whatever_their_times(
    moved: Callable[[Path, Path], None], finished: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "moved"
    moved(finished, folder)
    assert not set(planned(folder)) & set(MADE_ONCE)


def test_probes_of_a_finished_run_train_nothing_and_kept_weights_change_no_run(
    finished: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "probed", symlinks=True))
    path = folder / "config" / "experiments" / "smoke.yaml"
    raw = read_yaml(path)
    small = {"tasks": 2, "contexts": 2, "candidates": 4, "replays": 4}
    raw["probes"] = {"at": [0, 1], **small}
    path.write_text(yaml.safe_dump(raw))
    wanted = planned(folder)
    assert wanted["probe"] == wanted["probe_credit"] == 2
    assert not set(wanted) & {*MADE_ONCE, "train_kept"}
    done = snakemake(folder, "--until", "probe_credit", *SMOKE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list(folder.glob("results/runs/*/probe/*.diagnostics.json"))) == 2
    assert not list(folder.glob("scratch/*.probe-*"))
    # a share between needs weights that this training did not keep
    raw["probes"] = {"at": [0, 0.5, 1], **small}
    path.write_text(yaml.safe_dump(raw))
    wanted = planned(folder)
    assert wanted["train_kept"] == 1
    assert "train" not in wanted
    before = {p: p.read_bytes() for p in folder.glob("results/runs/*/model/*/model.safetensors")}
    done = snakemake(folder, "--until", "probe_credit", *SMOKE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert before == {path: path.read_bytes() for path in before}
    assert len(list(folder.glob("results/runs/*/kept-0.50/policy*"))) == 2
    assert len(list(folder.glob("results/runs/*/probe/0.50-*.diagnostics.json"))) == 1
    # and one that keeps none any more does not train again
    raw["probes"] = {"at": [0, 1], **small}
    path.write_text(yaml.safe_dump(raw))
    assert not set(planned(folder)) & {"train", "train_kept"}


def change(path: Path) -> None:
    """Another last byte."""
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


@pytest.mark.parametrize("name", ["results/models/smoke-*", "results/runs/*/model/policy0"])
def test_a_changed_byte_of_a_model_is_refused_before_any_job(
    name: str, finished: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "changed"
    copied(finished, folder)
    (place,) = (p for p in folder.glob(name) if p.is_dir())
    change(place / "model.safetensors")
    done = snakemake(folder, "-n", *SMOKE)
    assert done.returncode != 0
    assert re.search(r"model\.safetensors has sha256 .* Remedy", done.stdout + done.stderr)


def test_changed_bytes_of_an_input_are_noticed(finished: Path, tmp_path: Path) -> None:
    """A task table, of whatever size; and a manifest that stands for another folder."""
    folder = tmp_path / "table"
    copied(finished, folder)
    (table,) = (folder / "results" / "tasks").glob("*.parquet")
    change(table)
    assert planned(folder)["train"] == 1
    folder = tmp_path / "manifest"
    copied(finished, folder)
    (manifest,) = (folder / "results" / "models").glob("*.manifest.json")
    (model,) = (p for p in manifest.parent.iterdir() if p.is_dir())
    change(model / "model.safetensors")
    schema.write_manifest(model)
    wanted = planned(folder)
    assert wanted["train"] == wanted["rollout"] == 1


def test_a_failure_is_summed_up_in_a_folder_with_spaces(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mein prüf $tand; (1)"
    copied(finished, folder)
    (model,) = (p for p in (folder / "results" / "models").iterdir() if p.is_dir())
    shutil.rmtree(model)
    shutil.rmtree(folder / "config" / "base_models" / "smoke")
    done = snakemake(folder, f"results/models/{model.name}", *SMOKE)
    text = done.stdout + done.stderr
    assert done.returncode != 0
    summary = text.split("failed: model model=smoke-")[1]
    assert "is pinned, but is not there. Remedy: git checkout" in summary
    (again,) = re.findall("^  again: (.*)$", summary, re.MULTILINE)
    assert shlex.split(again)[:2] == ["snakemake", f"results/models/{model.name}"]


def test_a_key_written_twice_for_the_workflow_is_refused(checkout: Path) -> None:
    """Snakemake's own loader would keep the last: of its config, of a further one, of a profile."""
    for name, arguments in (
        ("config/config.yaml", ()),
        ("more.yaml", ("--configfile", "more.yaml")),
        ("workflow/profiles/slurm/config.yaml", ()),
    ):
        path = checkout / name
        text = path.read_text() if path.is_file() else ""
        path.write_text(text + "offload: false\noffload: false\n")
        done = snakemake(checkout, "-n", *arguments)
        assert done.returncode != 0
        said = rf"{re.escape(name)}, line \d+: the key 'offload' is written twice"
        assert re.search(said, done.stdout + done.stderr)
        path.write_text(text or "offload: false\n")


def test_rules_quote_whatever_is_not_constant() -> None:
    """Every word that a rule puts into a command line, but numbers and `sharding`, which is options
    of our own."""
    bare = {"threads", "resources.sharding", "params.model", "params.plan"}
    bare |= {"params.held_out", "params.published"}
    for path in [ROOT / "workflow" / "Snakefile", *(ROOT / "workflow" / "rules").glob("*.smk")]:
        commands = re.findall(r'shell(?:\(|:)((?:\s*"[^\n]*")+)', path.read_text())
        for command in commands:
            words = re.findall(r"(?<!\{)\{([a-z_.]+)(:q)?\}", command)
            assert not [w for w, quoted in words if not quoted and w not in bare], path.name


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
    assert planned["figure"] == 11 + 5
    assert planned["table"] == planned["experiment_config"] == 2
    assert planned["model"] == 1 + 2  # the oracle experiment's, and one for each training seed


def test_what_is_evaluated_is_no_input_of_a_training(checkout: Path) -> None:
    """SmolLM2 learns arithmetic and is evaluated on GSM8K too; what is dropped is a named file
    beside the table.
    """
    done = snakemake(checkout, "-n", "--config", "experiments=[smollm2]")
    assert done.returncode == 0, done.stderr
    text = done.stdout + done.stderr
    inputs = {
        rule: re.findall(rf"^rule {rule}:\n    input: (.*)\n", text, re.MULTILINE)
        for rule in ("train", "held_out", "rollout")
    }
    assert {rule: len(of_jobs) for rule, of_jobs in inputs.items()} == {
        "train": 3,
        "held_out": 1,
        "rollout": 3,
    }
    assert all(re.search(r"arithmetic-\w+\.held_out\.json", job) for job in inputs["train"])
    assert not any("gsm8k" in job for job in inputs["train"])
    assert all(re.search(r"gsm8k-\w+\.parquet", job) for job in inputs["rollout"])
    assert re.search(r"results/tasks/gsm8k-\w+\.dropped\.json", text)


def test_published_test_sets_are_held_out_of_a_training_on_published_items(checkout: Path) -> None:
    done = snakemake(checkout, "-n", "--config", "experiments=[c3_duo_math]", "vllm_python=python")
    assert done.returncode == 0, done.stderr
    text = done.stdout + done.stderr
    [held_out] = re.findall(r"^rule held_out:\n    input: (.*)\n", text, re.MULTILINE)
    for name in ("math_cmath", "aime24", "gaokao2023en", "math500", "cmath", "gsm8k", "logiqa"):
        assert f"results/tasks/{name}-" in held_out, name


def test_an_experiment_that_follows_a_paper_stands_beside_it(checkout: Path) -> None:
    page = "results/experiments/{}/report.html"
    for name, tables in (("c3_duo_math", 1), ("smoke", 0)):
        config = [f"experiments=[{name}]", "vllm_python=python"]
        done = snakemake(checkout, "-n", page.format(name), "--config", *config)
        assert done.returncode == 0, done.stderr
        text = done.stdout + done.stderr
        assert jobs(text).get("beside_paper", 0) == tables
        assert len(re.findall(r"input: .*tables/published\.csv", text)) == tables


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
