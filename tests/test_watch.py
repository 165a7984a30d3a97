"""What a study is said to be, from files only: each state from the files that make it so."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import time
from pathlib import Path

import pytest
from rich.console import Console

from ccpo import lease, lineage
from ccpo.config import Experiment, read_experiment
from ccpo.operate import live, seconds, watch

NOW = 1_800_000_000.0
# As Snakemake 9.27 and its SLURM plugin 2.8 write it; RUN stands for a run's name.
LOG = """\
Job stats:
  Command: /somewhere/bin/snakemake --profile slurm --config 'experiments=[smoke]'

[Sat Nov 21 16:42:24 2026]
localrule run_config:
    output: results/runs/RUN/config.json
    log: logs/run_config/RUN.log
    jobid: 3
    reason: Missing output files: results/runs/RUN/config.json
    wildcards: run=RUN
    resources: tmpdir=<TBD>

[Sat Nov 21 16:42:24 2026]
Finished jobid: 3 (Rule: run_config)
1 of 30 steps (3%) done

[Sat Nov 21 16:42:30 2026]
rule train:
    input: results/runs/RUN/config.json, results/models/smoke-12345678
    output: results/runs/RUN/model, results/runs/RUN/train.parquet
    log: logs/train/RUN.log
    jobid: 2
    reason: Missing output files: results/runs/RUN/model
    wildcards: run=RUN
    resources: tmpdir=<TBD>, mem_mb=2000, slurm_partition=gpu

Job 2 has been submitted with SLURM jobid 41 (log: /x/.snakemake/slurm_logs/rule_train/RUN/41.log).
"""
# its own Snakemake's log, as shown by `show-failed-logs`, is not this one's
SHOWN = f"""\
Logfile /x/41.log:
{"=" * 80}
localrule train:
    jobid: 0
    wildcards: run=RUN
Error in rule train:
    jobid: 0
Finished jobid: 3 (Rule: train)
{"=" * 80}
"""
FAILED = """\
[Sat Nov 21 16:43:30 2026]
Error in rule train:
    message: SLURM-job '41' failed, SLURM status is: 'FAILED'.
    jobid: 2
    input: results/runs/RUN/config.json
    output: results/runs/RUN/model, results/runs/RUN/train.parquet
    log: logs/train/RUN.log (check log file(s) for error details)
    shell:
        python -m ccpo train
        (command exited with non-zero exit code)
    external_jobid: 41
"""
AGAIN = FAILED + SHOWN + "Trying to restart job 2.\n"
SUBMITTED = AGAIN + LOG[LOG.index("rule train:") :].replace("jobid 41", "jobid 57")
GROUP = """\
group job 7c9e6679-7425-40de-944b-e07fc1f90ae7 (jobs in lexicogr. order):

    [Sat Nov 21 16:52:30 2026]
    rule score:
        input: results/runs/RUN/eval/P/rollouts.parquet
        output: results/runs/RUN/eval/P/scores.parquet
        log: logs/score/RUN/P.log
        jobid: 8
        reason: Missing output files
        wildcards: run=RUN, protocol=P
        resources: tmpdir=<TBD>

    [Sat Nov 21 16:52:30 2026]
    rule score:
        output: results/runs/OTHER/eval/P/scores.parquet
        log: logs/score/OTHER/P.log
        jobid: 9
        wildcards: run=OTHER, protocol=P

Job 7c9e6679-7425-40de-944b-e07fc1f90ae7 has been submitted with SLURM jobid 77 (log: /x/77.log).
"""
GROUP_FAILED = """\
Error in group 7c9e6679-7425-40de-944b-e07fc1f90ae7:
    message: SLURM-job '77' failed
    jobs:
        rule score:
            jobid: 8
            output: results/runs/RUN/eval/P/scores.parquet
            log: logs/score/RUN/P.log (check log file(s) for error details)
        rule score:
            jobid: 9
            output: results/runs/OTHER/eval/P/scores.parquet
            log: logs/score/OTHER/P.log (check log file(s) for error details)
"""


@pytest.fixture
def study() -> Experiment:
    found = read_experiment("smoke")
    assert isinstance(found, Experiment)
    return found


class Scene:
    """A folder in which Snakemake runs, and the first run of the study in it."""

    def __init__(self, folder: Path, study: Experiment) -> None:
        self.folder = folder
        self.study = study
        self.run = next(iter(next(iter(study.runs.values())).values())).id

    def said(self, text: str) -> None:
        path = self.folder / ".snakemake/log/2026-11-21T164222.315623.snakemake.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("RUN", self.run))

    def writes(self, folder: str = "", **changes: object) -> None:
        status = lease.Status(
            "train",
            "t",
            "m",
            "n1",
            7,
            "41",
            1,
            NOW - 110,
            NOW - 10,
            done=300,
            total=1000,
            note="update 3",
        )
        path = self.folder / "scratch" / (folder or self.run) / "status.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(dataclasses.asdict(dataclasses.replace(status, **changes))))  # type: ignore[arg-type]

    def made(self, name: str, text: str = "{}") -> None:
        path = self.folder / "results/runs" / self.run / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def log(self, stage: str, text: str) -> None:
        path = self.folder / "logs" / stage / f"{self.run}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def look(self) -> watch.Run:
        runs = watch.look(self.study, self.folder, NOW)
        assert len(runs) == 10
        assert {run.state for run in runs[1:]} == {"waiting"}
        return runs[0]


@pytest.fixture
def scene(tmp_path: Path, study: Experiment) -> Scene:
    return Scene(tmp_path, study)


def test_the_newest_log_is_of_jobs(scene: Scene) -> None:
    scene.said(LOG)
    path = watch.newest_log(scene.folder / ".snakemake/log")
    assert path is not None
    (path.parent / "2026-11-21T164300.000000.snakemake.log").write_text(
        "Unlocking working directory.\n"
    )
    assert watch.newest_log(path.parent) == path


def test_nothing_yet(scene: Scene) -> None:
    assert (scene.look().state, scene.look().stage) == ("waiting", "train")


def test_queued_then_running_then_resumed(scene: Scene) -> None:
    scene.said(LOG)
    queued = scene.look()
    assert (queued.state, queued.where, queued.resumed) == ("queued", "SLURM job 41", 0)
    scene.writes()
    running = scene.look()
    assert (running.state, running.note, running.share) == ("running", "update 3", 0.3)
    assert running.where == "process 7 on n1, SLURM job 41"
    # 300 tokens in 100 s, so 700 take 233 s, ten of which are over
    assert running.left == pytest.approx(700 / 3 - 10)
    scene.writes(starts=3, first=200)
    resumed = scene.look()
    assert resumed.resumed == 2
    assert resumed.left == pytest.approx(700 - 10)  # the pace since it began again


def test_interrupted_by_a_signal_or_without_a_word(scene: Scene) -> None:
    scene.said(LOG)
    scene.writes(released=True, error="stopped by a signal after update 3; saved")
    assert (scene.look().state, scene.look().note) == (
        "interrupted",
        "stopped by a signal after update 3; saved",
    )
    scene.writes(at=NOW - 300)
    assert (scene.look().state, scene.look().note) == ("interrupted", "no sign of life for 300 s")


def test_failed_tried_again_failed_for_good(scene: Scene) -> None:
    scene.log(
        "train",
        "14:00:01 update 3\nsrun: error: n1: task 0: Exited\nccpo train: the loss is not "
        "finite\nsrun: error: n1\n\n",
    )
    scene.writes(released=True, error="the loss is not finite")
    scene.said(LOG + FAILED)
    failed = scene.look()
    assert (failed.state, failed.note) == ("failed", "ccpo train: the loss is not finite")
    assert (
        failed.again == f"snakemake results/runs/{scene.run}/model --profile slurm --config "
        "'experiments=[smoke]'"
    )
    scene.said(LOG + SUBMITTED)
    assert scene.look().state == "interrupted"  # in the queue again, as job 57
    jobs = watch.jobs((LOG + SUBMITTED + FAILED).replace("RUN", scene.run))
    assert jobs["2"].attempts == 2
    assert jobs["2"].slurm == "57"
    assert jobs["3"].state == "finished"


def test_the_end_of_a_study_names_what_failed(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(scene.folder)
    scene.log("train", "ccpo train: the loss is not finite\n")
    said = watch.failures((LOG + SUBMITTED + FAILED).replace("RUN", scene.run))
    assert said == [
        f"failed after 2 attempts: train run={scene.run}",
        "  ccpo train: the loss is not finite",
        f"  log: logs/train/{scene.run}.log",
        f"  again: snakemake results/runs/{scene.run}/model --profile slurm --config "
        "'experiments=[smoke]'",
    ]
    assert watch.failures((LOG + SUBMITTED).replace("RUN", scene.run)) == []


def test_groups(scene: Scene) -> None:
    jobs = watch.jobs(LOG + GROUP)
    assert (jobs["8"].state, jobs["8"].slurm, jobs["9"].state) == ("submitted", "77", "submitted")
    jobs = watch.jobs(LOG + GROUP + GROUP_FAILED)
    assert (jobs["8"].state, jobs["9"].state) == ("failed", "failed")
    assert jobs["9"].wildcards == {"run": "OTHER", "protocol": "P"}
    jobs = watch.jobs(
        LOG + GROUP + "Finished jobid: 8 (Rule: score)\nFinished jobid: 9 (Rule: score)\n"
    )
    assert (jobs["8"].state, jobs["9"].state) == ("finished", "finished")


def trained(scene: Scene) -> None:
    """The run's training, which began three times, has ended."""
    ranks = lineage.RanksUsed(world=1, zero=0, offload=False)
    trained = lineage.Trained(
        run=scene.run,
        updates=1,
        starts=3,
        ledger={},
        left_out=(),
        streams={},
        determinism="none",
        threads=1,
        ranks=ranks,
    )
    lineage.write_provenance(
        scene.folder / "results/runs" / scene.run, lineage.begin([]), [], trained
    )


def test_later_stages_and_the_end(scene: Scene) -> None:
    scene.said(LOG)
    trained(scene)
    protocol = scene.study.primary.id
    status = {"stage": "rollout", "done": 1, "total": 5, "note": "arithmetic factual", "starts": 2}
    scene.writes(**status)  # in the folder of the training
    assert (scene.look().stage, scene.look().state) == ("rollout", "waiting")
    scene.writes(folder=f"{scene.run}.{protocol[-8:]}", **status)
    found = scene.look()
    assert (found.stage, found.state, found.resumed, found.share) == ("rollout", "running", 3, 0.2)
    assert found.log == f"logs/rollout/{scene.run}/{protocol}.log"
    assert found.ahead == ("score",)
    scene.made(f"eval/{protocol}/rollouts.parquet")
    assert (scene.look().stage, scene.look().state) == ("score", "waiting")
    scene.made(f"eval/{protocol}/scores.parquet")
    assert (scene.look().state, scene.look().resumed) == ("done", 2)


def test_a_run_is_done_when_it_is_scored_under_every_protocol(scene: Scene) -> None:
    first = scene.study.primary
    second = first.model_copy(update={"name": "second"})
    scene.study = scene.study.model_copy(update={"protocols": (first, second)})
    assert watch.steps(["a", "b"]) == [
        ("train", ""),
        ("rollout", "a"),
        ("score", "a"),
        ("rollout", "b"),
        ("score", "b"),
    ]
    trained(scene)
    for name in ("rollouts", "scores"):
        scene.made(f"eval/{first.id}/{name}.parquet")
    assert (scene.look().stage, scene.look().ahead) == ("rollout", ("score",))
    assert scene.look().log.endswith(f"/{second.id}.log")
    for name in ("rollouts", "scores"):
        scene.made(f"eval/{second.id}/{name}.parquet")
    assert scene.look().state == "done"


def test_when_the_study_ends(scene: Scene) -> None:
    """Typical seconds of what is to come, over as many runs as go on side by side."""
    for stage, typical in (("train", 100), ("rollout", 20), ("score", 4)):
        name = "x.tsv" if stage == "train" else "x/protocol.tsv"
        path = scene.folder / "logs/benchmarks" / stage / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"s\th:m:s\n{typical}\t0:01:40\n")
    runs = [
        watch.Run("a", "c", 0, "train", "running", left=30, ahead=("rollout", "score")),
        watch.Run("b", "c", 1, "rollout", "running", ahead=("score",)),
        watch.Run("d", "c", 2, "train", "waiting", ahead=("rollout", "score")),
    ]
    assert (
        watch.seconds_left([*runs, watch.Run("e", "c", 3, "", "done")], scene.folder)
        == ((30 + 24) + (20 + 4) + 124) / 2
    )
    assert watch.seconds_left(runs[2:], scene.folder) is None


def test_what_is_no_benchmark_file_is_left_out(tmp_path: Path) -> None:
    """What a file manager leaves, what a killed job leaves empty, a folder, an older run's."""
    train = tmp_path / "logs/benchmarks/train"
    (train / "folder.tsv").mkdir(parents=True)
    (tmp_path / "logs/benchmarks/.DS_Store").write_bytes(b"\x00\xff")
    (train / ".DS_Store").write_bytes(b"\x00\xff")
    (train / "binary.tsv").write_bytes(b"\x00\xff\n\xff")
    (train / "empty.tsv").write_text("")
    (train / "cut.tsv").write_text("s\th:m:s\n")
    for name, duration in (("a", 2.5), ("b", 4.0), ("old", 100.0)):
        (train / f"{name}.tsv").write_text(f"s\th:m:s\n{duration}\t0:00:02\n")
    os.utime(train / "old.tsv", (NOW - 10, NOW - 10))
    for name in ("a", "b", "empty", "cut", "binary"):
        os.utime(train / f"{name}.tsv", (NOW, NOW))
    assert sorted(seconds.job_seconds(tmp_path, "train")) == [2.5, 4.0, 100.0]
    assert seconds.job_seconds(tmp_path, "train", "a") == [2.5]
    assert list(seconds.by_rule(NOW - 5, tmp_path)) == [
        "     train:    2 jobs       6.5 s of work, slowest 4.0 s"
    ]
    assert list(seconds.by_rule(NOW, tmp_path / "nowhere")) == []


def test_the_page_shows_failed_and_resumed_runs_in_full(scene: Scene) -> None:
    scene.log("train", "the loss is not finite\n")
    scene.said(LOG + FAILED)
    scene.writes(released=True, error="x", at=time.time())
    study = watch.summary(scene.study, scene.folder)
    assert study.counts == {
        "failed": 1,
        "running": 0,
        "interrupted": 0,
        "queued": 0,
        "waiting": 9,
        "done": 0,
    }
    out = io.StringIO()
    Console(file=out, width=200).print(live.page(study, 10))
    text = out.getvalue()
    assert "smoke  0 of 10 runs done  1 failed  9 waiting" in text
    for words in (
        "the loss is not finite",
        f"log: logs/train/{scene.run}.log",
        "again: snakemake results/runs/",
    ):
        assert words in text
