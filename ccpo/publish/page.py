"""Pieces of HTML: what the report's parts are made of. Cells and items are HTML; who passes text
escapes it.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from pathlib import Path

STYLE = Path(__file__).with_name("report.css")


def whole(title: str, body: str) -> str:
    """A self-contained page; `title` is text."""
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{html.escape(title)}</title><style>\n{STYLE.read_text()}</style></head>"
        f"<body>{body}</body></html>\n"
    )


def table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table with a head."""
    head = "".join(f"<th>{name}</th>" for name in names)
    body = "".join(
        "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>" for cells in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def wide(content: str) -> str:
    """What scrolls sideways where the page is narrow."""
    return f"<div class='wide'>{content}</div>"


def listed(items: Iterable[str]) -> str:
    """A list with bullets."""
    return "<ul>" + "".join(f"<li>{item}</li>" for item in items) + "</ul>"


def folded(summary: str, content: str, unfolded: bool = False) -> str:
    """What is shown at a click; `summary` is text."""
    state = " open" if unfolded else ""
    return f"<details{state}><summary>{html.escape(summary)}</summary>{content}</details>"
