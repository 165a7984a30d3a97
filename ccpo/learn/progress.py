"""How far a training is: a bar on a terminal, lines in a log, a word in its lease."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ccpo import lease
from ccpo.config import RunConfig
from ccpo.learn.state import State

log = logging.getLogger("ccpo")

Tell = Callable[..., None]  # of the state, and where there was an update its seconds


@contextmanager
def progress(run: RunConfig, held: lease.Lease | None) -> Iterator[Tell]:
    """Tells how far the run is: a bar on a terminal, one line for each update in a log, and a word
    in the lease. Without one, nothing.
    """
    if held is None:
        yield lambda *_: None
        return
    total = run.train.tokens or run.train.steps
    with terminal(run.id, total) as bar:

        def tell(state: State, seconds: float | None = None) -> None:
            done = state.generated if run.train.tokens else state.step
            if not state.step:
                return held.tell(done, total)
            newest = state.rows["train"][-len(state.endpoints) :]
            information, gap = (
                max(row[key] for row in newest) for key in ("role_information", "logprob_gap")
            )
            note = (
                f"update {state.step}  reward {newest[-1]['reward']:.3f}  {state.generated:,} "
                "tokens"
            )
            held.tell(done, total, note)
            if bar:
                bar(done, note)
            elif seconds is not None:
                log.info(
                    "%s  role information %.3g  gap %.1e  %.2f s", note, information, gap, seconds
                )

        yield tell
    # the bar has gone: this line stays, on a terminal too
    log.info("%s is trained: %s", run.id, held.status.note or "no update was asked for")


@contextmanager
def terminal(title: str, total: float) -> Iterator[Callable[[float, str], None] | None]:
    """A bar where there is a terminal to draw it on, else None."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, transient=True) as bar:
        task = bar.add_task(title, total=total, note="")
        yield lambda done, note: bar.update(task, completed=done, note=note)
