"""The loop: interrupted equals uninterrupted, bad input ends before any training, canaries stop a
run.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from conftest import ROOT, make_files, run_data

from ccpo import lineage, schema
from ccpo.config import RunConfig, canonical, read_run
from ccpo.learn import train as training
from ccpo.learn import update
from ccpo.learn.interrupt import INTERRUPTED
from ccpo.models import policy

COMPARED = ["train.parquet", "credit.parquet", "ledger.parquet"]


def command(files: dict[str, Path], out: Path, scratch: Path) -> list[str]:
    paths = {k: files[k] for k in ("config", "tasks", "model")} | {"scratch": scratch, "out": out}
    return [
        sys.executable,
        "-m",
        "ccpo",
        "train",
        *(x for k, v in paths.items() for x in (f"--{k}", str(v))),
    ]


def same(a: Path, b: Path, start: Path) -> None:
    """Both runs wrote the same bytes, and their policies moved away from where they started."""
    moved = [
        (f / "model.safetensors").read_bytes() != (start / "model.safetensors").read_bytes()
        for f in (a / "model").iterdir()
    ]
    assert moved == [True, True]
    for name in COMPARED:
        assert (a / name).read_bytes() == (b / name).read_bytes(), name
    assert schema.sha256(a / "model") == schema.sha256(b / "model")


def stopped_after_an_update(update: Callable[..., object]) -> Callable[..., object]:
    """`update`, after which the process gets SIGTERM."""

    def stopping(*args: object) -> object:
        done = update(*args)
        os.kill(os.getpid(), signal.SIGTERM)
        return done

    return stopping


@pytest.mark.usefixtures("lively")
def test_stopped_by_a_signal_and_resumed_equals_uninterrupted(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = {k: files[k] for k in ("config", "tasks", "model")}
    training.train(**plain, scratch=files["scratch"].with_name("other"), out=files["out"])
    again = files["out"].with_name("again")
    stopping = stopped_after_an_update(training.update)
    with monkeypatch.context() as patch:
        patch.setattr(training, "update", stopping)
        for step in range(1, 4):
            with pytest.raises(SystemExit) as stop:
                training.train(**plain, scratch=files["scratch"], out=again)
            assert stop.value.code == INTERRUPTED
            assert (files["scratch"] / f"step-{step:08d}").is_dir()
            assert not again.exists()
    training.train(**plain, scratch=files["scratch"], out=again)
    same(files["out"], again, files["model"])
    # a job that fails when all is done has its outputs deleted: they are made again from the last
    # checkpoint
    shutil.rmtree(again)
    training.train(**plain, scratch=files["scratch"], out=again)
    same(files["out"], again, files["model"])
    assert schema.read_table(again / "train.parquet", "train").num_rows == 4 * 2


@pytest.mark.usefixtures("lively")
def test_a_signal_while_a_batch_is_played_drops_the_batch_and_nothing_else(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long rollout is not waited for: what was learnt before is saved, and the batch is played
    again, bit for bit.
    """
    plain = {k: files[k] for k in ("config", "tasks", "model")}
    training.train(**plain, scratch=files["scratch"].with_name("other"), out=files["out"])
    again = files["out"].with_name("again")
    play = training.play
    batches = []
    after = []

    def interrupted(*args: object, **more: object) -> object:
        batches.append(1)
        if len(batches) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)  # the rest of a long rollout
            after.append(1)
        return play(*args, **more)

    with monkeypatch.context() as patch:
        patch.setattr(training, "play", interrupted)
        with pytest.raises(training.Interrupted) as stop:
            training.train(**plain, scratch=files["scratch"], out=again)
    assert (stop.value.code, stop.value.progress, after) == (INTERRUPTED, 2, [])
    assert (files["scratch"] / "step-00000002").is_dir()
    training.train(**plain, scratch=files["scratch"], out=again)
    same(files["out"], again, files["model"])


@pytest.mark.usefixtures("lively")
def test_killed_at_random_moments_equals_uninterrupted(
    tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kill -9 at 20 random moments, every second one in the midst of a save (every update saves
    here); the run is then finished.
    """
    files = make_files(tmp_path, tiny, train={"steps": 60, "period": 3})
    monkeypatch.setattr(training, "EVERY", 1)
    plain = {k: files[k] for k in ("config", "tasks", "model")}
    scratch = tmp_path / "s2"
    killed = tmp_path / "killed"

    def start(out: Path, folder: Path, flushes: int = 0) -> int:
        """A child process that trains; it exits with 0 when it is done, or kills itself when it
        flushes a file for the n-th time.
        """
        if child := os.fork():
            return child
        try:
            flush = os.fsync
            done = []

            def dying(handle: int) -> None:
                done.append(handle)
                if len(done) == flushes:
                    os.kill(os.getpid(), signal.SIGKILL)
                flush(handle)

            os.fsync = dying
            training.train(**plain, scratch=folder, out=out)
            os._exit(0)
        except BaseException:
            os._exit(1)

    begun = time.monotonic()
    assert os.waitpid(start(tmp_path / "whole", tmp_path / "s1"), 0)[1] == 0
    # of an update, here and now: in fixed times a fast machine would reach the end
    pace = (time.monotonic() - begun) / 60
    rng = random.Random(0)
    kills = 0
    torn = 0
    while kills < 20:
        before = sorted(p.name for p in scratch.glob("*"))
        torn_save = kills % 2 == 1
        child = start(killed, scratch, flushes=rng.randint(1, 5) if torn_save else 0)
        while (
            not torn_save and sorted(p.name for p in scratch.glob("*")) == before
        ):  # until it has begun to save
            time.sleep(0.001)
        if not torn_save:
            time.sleep(rng.random() * 1.5 * pace)
            os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL, "it ended before it was killed"
        kills += 1
        torn += any(p.name.endswith(".tmp") for p in scratch.iterdir())
    assert torn >= 5  # kills that left half a checkpoint behind
    assert os.waitpid(start(killed, scratch), 0)[1] == 0
    same(tmp_path / "whole", killed, files["model"])


def test_a_damaged_checkpoint_stops_the_run_and_names_the_way_on(
    files: dict[str, Path], tmp_path: Path
) -> None:
    run = RunConfig.model_validate(run_data())
    state = training.State(run, files["model"])
    for step in (1, 2, 3):
        state.step = step
        state.save(files["scratch"])
    assert sorted(p.name for p in files["scratch"].iterdir()) == ["step-00000002", "step-00000003"]
    weights = files["scratch"] / "step-00000003" / "weights.pt"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(
        ValueError,
        match=r"step-00000003 is damaged: weights.pt.*delete that folder to go on from "
        r"step-00000002",
    ):
        training.train(**files)
    shutil.rmtree(files["scratch"] / "step-00000003")
    assert state.resume(files["scratch"])
    assert state.step == 2


def refused(files: dict[str, Path]) -> str:
    """The message with which training refuses its input: exit code 1, one line, nothing written."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command(files, files["out"], files["scratch"]),
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert not files["out"].exists()
    return done.stderr


def test_a_checkpoint_of_another_run_is_refused(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even one that would fit: only the seed differs."""
    plain = {k: files[k] for k in ("config", "tasks", "model", "scratch")}
    with monkeypatch.context() as patch:
        patch.setattr(training, "update", stopped_after_an_update(training.update))
        with pytest.raises(SystemExit):
            training.train(**plain, out=files["out"])
    saved = {p: p.read_bytes() for p in files["scratch"].rglob("*.pt")}
    owner = read_run(files["config"]).id
    other = RunConfig.model_validate(run_data(seed=1))
    schema.write_text(tmp_path / "other.json", canonical(other.model_dump(mode="json")))
    words = f"belongs to {re.escape(owner)}, this run is {re.escape(other.id)}. Remedy"
    with pytest.raises(ValueError, match=words):
        training.train(**{**plain, "config": tmp_path / "other.json"}, out=tmp_path / "never")
    assert not (tmp_path / "never").exists()
    assert {p: p.read_bytes() for p in files["scratch"].rglob("*.pt")} == saved
    training.train(**plain, out=files["out"])  # its own run goes on


def test_a_model_folder_that_is_not_what_it_was_is_refused(
    files: dict[str, Path], tmp_path: Path
) -> None:
    """One byte of its weights, whatever its time says; a further file; one that is gone."""
    model = shutil.copytree(files["model"], tmp_path / "model")
    schema.write_manifest(model)
    schema.check_manifest(model)
    weights = model / "model.safetensors"
    whole = weights.read_bytes()
    times = weights.stat()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))
    inputs = {k: files[k] for k in ("config", "tasks", "scratch", "out")}
    with pytest.raises(ValueError, match=r"model\.safetensors has sha256 .* recorded .* Remedy"):
        training.train(**inputs, model=model)
    weights.write_bytes(whole)
    schema.check_manifest(model)  # bytes count, times do not
    (model / "more.txt").write_text("")
    with pytest.raises(ValueError, match=r"more\.txt has sha256 .* recorded none"):
        schema.check_manifest(model)
    (model / "more.txt").unlink()
    (model / "config.json").rename(tmp_path / "config.old")
    with pytest.raises(ValueError, match=r"config\.json has sha256 none"):
        schema.check_manifest(model)


def test_a_part_of_a_folder_is_compared_with_its_part_of_the_manifest(tmp_path: Path) -> None:
    for name in ("policy0", "policy1"):
        (tmp_path / "model" / name).mkdir(parents=True)
        (tmp_path / "model" / name / "weights").write_text(name)
    schema.write_manifest(tmp_path / "model")
    (tmp_path / "model" / "policy1" / "weights").write_text("other")
    schema.check_manifest(tmp_path / "model" / "policy0")
    with pytest.raises(ValueError, match="policy1/weights"):
        schema.check_manifest(tmp_path / "model" / "policy1")


def test_missing_model_is_one_clear_error(files: dict[str, Path], tmp_path: Path) -> None:
    assert "does not exist. Remedy" in refused({**files, "model": tmp_path / "nowhere"})


def test_truncated_weights_are_one_clear_error(files: dict[str, Path], tmp_path: Path) -> None:
    broken = shutil.copytree(files["model"], tmp_path / "broken")
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert "cannot be loaded" in refused({**files, "model": broken})


def test_foreign_task_tables_are_refused(files: dict[str, Path]) -> None:
    import pyarrow.parquet as pq

    whole = files["tasks"].read_bytes()
    table = pq.read_table(files["tasks"])
    lineage.passport_of(files["tasks"]).unlink()  # whose hash would be named before
    pq.write_table(table.replace_schema_metadata({"ccpo.schema": "tasks/99"}), files["tasks"])
    assert "holds tasks/99, this code reads tasks/3" in refused(files)
    files["tasks"].write_bytes(whole[:-50])
    assert "not a whole Parquet file" in refused(files)
    schema.write_table(files["tasks"], schema.rows_to_table("tasks", []))
    assert "holds no task of split train" in refused(files)


def test_config_with_an_unknown_key_is_refused(files: dict[str, Path]) -> None:
    data = RunConfig.model_validate(run_data()).model_dump(mode="json") | {"sede": 1}
    schema.write_text(files["config"], canonical(data))
    assert "unknown key 'sede'" in refused(files)


def test_a_reward_that_is_not_finite_stops_before_the_update(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ccpo.play import rollout

    original = rollout.make_tree
    monkeypatch.setattr(
        rollout,
        "make_tree",
        lambda structure, **k: original(
            structure, **{**k, "leaf_reward": k["leaf_reward"] * np.nan}
        ),
    )
    with pytest.raises(ValueError, match=r"has reward nan.*Remedy"):
        training.train(**files)
    assert not files["out"].exists()


@pytest.mark.usefixtures("lively")
def test_an_engine_sleeps_before_every_update_and_is_refreshed_when_its_policy_changed(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two policies in turns of one update: each engine sleeps before all four, is refreshed after
    its own two.
    """
    from ccpo.play.engine.hf import HF

    called: list[tuple[str, int]] = []
    for name in ("sleep", "refresh"):
        monkeypatch.setattr(HF, name, lambda self, name=name: called.append((name, id(self))))
    training.train(**files)
    sleeps = [engine for name, engine in called if name == "sleep"]
    a, b = sleeps[:2]
    assert sleeps == [a, b] * 4
    assert [engine for name, engine in called if name == "refresh"] == [a, b, a, b]
    assert [name for name, _ in called] == ["sleep", "sleep", "refresh"] * 4


@pytest.mark.usefixtures("lively")
def test_the_canary_stops_a_run_whose_engine_lags_behind(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunConfig.model_validate(run_data())
    state = training.State(run, files["model"])
    stale = policy.load(files["model"])[0]
    with torch.no_grad():
        for weight in stale.parameters():
            weight.mul_(1.1)
    for endpoint in state.endpoints:
        endpoint.engine.model = stale
    with pytest.raises(ValueError, match="does not speak with the trainer's weights"):
        training.update(run, run.build_team(), training.read_tasks(files["tasks"], "train"), state)


@pytest.mark.usefixtures("lively")
def test_micro_batches_have_the_gradient_of_one_batch(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within 1e-5 of its norm. float32 rounds by 6e-8 a number, and what messages of both signs add
    up to is a few times smaller than they are; a message that counts otherwise shows at 1e-2.
    """
    run = RunConfig.model_validate(run_data(train={"minibatches": 1}))
    pool = training.read_tasks(files["tasks"], "train")

    def gradient(budget: int) -> torch.Tensor:
        def parts(messages: object, part: np.ndarray, model: object) -> list[update.Batch]:
            return [update.Batch(part[i : i + budget], None) for i in range(0, len(part), budget)]

        monkeypatch.setattr(update, "micro_batches", parts)
        state = training.State(run, files["model"])
        kept = []
        for optimiser in state.optimisers:
            optimiser.step = lambda lr, o=optimiser: float(
                len(kept.append([p.grad.flatten() for p in o.parameters.values()]) or kept)
            )
        training.update(run, run.build_team(), pool, state)
        [parts_of_it] = kept
        return torch.cat(parts_of_it)

    one = gradient(10_000)
    many = gradient(3)
    assert (one - many).norm() < 1e-5 * one.norm()
    assert one.norm() > 1e-3


@pytest.mark.usefixtures("lively")
def test_messages_without_advantage_are_left_out_of_the_update_exactly(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gradient without computing them is the gradient with them: they add nothing but their
    share of the mean.
    """
    run = RunConfig.model_validate(run_data(train={"minibatches": 1}))
    state = training.State(run, files["model"])
    from ccpo.play.rollout import play
    from ccpo.play.types import Ledger, PlayingTeam

    pool = training.read_tasks(files["tasks"], "train")[:4]
    playing = PlayingTeam(run.build_team(), state.endpoints, 1.0, (6,))
    played = play(run.plan(), pool, playing, [0], Ledger())
    chosen = np.flatnonzero(played.tree.factual & (played.tree.agent == 0))
    advantage = np.zeros(len(played.tree))
    advantage[chosen[::2]] = 1.0
    grads = []
    # without them, and with them
    for keep in (
        lambda p, part, m: [update.Batch(part, None)] if len(part) else [],
        lambda p, part, m: [update.Batch(chosen, None)],
    ):
        monkeypatch.setattr(update, "micro_batches", keep)
        fresh = training.State(run, files["model"])
        fresh.optimisers[0].step = lambda lr: 0.0
        lessons = update.Lessons(played.messages, advantage, chosen)
        update.update_policy(run, fresh.learner(0, run), lessons, 0)
        grads.append([p.grad.clone() for p in fresh.models[0].parameters()])
    for a, b in zip(*grads, strict=True):
        assert torch.allclose(a, b, atol=1e-6)
    assert max(float(g.abs().max()) for g in grads[0]) > 1e-4


def test_the_ledger_counts_what_was_generated(files: dict[str, Path]) -> None:
    training.train(**files)
    ledger = schema.read_table(files["out"] / "ledger.parquet", "ledger").to_pandas()
    train = schema.read_table(files["out"] / "train.parquet", "train").to_pandas()
    assert ledger.generated_tokens.sum() == train.generated_tokens.max()
    # updates, tasks, joint and solo
    assert ledger.evaluator_calls.sum() == train.evaluator_calls.max() == 4 * 4 * (4 + 4)
    one = ledger[(ledger.step == 1) & (ledger.purpose == "update")]
    assert one.trained_tokens.sum() == 0  # nothing was earned, so no message had an advantage
    credit = schema.read_table(files["out"] / "credit.parquet", "credit").to_pandas()
    assert one.agent.tolist() == [0]  # alternating: the Thinker learns first
    assert credit.step.value_counts().to_dict() == {
        1: 4 * (4 + 4 + 4),
        4: 4 * (4 + 4 + 4),
    }  # the first update and the last


@pytest.mark.parametrize(
    ("credit", "team", "fanout", "advantage", "objective"),
    [
        ("c3", "reasoner_actor", [2, 2], {"name": "group_z", "eps_inside": True}, "dr_grpo"),
        ("c3", "reasoner_actor_verifier", [2, 2, 2], "none", "dapo"),
        ("magrpo", "chain", [4, 1, 1], {"name": "group_z", "eps_inside": True}, "grpo"),
        ("ccpo", "think_reason", [4, 1], {"name": "group_z", "ddof": 1, "eps": 1e-6}, "rema_turn"),
        ("ccpo", "reasoner_actor", [4, 1], "batch_whiten", "gspo"),
        ("shapley", "vote", [4, 1, 1], "batch_whiten", "grpo"),
        ("shared", "single", [1], "batch_whiten", "grpo"),
        (
            "mappo",
            "reasoner_actor",
            [4, 1],
            {"name": "batch_whiten", "unit": "message", "per_token": True},
            "grpo",
        ),
        ("ccpo", "think_solve", [4, 1], "gae", {"name": "reinforce_pp", "kl": 0.1}),
        (
            "ccpo_v1",
            "think_reason",
            [4, 1],
            {"name": "group_z", "ddof": 1, "eps": 1e-6},
            {"name": "rema_turn", "entropy": 0.01},
        ),
        ("ccpo_vote", "vote", [4, 1, 1], "history", {"name": "gspo", "kl": 0.1, "entropy": 0.01}),
        (
            {"name": "c3", "variant": "value_assisted"},
            "reasoner_actor",
            [2, 2],
            "none",
            {"name": "grpo", "kl": 0.1},
        ),
    ],
)
@pytest.mark.usefixtures("lively")
def test_methods_teams_normalisers_and_objectives_train_together(
    credit: object,
    team: str,
    fanout: list[int],
    advantage: object,
    objective: object,
    tmp_path: Path,
    tiny: Path,
) -> None:
    """An update of each: weights move, and all messages of the plan are recorded with finite
    advantages.
    """
    over = {
        "credit": credit,
        "team": team,
        "advantage": advantage,
        "objective": objective,
        "policy": "shared",
    }
    if credit == "mappo" or advantage == "gae" or isinstance(credit, dict):
        over["critic"] = {"lr": 1e-2, "steps": 2}
    files = make_files(tmp_path, tiny, **over, train={"steps": 1, "fanout": fanout})
    training.train(**files)
    rows = schema.read_table(files["out"] / "credit.parquet", "credit").to_pylist()
    per_task = sum(int(np.prod(fanout[: t + 1])) for t in range(len(fanout)))
    factual = [r for r in rows if r["removed"] == -1]
    assert len(factual) == 4 * per_task
    assert any(r["advantage"] for r in factual)
    before = policy.load(tiny)[0].state_dict()
    after = policy.load(files["out"] / "model/policy0")[0].state_dict()
    assert any(not torch.equal(before[k], after[k]) for k in before)


@pytest.mark.usefixtures("lively")
@pytest.mark.parametrize("credit", ["mappo", "ccpo_v1"])
def test_critic_and_memory_survive_an_interruption(
    credit: str, tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a method remembers, and what a critic has learnt, is in the checkpoint: stopped after
    every update equals uninterrupted.
    """
    over = {"credit": credit, "policy": "shared", "advantage": "batch_whiten"}
    if credit == "mappo":
        over["critic"] = {"lr": 1e-2, "warmup": 1}
    files = make_files(tmp_path, tiny, **over, train={"steps": 3})
    training.train(**{**files, "scratch": tmp_path / "other"})
    again = files["out"].with_name("again")
    stopping = stopped_after_an_update(training.update)
    with monkeypatch.context() as patch:
        patch.setattr(training, "update", stopping)
        for _ in range(2):
            with pytest.raises(SystemExit):
                training.train(**{**files, "out": again})
    training.train(**{**files, "out": again})
    for name in COMPARED:
        assert (files["out"] / name).read_bytes() == (again / name).read_bytes(), name
    assert schema.sha256(files["out"] / "model") == schema.sha256(again / "model")
    table = schema.read_table(again / "train.parquet", "train").to_pandas()
    if credit == "mappo":
        assert table.active.tolist() == [False] * 2 + [True] * 4  # the critic's warm-up
        assert (table.critic_error > 0).all()


def test_a_critic_learns_what_a_text_is_worth(tiny: Path) -> None:
    """Texts that end in one of two tokens are worth 0 or 1: both kinds of critic get there; equal
    texts get equal values.
    """
    from ccpo.config import Critic as Settings
    from ccpo.learn.critic import Body, Critic

    model = policy.load(tiny)[0]
    rng = np.random.default_rng(0)
    texts = [[*rng.integers(5, 60, rng.integers(1, 6)).tolist(), 10 + k % 2] for k in range(64)]
    worth = np.array([k % 2 for k in range(64)], float)
    for kind, start in (("context", 0.0), ("message", 0.5)):
        critic = Critic(Body.of_policy(model), kind, Settings(lr=1e-2, steps=2))
        before = critic.values(texts)
        assert before == pytest.approx(start, abs=1e-6)
        for _ in range(40):
            error = critic.fit(texts, critic.values(texts), worth)
        assert error < 0.15, kind
        assert (
            np.abs(
                critic.values([texts[0], texts[1], texts[0]])[[0, 2]] - critic.values(texts[:1])
            ).max()
            < 1e-5
        )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["context", "message"])
def test_every_weight_of_a_critic_that_has_a_gradient_moves(
    tiny: Path, dtype: str, kind: Literal["context", "message"]
) -> None:
    """At a usual learning rate, which bfloat16's own 8 bits would round away for most weights. A
    first step of AdamW moves a weight by lr where its gradient is far above eps (1e-8).
    """
    from ccpo.config import Critic as Settings
    from ccpo.learn.critic import Body, Critic

    lr = 1e-5
    critic = Critic(Body.of_policy(policy.load(tiny, dtype)[0]), kind, Settings(lr=lr))
    texts = [[5, 6, 7 + k] for k in range(8)]
    targets = np.arange(8) % 2.0
    network: Any = critic.network
    torch.nn.init.ones_(network.head.weight)  # where it is zero the body has no gradient
    before = {k: v.clone() for k, v in critic.state_dict()["weights"].items()}
    gradients = {}
    step = critic.optimiser.step

    def noting(lr: float) -> float:
        masters = critic.optimiser.masters
        gradients.update({k: m.grad.clone() for k, m in masters.items() if m.grad is not None})
        return step(lr)

    critic.optimiser.step = noting  # type: ignore[method-assign]
    critic.fit(texts, critic.values(texts), targets)
    after = critic.state_dict()["weights"]
    moved = learning = 0
    for name, gradient in gradients.items():
        assert after[name].dtype == torch.float32
        clear = gradient.abs() > 1e-6
        learning += int(clear.sum())
        moved += int((clear & (after[name] != before[name])).sum())
    assert learning > 1000
    assert moved == learning


def test_the_optimisers_state_goes_on_beside_its_parameter(tiny: Path) -> None:
    """A fused step on a GPU reads its number there. The device that stands in for one here holds no
    numbers and cannot be mixed with a CPU's.
    """
    from ccpo.learn.optimisers import AdamWSettings, Plain

    plain = Plain(policy.load(tiny)[0], AdamWSettings(lr=1e-3))
    plain.backward(lambda model: (model(input_ids=torch.tensor([[5, 6]])).logits.sum(), None))
    plain.step(1e-3)
    weights, moments = plain.state()
    elsewhere = Plain(policy.load(tiny)[0], AdamWSettings(lr=1e-3))
    elsewhere.masters = {
        name: torch.nn.Parameter(torch.empty_like(master, device="meta"))
        for name, master in elsewhere.masters.items()
    }
    elsewhere.parameters = elsewhere.masters
    elsewhere.load(weights, moments)
    states = elsewhere.adamw.state
    assert len(states) == len(weights) > 5
    for master, state in states.items():
        assert {value.device for value in state.values()} == {master.device}
        assert master.device.type == "meta"


def test_value_clipping_stops_the_gradient_of_what_moved_too_far(tiny: Path) -> None:
    from ccpo.config import Critic as Settings
    from ccpo.learn.critic import Body, Critic

    body = Body.of_policy(policy.load(tiny)[0])
    critic = Critic(body, "context", Settings(lr=1e-2, clip=0.5))
    # moved by 0.2, 0.9 towards and 0.9 beyond their targets
    scores = torch.tensor([0.2, 0.9, 0.9], requires_grad=True)
    loss = critic._loss(scores, torch.zeros(3), torch.tensor([1.0, 1.0, 0.3]))
    loss.backward()
    assert loss.item() == pytest.approx((0.8**2 + 0.5**2 + 0.6**2) / 2, abs=1e-6)
    assert scores.grad == pytest.approx([-0.8, 0.0, 0.6], abs=1e-6)


def test_a_full_disk_is_said_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Torch reports a failed write as an error of its own stream; what is said is why."""
    import errno

    from ccpo import __main__ as cli

    def full(*_: object) -> None:
        raise RuntimeError("PytorchStreamWriter failed writing file data/0")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(RuntimeError):  # there is room: another fault
        policy.write_checkpoint(tmp_path, 1, {"weights.pt": 1})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    monkeypatch.setattr(
        "ccpo.files.sha256", lambda _: policy.write_checkpoint(tmp_path, 1, {"weights.pt": 1})
    )
    monkeypatch.setattr(sys, "argv", ["ccpo", "hash", str(tmp_path)])
    assert cli.main() == 1
    assert f"ccpo hash: {os.strerror(errno.ENOSPC)}: {tmp_path}" in capsys.readouterr().err
