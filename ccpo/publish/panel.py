"""The section of a page that says who contributes to a team."""

from __future__ import annotations

import html
from collections.abc import Iterator

from ccpo import intervention
from ccpo.publish import page, tables
from ccpo.publish.interval import Interval
from ccpo.publish.panel_statistics import Panel
from ccpo.publish.statistics import TrainingStatistics


def section(numbers: TrainingStatistics) -> str:
    """Alarms, what each agent contributes, and whether its message holds the answer and is heeded;
    of the conditions whose teams have several agents.
    """
    panels = {label: c.panel for label, c in numbers.conditions.items() if c.panel}
    if not panels:
        return "<p>No team of several agents was evaluated with an intervention on one of them.</p>"
    contributions = page.table(
        ["condition", "agent", *_columns(panels), "tokens, %"],
        [row for label, panel in panels.items() for row in _contributions(label, panel, panels)],
    )
    messages = [row for label, panel in panels.items() for row in _messages(label, panel)]
    shown = page.listed(html.escape(text) for text in _alarms(panels))
    shown += (
        "<p>What each agent adds: accuracy of the team as it is minus that under a change to this "
        "agent, in points with the 95 % interval over seeds, paired by task and sample. Under "
        f"“{_heading('solo')}” a number near 0 says that it needs nobody. Tokens: its share of "
        "what the team generated in the last fifth of training.</p>" + page.wide(contributions)
    )
    if messages:
        names = [
            "condition",
            "agent",
            "holds the answer, %",
            "that of another task, %",
            "team right from it without the question, %",
            "by chance, %",
            "answers that another task's message changes, %",
            "p",
        ]
        shown += "<p>Messages that others read:</p>" + page.wide(page.table(names, messages))
    return shown


def _alarms(panels: dict[str, Panel]) -> Iterator[str]:
    """Alarms, or that there is none; and what could not be tested."""
    alarms = [alarm.sentence for panel in panels.values() for alarm in panel.alarms]
    tests = sum(panel.tests for panel in panels.values())
    if tests and not alarms:
        yield "No alarm: no agent is shown to ride free, sabotage, leak, be ignored or be enough."
    yield from alarms
    untested: dict[str, list[str]] = {}
    for label, panel in panels.items():
        for text in panel.untested:
            untested.setdefault(text, []).append(label)
    for text, labels in untested.items():
        yield f"Not tested in {', '.join(labels)}: {text}."
    levels = {panel.level for panel in panels.values() if panel.tests}
    for level in levels:
        yield (
            f"The alarms of one condition are false together with a probability of at most "
            f"{100 * level:g} %; an alarm that is not raised is no certificate."
        )


def _columns(panels: dict[str, Panel]) -> list[str]:
    return [_heading(name) for name in _kinds(panels)]


def _kinds(panels: dict[str, Panel]) -> list[str]:
    """Names of the interventions that were played on an agent, in the order of the protocol."""
    return list(
        dict.fromkeys(
            intervention.parse(row.intervention)[0]
            for panel in panels.values()
            for row in panel.contributions
        )
    )


def _heading(name: str) -> str:
    return str(intervention.load(name).LABEL)


def _contributions(label: str, panel: Panel, panels: dict[str, Panel]) -> Iterator[list[str]]:
    rows = {row.intervention: row for row in panel.contributions}
    tokens = {row.agent: row.mean for row in panel.tokens if row.part == "last"}
    for agent, role in panel.roles.items():
        cells = [rows.get(intervention.named(name, agent)) for name in _kinds(panels)]
        yield [
            html.escape(label),
            _agent(agent, role),
            *(_cell(cell, signed=True) for cell in cells),
            tables.percent(tokens.get(agent)),
        ]


def _messages(label: str, panel: Panel) -> Iterator[list[str]]:
    influence = {row.agent: row for row in panel.influence}
    for leak in panel.leaks:
        heeded = influence.get(leak.agent)
        p = heeded.p if heeded else None
        yield [
            html.escape(label),
            _agent(leak.agent, panel.roles[leak.agent]),
            _cell(leak.holds),
            _cell(leak.by_chance),
            _cell(leak.alone),
            _cell(leak.alone_by_chance),
            _cell(heeded),
            "–" if p is None else f"{p:.2g}",
        ]


def _agent(agent: int, role: str) -> str:
    return html.escape(f"{agent}, {role}")


def _cell(row: Interval | None, signed: bool = False) -> str:
    if row is None:
        return "–"
    return tables.percent(row.mean, signed) + tables.band(row.ci_low, row.ci_high, signed)
