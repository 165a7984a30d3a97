"""An experiment on a terminal: the page of `python -m ccpo watch`, drawn from its plain data."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ccpo.operate.watch import Run, Summary
from ccpo.publish.tables import duration

COLOURS = {
    "failed": "red",
    "running": "green",
    "interrupted": "yellow",
    "queued": "cyan",
    "waiting": "white",
    "done": "blue",
}
COLUMNS = (
    "condition",
    "seed",
    "stage",
    "state",
    "resumed",
    "progress",
    "left",
    "where and what",
)


def page(summary: Summary, rows: int) -> Group:
    """The experiment's counts, its expected end, and at most `rows` runs: those that failed first,
    then those at work.
    """
    counts = summary.counts
    total = sum(counts.values())
    head = Text.assemble((summary.experiment, "bold"), f"  {counts['done']} of {total} runs done")
    for state, n in counts.items():
        if n and state != "done":
            head.append(f"  {n} {state}", COLOURS[state])
    if summary.left is not None:
        end = time.strftime("%a %H:%M", time.localtime(summary.at + summary.left))
        head.append(f"  ends about {end}, in {duration(summary.left)}")
    order = list(counts)
    runs = sorted(
        (run for run in summary.runs if run.state not in ("waiting", "done") or run.resumed),
        key=lambda run: order.index(run.state),
    )
    parts = [head, _table(runs[:rows])] if runs else [head]
    if len(runs) > rows:
        parts.append(Text(f"and {len(runs) - rows} more", "dim"))
    return Group(*parts)


def _table(runs: Sequence[Run]) -> Table:
    """One row for each run."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in COLUMNS:
        table.add_column(name, no_wrap=name not in ("where and what", "condition"), overflow="fold")
    for run in runs:
        share = run.share
        detail = "  ".join(part for part in (run.where, run.note) if part)
        if run.state == "failed":
            detail += f"\nlog: {run.log}\nagain: {run.again}"
        table.add_row(
            run.condition,
            str(run.seed),
            run.stage,
            Text(run.state, COLOURS[run.state]),
            f"{run.resumed}×" if run.resumed else "",
            "" if share is None else ProgressBar(100, min(100, 100 * share), width=16),
            duration(run.left),
            Text(detail),  # plain text: what a log says is no markup
        )
    return table


def show(look: Callable[[], Summary], seconds: float | None) -> None:
    """Draws an experiment, once (None) or anew every so many seconds until all runs are done."""
    console = Console()
    if seconds is None:
        return console.print(page(look(), 10_000))
    with Live(console=console, auto_refresh=False, screen=console.is_terminal) as screen:
        while True:
            summary = look()
            screen.update(page(summary, max(4, console.height - 6)), refresh=True)
            if summary.done:
                break
            time.sleep(seconds)
    console.print(page(summary, 0))
