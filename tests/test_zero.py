"""DeepSpeed's ZeRO takes the steps that plain AdamW takes, keeps float32 weights where plain does,
and saves what plain saves.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT, apart, make_files
from safetensors.torch import load_file
from test_ranks import stopping, together
from test_train import command

from ccpo import __main__ as cli
from ccpo import lineage, ranks, schema
from ccpo.config.run import Train
from ccpo.learn import optimisers, update
from ccpo.learn import train as training
from ccpo.learn.interrupt import INTERRUPTED
from ccpo.models import policy
from ccpo.ranks import Sharding

EVERY = [Sharding(1), Sharding(2), Sharding(2, True), Sharding(3), Sharding(3, True)]


@pytest.fixture
def sharded(monkeypatch: pytest.MonkeyPatch) -> None:
    """DeepSpeed is read once, here, and not by each rank; and shards what is as small as our models
    too.
    """
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    import deepspeed.runtime.zero.muon.muon_optimizer
    import deepspeed.runtime.zero.stage3  # noqa: F401

    monkeypatch.setattr(optimisers, "KEPT_FULL", 0)


def settings(**over: Any) -> Train:
    return Train.model_validate(
        {
            "steps": 1,
            "tasks": 1,
            "fanout": [1],
            "lr": 1e-3,
            "weight_decay": 0.1,
            "grad_clip": 0.5,
            **over,
        }
    )


def nll(model: Any, ids: torch.Tensor) -> tuple[torch.Tensor, dict[str, float]]:
    logps = torch.log_softmax(model(input_ids=ids).logits[:, :-1].float(), -1)
    return -logps.gather(2, ids[:, 1:, None]).mean(), {"tokens": float(ids.numel())}


def walk(learner: optimisers.Optimiser, here: ranks.Ranks, steps: range) -> list[float]:
    """Gradient norms of steps whose micro-batches (3, 2, 1, 3 ...) seldom fit the ranks."""
    norms = []
    for step in steps:
        draw = torch.Generator().manual_seed(step)
        batches = [
            torch.randint(0, 20, (1 + k, 5 + step), generator=draw) for k in range(3 - step % 3)
        ]
        share = here.share(len(batches))
        for k in share:
            assert learner.backward(functools.partial(nll, ids=batches[k]))[1] == {
                "tokens": float(batches[k].numel())
            }
        if len(share) * here.world < len(batches):
            learner.dummy_backward(functools.partial(nll, ids=batches[0]))
        norms.append(learner.step(1e-3 * (1 + step)))
    return norms


def unlike(one: dict[str, Any], two: dict[str, Any]) -> float:
    """How far moments differ in any tensor, as a share of the norm of all. Second moments by their
    roots, which are in a gradient's unit too.
    """
    shares = []
    for key, root in zip(optimisers.MOMENTS, (lambda moment: moment, torch.sqrt), strict=True):
        whole = float(torch.cat([root(moment).flatten() for moment in one[key].values()]).norm())
        shares += [
            float((root(two[key][name]) - root(moment)).norm()) / whole
            for name, moment in one[key].items()
        ]
    return max(shares)


@pytest.mark.usefixtures("sharded", "smooth")
def test_every_stage_takes_the_steps_of_plain_adamw_from_and_to_its_checkpoint(tiny: Path) -> None:
    """Two ranks against one, what differs being the order of float32 sums: gradients' norms within
    1e-5, moments within 1e-5 of the norm of all, weights within 1e-3 of the way they went. What is
    loaded is what is saved, to the bit. A parameter that is frozen stays.
    """

    def model() -> Any:
        fresh = policy.load(tiny)[0].train()
        fresh.base_model.norm.weight.requires_grad_(False)
        return fresh

    plain = optimisers.Plain(model(), settings())
    first = walk(plain, ranks.ALONE, range(3))
    middle = tuple(
        {k: dict(v) if isinstance(v, dict) else v for k, v in part.items()}
        for part in plain.state()
    )
    for part in middle[0], middle[1]["exp_avg"], middle[1]["exp_avg_sq"]:
        part.update({name: tensor.clone() for name, tensor in part.items()})
    norms = walk(plain, ranks.ALONE, range(3, 6))
    assert min(first) > 0.5  # they are clipped
    weights, moments = plain.state()
    start = model().state_dict()
    assert len(weights) == len(list(plain.model.parameters())) - 1
    assert moments["step"] == 6

    ids = torch.arange(8)[None]
    want = nll(plain.model, ids)[0].detach()

    def work(rank: int) -> None:
        here = ranks.join(2)
        for sharding in EVERY:
            fresh = optimisers.make(model(), settings(), here, sharding)
            if sharding == EVERY[0]:
                assert walk(fresh, here, range(3)) == pytest.approx(first, rel=1e-5)
            else:
                fresh.load(*middle)
                kept = fresh.state()
                for name in middle[0] if rank == 0 else ():
                    assert torch.equal(kept[0][name], middle[0][name]), name
                    assert torch.equal(
                        kept[1]["exp_avg_sq"][name], middle[1]["exp_avg_sq"][name]
                    ), name
                assert kept[1]["step"] == 3
            assert walk(fresh, here, range(3, 6)) == pytest.approx(norms, rel=1e-5)
            got, moved = fresh.state()
            assert moved["step"] == 6
            assert (len(got) == len(weights)) == (rank == 0)
            if rank == 0:
                assert apart(weights, got, start) < 1e-3, sharding
                assert unlike(moments, moved) < 1e-5, sharding
            with fresh.gathered():
                assert torch.equal(fresh.model.base_model.norm.weight, torch.ones(16))
                shown = dict(fresh.model.named_parameters())
                assert all(torch.equal(shown[name], got[name]) for name in got)
                for _ in range(1 + 2 * rank):  # ranks need not play in step
                    with torch.inference_mode():
                        assert torch.allclose(nll(fresh.model, ids)[0], want, atol=1e-5)

    assert together(2, work) == [0, 0]


@pytest.mark.usefixtures("sharded")
def test_small_steps_of_bfloat16_policies_add_up(tiny: Path) -> None:
    """Adam's step under a constant gradient is the learning rate: 40 of 5e-5 are 2e-3, where a
    bfloat16 near 1 moves by 4e-3 or not.

    Half of them by one plain rank; its checkpoint goes on everywhere.
    """
    name = "model.norm.weight"

    def made(here: ranks.Ranks, sharding: Sharding) -> optimisers.Optimiser:
        model = policy.load(tiny, "bfloat16")[0].train()
        for each, parameter in model.named_parameters():
            parameter.requires_grad_(each == name)
        return optimisers.make(model, settings(weight_decay=0), here, sharding)

    def walked(learner: Any) -> Any:
        for _ in range(20):
            learner.backward(
                lambda m: (m.base_model.norm(torch.ones(1, 16, dtype=torch.bfloat16)).sum(), {})
            )
            learner.step(5e-5)
        return learner

    half = walked(made(ranks.ALONE, Sharding())).state()
    assert torch.allclose(half[0][name], torch.full((16,), 1 - 1e-3), atol=1e-6)

    def check(here: ranks.Ranks, sharding: Sharding) -> None:
        learner = made(here, sharding)
        learner.load(*half)
        weights, moments = learner.state()
        if here.first:
            assert torch.equal(weights[name], half[0][name])
            assert torch.equal(moments["exp_avg"][name], half[1]["exp_avg"][name])
        weights, moments = walked(learner).state()
        with learner.gathered():
            assert torch.equal(
                learner.model.base_model.norm.weight.float(),
                torch.full((16,), 1 - 2e-3).bfloat16().float(),
            )
        if here.first:
            assert torch.allclose(weights[name], torch.full((16,), 1 - 2e-3), atol=1e-6)
            assert moments["step"] == 40

    def work(rank: int) -> None:
        here = ranks.join(2)
        for sharding in (Sharding(), *EVERY):
            check(here, sharding)

    check(ranks.ALONE, Sharding())
    assert together(2, work) == [0, 0]


def uneven(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Micro-batches of six messages; their numbers, as far as this process sees them."""
    numbers = []

    def parts(messages: object, part: np.ndarray, model: object) -> list[update.Batch]:
        numbers.append(-(-len(part) // 6))
        return [update.Batch(part[i : i + 6], None) for i in range(0, len(part), 6)]

    monkeypatch.setattr(update, "micro_batches", parts)
    return numbers


@pytest.mark.usefixtures("lively", "sharded", "smooth")
@pytest.mark.parametrize(
    ("sharding", "over"),
    [
        (Sharding(3), {}),
        (
            Sharding(2, True),
            {
                "credit": "mappo",
                "policy": "shared",
                "critic": {"lr": 1e-3},
                "objective": {"name": "grpo", "kl": 0.1},
            },
        ),
    ],
    ids=["3, separate", "2, offload, critic, kl"],
)
def test_a_sharded_training_is_that_of_one_rank(
    tmp_path: Path,
    tiny: Path,
    monkeypatch: pytest.MonkeyPatch,
    sharding: Sharding,
    over: dict[str, Any],
) -> None:
    """Five updates: weights within 1e-3 of their way (sums in another order), what was said and
    counted the same; the folder is transformers'.
    """
    files = make_files(tmp_path, tiny, train={"steps": 5, "minibatches": 2}, **over)
    inputs = {k: files[k] for k in ("config", "tasks", "model")}
    numbers = uneven(monkeypatch)
    training.train(**inputs, scratch=tmp_path / "scratch1", out=tmp_path / "one")
    assert any(n % 2 for n in numbers)  # one of two ranks is idle now and then

    def one_rank(rank):
        places = {"scratch": tmp_path / "scratch2", "out": tmp_path / "two"}
        return training.train(
            **inputs, **places, options=training.Options(ranks=2, sharding=sharding)
        )

    assert together(2, one_rank) == [0, 0]
    start = load_file(tiny / "model.safetensors")
    for folder in sorted((tmp_path / "one" / "model").iterdir()):
        one, two = (
            load_file(tmp_path / out / "model" / folder.name / "model.safetensors")
            for out in ("one", "two")
        )
        assert apart(one, two, start) < 1e-3
        assert max(float((two[k] - start[k]).abs().max()) for k in one) > 1e-4
        assert policy.load(tmp_path / "two" / "model" / folder.name)[0].num_parameters() > 0
    assert (tmp_path / "one" / "ledger.parquet").read_bytes() == (
        tmp_path / "two" / "ledger.parquet"
    ).read_bytes()
    for table in ("credit", "train"):
        both = [
            schema.read_table(tmp_path / out / f"{table}.parquet", table).to_pandas()
            for out in ("one", "two")
        ]
        pd.testing.assert_frame_equal(*both, rtol=1e-3, atol=1e-4)
    assert lineage.read_provenance(tmp_path / "two").trained.ranks == lineage.RanksUsed(
        world=2, zero=sharding.stage, offload=sharding.offload
    )


@pytest.mark.usefixtures("lively", "sharded", "smooth")
def test_a_sharded_checkpoint_goes_on_at_any_number_of_ranks_and_stage(
    tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two ranks of stage 3 stop after two of four updates; one plain rank, and two of stage 1, end
    where one that did not ends, within 1e-3 of the way.
    """
    files = make_files(tmp_path, tiny, train={"steps": 4})
    inputs = {k: files[k] for k in ("config", "tasks", "model")}
    training.train(**inputs, scratch=tmp_path / "scratch", out=tmp_path / "one")

    def work(name: str, world: int, sharding: Sharding) -> list[int]:
        return together(
            world,
            lambda _: training.train(
                **inputs,
                scratch=tmp_path / f"s{name}",
                out=tmp_path / name,
                options=training.Options(ranks=world, sharding=sharding),
            ),
        )

    with monkeypatch.context() as patched:
        patched.setattr(training, "update", stopping(training.update))
        assert work("plain", 2, Sharding(3)) == [INTERRUPTED] * 2
    shutil.copytree(tmp_path / "splain", tmp_path / "sother")
    assert work("plain", 1, Sharding()) == [0]
    assert work("other", 2, Sharding(1)) == [0, 0]
    start = load_file(tiny / "model.safetensors")
    for name in ("plain", "other"):
        assert lineage.read_provenance(tmp_path / name).trained.starts == 2
        for folder in sorted((tmp_path / "one" / "model").iterdir()):
            one, two = (
                load_file(tmp_path / out / "model" / folder.name / "model.safetensors")
                for out in ("one", name)
            )
            assert apart(one, two, start) < 1e-3


def test_a_checkpoint_of_other_parameters_is_refused(tiny: Path) -> None:
    plain = optimisers.Plain(policy.load(tiny)[0], settings())
    weights, moments = plain.state()
    weights["new"] = weights.pop("model.norm.weight")
    with pytest.raises(
        ValueError, match=r"model.norm.weight, new \(2 in all\) are in one only. Remedy"
    ):
        plain.load(weights, moments)


@pytest.mark.usefixtures("sharded")
def test_policies_of_one_model_have_an_optimiser_each_below_stage_3(tiny: Path) -> None:
    """Two optimisers, each of its own layer, on one model: one's step leaves the other's parameters
    and moments.
    """

    def work(_: int) -> None:
        here = ranks.join(2)
        for sharding in (Sharding(1), Sharding(2)):
            model = policy.load(tiny)[0].train()
            learners = []
            for part in ("q_proj", "k_proj"):
                for name, parameter in model.named_parameters():
                    parameter.requires_grad_(part in name)
                learners.append(optimisers.make(model, settings(), here, sharding))
            before = {
                name: parameter.detach().clone() for name, parameter in model.named_parameters()
            }
            walk(learners[1], here, range(2))
            moved = {
                name
                for name, parameter in model.named_parameters()
                if not torch.equal(parameter, before[name])
            }
            assert moved == set(learners[1].parameters)
            assert learners[0]._steps() == 0

    assert together(2, work) == [0, 0]


def test_one_process_may_shard_and_its_log_has_one_line_an_update(
    tmp_path: Path, tiny: Path
) -> None:
    """On one GPU there is still something to offload. DeepSpeed says nothing, torch does not say
    what DeepSpeed should not call.
    """
    files = make_files(tmp_path, tiny, train={"steps": 3})
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    asked = [*command(files, files["out"], files["scratch"]), "--zero", "3", "--offload"]
    told = subprocess.run(asked, env=environment, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    assert told.stdout == ""
    *updates, end = told.stderr.splitlines()
    assert [line.split()[1:3] for line in updates] == [["update", str(i)] for i in (1, 2, 3)]
    assert " is trained: update 3 " in end


def test_a_plain_training_does_not_wait_for_deepspeed(tmp_path: Path, tiny: Path) -> None:
    files = {key: str(path) for key, path in make_files(tmp_path, tiny, train={"steps": 1}).items()}
    code = (
        "import sys, pathlib; from ccpo.learn import train\n"
        f"train.train(**{{key: pathlib.Path(path) for key, path in {files}.items()}})\n"
        "assert 'deepspeed' not in sys.modules"
    )
    subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--zero", "4"], "ZeRO stage 4 is none. Remedy: 0 .every rank"),
        (["--offload"], "stage 0 shards nothing. Remedy: ZeRO stage 1, 2 or 3"),
    ],
)
def test_what_cannot_be_sharded_is_refused_before_anything_starts(
    files: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    import re

    monkeypatch.setattr(
        "sys.argv", ["ccpo", *command(files, files["out"], files["scratch"])[3:], *options]
    )
    assert cli.main() == 1
    assert re.search(message, capsys.readouterr().err)
    assert not files["scratch"].exists()


def test_adapters_of_one_model_are_not_sharded_with_it(tmp_path: Path) -> None:
    """Said before the model, which is not there, is looked at."""
    files = make_files(tmp_path, tmp_path / "no model", policy="lora")
    with pytest.raises(
        ValueError, match=r"policy lora has one for each adapter\. Remedy: --zero 2 or below"
    ):
        training.train(**files, options=training.Options(sharding=Sharding(3)))
    assert not files["scratch"].exists()
