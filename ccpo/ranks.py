"""Several processes that do one job together: each computes a share, all hold the same. One process
is the case of one rank.

They are launched by torchrun, on one node or many (ccpo/operate/slurm.py); `join` checks that as
many came as were asked for. What is dealt out is dealt by position, so that the work of all ranks
is the work that one would have done, summed in another order.
"""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """This process's place among `world`."""

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def share(self, n: int) -> list[int]:
        """Which of `n` pieces of work are this rank's to do."""
        return list(range(self.rank, n, self.world))

    def gather(self, done: Sequence[T]) -> list[T]:
        """All that the ranks did of what `share` dealt out, in the order before it was dealt."""
        if self.world == 1:
            return list(done)
        import torch.distributed as dist

        parts: list[list[T]] = [[] for _ in range(self.world)]
        dist.all_gather_object(parts, list(done))
        rounds = itertools.zip_longest(*parts, fillvalue=_NOTHING)
        return [piece for row in rounds for piece in row if piece is not _NOTHING]  # type: ignore[misc]

    def add_up(self, tensors: Iterable[Any]) -> None:
        """Replaces each tensor by its sum over the ranks."""
        if self.world > 1:
            import torch.distributed as dist

            for tensor in tensors:
                dist.all_reduce(tensor)

    def total(self, numbers: Sequence[float]) -> list[float]:
        """Sums of numbers over the ranks."""
        return [sum(column) for column in zip(*self._all(list(numbers)), strict=True)]

    def most(self, number: float) -> float:
        """The largest of a number over the ranks."""
        return float(max(self._all(number)))

    def wait(self) -> None:
        """Until all are here."""
        self._all(None)

    def _all(self, value: T) -> list[T]:
        if self.world == 1:
            return [value]
        import torch.distributed as dist

        out: list[Any] = [None] * self.world
        dist.all_gather_object(out, value)
        return out


_NOTHING = object()
ALONE = Ranks()


@dataclass(frozen=True)
class Sharding:
    """What the ranks do not all hold in full: DeepSpeed's ZeRO stage, 0 for nothing; `offload`: it
    is kept in main memory.

    Raises:
        ValueError: there is no such stage, or nothing to offload.
    """

    stage: int = 0
    offload: bool = False

    def __post_init__(self) -> None:
        if type(self.stage) is not int or self.stage not in (0, 1, 2, 3):
            raise ValueError(
                f"ZeRO stage {self.stage!r} is none. Remedy: 0 (every rank holds all), 1 "
                "(optimiser states are sharded), "
                "2 (gradients too), 3 (weights too)."
            )
        if self.offload not in (True, False):
            raise ValueError(
                f"offload is {self.offload!r}. Remedy: true or false (`--config offload=True`)."
            )
        if self.offload and not self.stage:
            raise ValueError(
                "offload moves what ZeRO shards, and stage 0 shards nothing. Remedy: ZeRO stage "
                "1, 2 or 3 with it."
            )


UNSHARDED = Sharding()


def join(asked: int) -> Ranks:
    """This process's place among the ranks that were asked for.

    Raises:
        ValueError: another number came, or a node has fewer GPUs than ranks.
    """
    came = int(os.environ.get("WORLD_SIZE", "1"))
    if came != asked:
        raise ValueError(
            f"{asked} rank(s) were asked for, WORLD_SIZE says {came}. Remedy: leave the launch "
            "to `python -m ccpo train`, which makes one "
            "rank for each GPU of its SLURM job, or CCPO_RANKS of them."
        )
    if asked == 1:
        return Ranks()
    import torch
    import torch.distributed as dist

    local, on_this_node = (int(os.environ[k]) for k in ("LOCAL_RANK", "LOCAL_WORLD_SIZE"))
    gpus = torch.cuda.device_count()
    if 0 < gpus < on_this_node:
        raise ValueError(
            f"{on_this_node} ranks on a node with {gpus} GPU(s). Remedy: as many ranks as GPUs "
            "(resources `gres`, `nodes`)."
        )
    if gpus:
        torch.cuda.set_device(local)
    # objects travel by gloo, gradients by nccl where there are GPUs
    dist.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo")
    if dist.get_rank():
        logging.getLogger("ccpo").setLevel(logging.WARNING)  # one of them tells
    return Ranks(dist.get_rank(), dist.get_world_size())


def device() -> str:
    """Where this process computes: its own GPU, or the CPU where there is none."""
    import torch

    return f"cuda:{torch.cuda.current_device()}" if torch.cuda.is_available() else "cpu"
