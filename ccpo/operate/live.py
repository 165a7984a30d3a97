"""A study on a terminal: the page of `python -m ccpo watch`, drawn from its plain data."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ccpo.publish.tables import duration

COLOURS = {
    "failed": "red",
    "running": "green",
    "interrupted": "yellow",
    "queued": "cyan",
    "waiting": "white",
    "done": "blue",
}


def page(study: dict[str, Any], rows: int) -> Group:
    """The study's counts, its expected end, and at most `rows` runs: those that failed first, then
    those at work.
    """
    counts = study["counts"]
    total = sum(counts.values())
    head = Text.assemble((study["experiment"], "bold"), f"  {counts['done']} of {total} runs done")
    for state, n in counts.items():
        if n and state != "done":
            head.append(f"  {n} {state}", COLOURS[state])
    if study["left"] is not None:
        end = time.strftime("%a %H:%M", time.localtime(study["at"] + study["left"]))
        head.append(f"  ends about {end}, in {duration(study['left'])}")
    order = list(counts)
    runs = sorted(
        (r for r in study["runs"] if r["state"] not in ("waiting", "done") or r["resumed"]),
        key=lambda r: order.index(r["state"]),
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in (
        "condition",
        "seed",
        "stage",
        "state",
        "resumed",
        "progress",
        "left",
        "where and what",
    ):
        table.add_column(name, no_wrap=name not in ("where and what", "condition"), overflow="fold")
    for run in runs[:rows]:
        bar = (
            "" if run["share"] is None else ProgressBar(100, min(100, 100 * run["share"]), width=16)
        )
        what = "  ".join(x for x in (run["where"], run["note"]) if x)
        if run["state"] == "failed":
            what += f"\nlog: {run['log']}\nagain: {run['again']}"
        state = Text(run["state"], COLOURS[run["state"]])
        resumed = f"{run['resumed']}×" if run["resumed"] else ""
        # plain text: what a log says is no markup
        table.add_row(
            run["condition"],
            str(run["seed"]),
            run["stage"],
            state,
            resumed,
            bar,
            duration(run["left"]),
            Text(what),
        )
    parts = [head, table] if runs else [head]
    if len(runs) > rows:
        parts.append(Text(f"and {len(runs) - rows} more", "dim"))
    return Group(*parts)


def show(look: Callable[[], dict[str, Any]], seconds: float | None) -> None:
    """Draws a study, once (None) or anew every so many seconds until all its runs are done."""
    console = Console()
    if seconds is None:
        return console.print(page(look(), 10_000))
    with Live(console=console, auto_refresh=False, screen=console.is_terminal) as live:
        while True:
            study = look()
            live.update(page(study, max(4, console.height - 6)), refresh=True)
            if study["counts"]["done"] == sum(study["counts"].values()):
                break
            time.sleep(seconds)
    console.print(page(study, 0))
