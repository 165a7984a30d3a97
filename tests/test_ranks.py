"""Several ranks do the work of one: the same messages, the same policies but for the order of sums;
their number is checked.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from conftest import apart, make_files
from safetensors.torch import load_file

from ccpo import ranks, schema
from ccpo.learn import train as training
from ccpo.learn.interrupt import INTERRUPTED
from ccpo.operate import slurm

FORK = multiprocessing.get_context("fork")


def together(world: int, work: Callable[[int], None]) -> list[int]:
    """Exit codes of `world` processes that each do `work(rank)` with torchrun's environment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])

    def one(rank: int) -> None:
        names = {
            "RANK": rank,
            "LOCAL_RANK": rank,
            "WORLD_SIZE": world,
            "LOCAL_WORLD_SIZE": world,
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
        }
        os.environ.update({k: str(v) for k, v in names.items()})
        # A fork's first use of torch's thread pool makes it anew, and two threads of transformers'
        # loader that come first together can find none ("Invalid thread pool!"): made here, once.
        torch.set_num_threads(torch.get_num_threads())
        try:
            work(rank)
        finally:
            if torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()

    processes = [FORK.Process(target=one, args=(rank,)) for rank in range(world)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        if process.exitcode is None:  # it waits for one that went another way
            process.kill()
            process.join()
    return [process.exitcode if process.exitcode is not None else -1 for process in processes]


@pytest.mark.usefixtures("lively", "smooth")
@pytest.mark.parametrize(
    "over",
    [{}, {"credit": "mappo", "policy": "shared", "critic": {"lr": 1e-3}}],
    ids=["separate", "critic"],
)
def test_two_and_three_ranks_are_one(tmp_path: Path, tiny: Path, over: dict[str, Any]) -> None:
    """Five updates. Sums in another order differ by float32's rounding: weights within 1e-3 of
    their way, logged means within 1e-4; messages do not.
    """
    files = make_files(tmp_path, tiny, train={"steps": 5, "minibatches": 2}, **over)
    inputs = {k: files[k] for k in ("config", "tasks", "model")}

    def work(out: Path, world: int) -> Callable[[int], None]:
        return lambda rank: training.train(
            **inputs,
            scratch=tmp_path / f"scratch{world}",
            out=out,
            options=training.Options(ranks=world),
        )

    outs = {world: tmp_path / f"out{world}" for world in (1, 2, 3)}
    for world, out in outs.items():
        assert together(world, work(out, world)) == [0] * world
    for world in (2, 3):
        for folder in (outs[1] / "model").iterdir():
            one, several = (
                load_file(x / "model" / folder.name / "model.safetensors")
                for x in (outs[1], outs[world])
            )
            start = load_file(tiny / "model.safetensors")
            assert apart(one, several, start) < 1e-3
            # it did learn
            assert max(float((several[k] - start[k]).abs().max()) for k in one) > 1e-4
        messages = [
            schema.read_table(outs[w] / "credit.parquet", "credit").to_pandas() for w in (1, world)
        ]
        pd.testing.assert_frame_equal(*messages, rtol=1e-4, atol=1e-5)
        assert (outs[1] / "ledger.parquet").read_bytes() == (
            outs[world] / "ledger.parquet"
        ).read_bytes()
        told = [
            schema.read_table(outs[w] / "train.parquet", "train").to_pandas() for w in (1, world)
        ]
        pd.testing.assert_frame_equal(*told, rtol=1e-3, atol=1e-4)


def stopping(update: Callable[..., Any]) -> Callable[..., Any]:
    """`update`, after whose second the second rank, and it alone, is told to stop."""

    def then(run: Any, team: Any, pool: Any, state: Any, *more: Any) -> Any:
        done = update(run, team, pool, state, *more)
        if state.ranks.rank == 1 and state.step == 2:
            os.kill(os.getpid(), 15)
        return done

    return then


def test_a_signal_to_any_rank_stops_all_and_another_number_goes_on(
    tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = make_files(tmp_path, tiny, train={"steps": 4})
    inputs = {k: files[k] for k in ("config", "tasks", "model", "scratch")}
    monkeypatch.setattr(training, "update", stopping(training.update))
    assert (
        together(
            2,
            lambda rank: training.train(
                **inputs, out=files["out"], options=training.Options(ranks=2)
            ),
        )
        == [INTERRUPTED] * 2
    )
    assert (files["scratch"] / "step-00000002").is_dir()
    assert together(1, lambda rank: training.train(**inputs, out=files["out"])) == [0]
    assert schema.read_table(files["out"] / "train.parquet", "train").num_rows == 4 * 2


def test_another_number_of_ranks_than_asked_for_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert ranks.join(1) == ranks.ALONE
    with pytest.raises(ValueError, match=r"4 rank\(s\) were asked for, WORLD_SIZE says 1"):
        ranks.join(4)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"1 rank\(s\) were asked for, WORLD_SIZE says 2"):
        ranks.join(1)


@pytest.mark.parametrize("n", range(8))
@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_what_is_dealt_out_is_dealt_once_and_comes_back_in_order(n: int, world: int) -> None:
    import itertools

    parts = [[str(i) for i in ranks.Ranks(rank, world).share(n)] for rank in range(world)]
    assert sorted(itertools.chain(*parts), key=int) == [str(i) for i in range(n)]
    nothing = object()
    rounds = itertools.zip_longest(*parts, fillvalue=nothing)
    assert [x for row in rounds for x in row if x is not nothing] == [str(i) for i in range(n)]


@pytest.mark.parametrize(
    ("environment", "said", "wanted"),
    [
        ({}, "", None),
        (
            {"CCPO_RANKS": "2"},
            "",
            ["--nnodes=1", "--nproc-per-node=2", "--standalone", "--ranks 2"],
        ),
        ({"SLURM_JOB_ID": "77"}, "1|n1", None),  # no GPU
        ({"SLURM_JOB_ID": "77", "CUDA_VISIBLE_DEVICES": "3"}, "1|n1", None),
        (
            {"SLURM_JOB_ID": "77", "CUDA_VISIBLE_DEVICES": "0,1"},
            "1|n1",
            ["--nnodes=1", "--nproc-per-node=2", "--standalone", "--ranks 2"],
        ),
        (
            {"SLURM_JOB_ID": "77", "CUDA_VISIBLE_DEVICES": "0,1,2,3"},
            "2|n[1-2]",
            [
                "srun --overlap -N2 -n2",
                "--nnodes=2",
                "--nproc-per-node=4",
                "--rdzv-endpoint n1:20077",
                "--ranks 8",
            ],
        ),
        (
            {"SLURM_JOB_ID": "77", "CUDA_VISIBLE_DEVICES": "0,1", "WORLD_SIZE": "2"},
            "1|n1",
            None,
        ),  # it is one of them
    ],
)
def test_the_launch_is_that_of_the_allocation(
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    said: str,
    wanted: list[str] | None,
) -> None:
    for name in ("SLURM_JOB_ID", "CUDA_VISIBLE_DEVICES", "CCPO_RANKS", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(slurm.shutil, "which", lambda name: name)
    monkeypatch.setattr(slurm, "ask", lambda *command: said if command[0] == "squeue" else "n1\nn2")
    command = slurm.launch(["train", "--config", "c.json"])
    if wanted is None:
        assert command is None
    else:
        assert command is not None
        text = " ".join(command)
        assert all(words in text for words in [*wanted, "-m ccpo train --config c.json"])
