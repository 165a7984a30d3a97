"""The report of an experiment: one self-contained page, every sentence with a number generated from the statistics."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import pandas as pd

from ccpo import advantage, lineage, schema
from ccpo.publish import figure, oracle, tables
from ccpo.publish.forecast import Forecast
from ccpo.publish.forecast import read as read_forecast

CSS = """
:root { color-scheme: light; } * { box-sizing: border-box; }
body { font: 16px/1.55 system-ui, sans-serif; color: #1c1c1c; background: #fff; margin: 0 auto; padding: 1rem; max-width: 60rem; }
h1 { font-size: 1.5rem; line-height: 1.25; } h2 { font-size: 1.15rem; margin-top: 2.2rem; border-bottom: 1px solid #ddd; padding-bottom: .2rem; }
.note { background: #fff4d6; border-left: 4px solid #e69f00; padding: .6rem .9rem; } .wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .86rem; font-variant-numeric: tabular-nums; } th { text-align: left; font-weight: 600; vertical-align: bottom; }
th, td { padding: .3rem .7rem .3rem 0; border-bottom: 1px solid #e6e6e6; } small { color: #555; white-space: nowrap; }
figure { margin: 1.2rem 0; } figure svg { width: 100%; height: auto; } figcaption { font-size: .9rem; color: #444; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #f6f6f6; padding: .6rem; font-size: .85rem; margin: .3rem 0; }
code { background: #f2f2f2; padding: 0 .2rem; overflow-wrap: anywhere; }
"""
SHOWN = 5  # evaluated questions of each benchmark that the page shows in full


def write(
    *,
    stats: Path,
    experiment: Path,
    figures: list[Path],
    table: Path,
    runs: Path | None,
    out: Path,
    plan: Path | None = None,
) -> None:
    """Writes the page of an experiment, or of an oracle experiment (which has no runs); `plan`: a forecast to compare with. ValueError if anything it shows
    is missing."""
    numbers = schema.read_json(stats)
    manifest = schema.read_json(experiment)
    title = html.escape(numbers["question"])
    parts = [
        f"<h1>{title}</h1><p>Experiment <code>{html.escape(numbers['experiment'])}</code>.</p>"
    ]
    if numbers["note"]:
        parts.append(f"<p class='note'>{html.escape(numbers['note'])}</p>")
    drawn = "".join(_figure(path) for path in figures)
    if "cells" in numbers:
        parts += oracle.parts(numbers, drawn)
    else:
        if runs is None:
            raise ValueError(
                "report: an experiment's page shows messages of its runs; --runs says where they are"
            )
        parts += _of_runs(numbers, manifest, table, drawn, runs)
        if plan is not None:
            parts.append(
                "<h2>Forecast and actual</h2><div class='wide'>"
                + forecast(read_forecast(plan), manifest, runs)
                + "</div>"
            )
    parts.append("<h2>Where it comes from</h2>" + origin(manifest))
    head = (
        "<meta charset='utf-8'><meta name='viewport' content='width=device-width, initial-scale=1'>"
    )
    schema.write_text(
        out,
        f"<!doctype html><html lang='en'><head>{head}<title>{title}</title><style>{CSS}</style></head><body>{''.join(parts)}</body></html>\n",
    )
    optional = [plan] if plan else []
    lineage.write_passport(out, [stats, experiment, table, *figures, *optional])


def _of_runs(
    numbers: dict[str, Any], manifest: dict[str, Any], table: Path, drawn: str, runs: Path
) -> list[str]:
    return [
        f"<p>Primary metric: {numbers['primary_metric']}.</p>",
        "<h2>What the numbers allow to say</h2>" + sentences(numbers, manifest),
        f"<h2>Conditions</h2><div class='wide'>{tables.page(table)}</div>",
        "<h2>Declared comparisons</h2><div class='wide'>" + comparisons(numbers) + "</div>",
        "<h2>Where the spread comes from</h2><div class='wide'>" + sources(numbers) + "</div>",
        "<h2>Benchmarks and interventions</h2><div class='wide'>"
        + interventions(numbers)
        + "</div>",
        "<h2>The same answers under the papers' graders</h2><div class='wide'>"
        + graders(numbers)
        + "</div>",
        "<h2>Figures</h2>" + drawn,
        "<h2>Messages in full</h2>" + example(manifest, runs),
    ]


def sentences(numbers: dict[str, Any], manifest: dict[str, Any]) -> str:
    """Claims of the declared comparisons, gains over the untrained teams, and degenerate credit, from the numbers."""
    said = [f"{row['sentence']} {row['elsewhere']}".strip() for row in numbers["comparisons"]]
    for row in numbers["comparisons"]:
        if not row["matched"]:
            said.append(
                f"The comparison of {row['a']} with {row['b']} is not matched in tokens, so it says nothing at equal cost: {row['tokens']}."
            )
    said.append(numbers["scope"])
    for label, c in numbers["conditions"].items():
        if preset := manifest["conditions"][label]["preset"]:
            said.append(
                f"Condition {label} follows {preset} of config/presets.yaml, except for what the experiment sets otherwise."
            )
        if c["gain"] and len(c["seeds"]) > 1 and c["updates"]:
            said.append(c["gain"]["sentence"])
        measured = max((r["max"] for r in c["role_information"] or ()), default=None)
        zero = measured is not None and measured < 1e-9
        if why := manifest["conditions"][label]["degenerate"]:
            said.append(
                f"Credit {c['credit']} in condition {label} is degenerate by algebra: {why}. Measured: "
                + (
                    "nothing yet."
                    if measured is None
                    else f"the shared reward left at most {measured:.1g} of its advantage's variance unexplained."
                )
            )
        elif (
            c["credit"] != "shared"
            and zero
            and advantage.load(
                manifest["conditions"][label]["config"]["advantage"]["name"]
            ).COMPARES
            == "group"
        ):
            # without a baseline of the group, the outcome's mean teaches too, which role information takes out
            said.append(
                f"Credit {c['credit']} in condition {label} taught nothing that the shared reward does not teach: role information was 0 in every update."
            )
    return "<ul>" + "".join(f"<li>{html.escape(s)}</li>" for s in said) + "</ul>"


def sources(numbers: dict[str, Any]) -> str:
    """Where the spread of final accuracies and of their differences comes from: standard deviations in points."""
    names = {
        "base": "base model",
        "seed": "training seed",
        "draw": "drawing of answers",
        "task": "choice of tasks",
        "total": "between seeds, all",
    }
    rows = []
    for label, by_decoding, decodings in [
        *((label, c["parts"], c["decodings"]) for label, c in numbers["conditions"].items()),
        *(
            (
                f"{r['a']} − {r['b']}",
                {d: row["parts"] for d, row in r["decodings"].items()},
                numbers["conditions"][r["a"]]["decodings"],
            )
            for r in numbers["comparisons"]
        ),
    ]:
        for decoding, parts in by_decoding.items():
            if parts:
                cells = "".join(f"<td>{tables.percent(parts[key])}</td>" for key in names)
                how = decodings[decoding]["words"]
                rows.append(f"<tr><td>{html.escape(label)}</td><td>{how}</td>{cells}</tr>")
    head = "".join(f"<th>{name}</th>" for name in ["", "answering", *names.values()])
    return (
        "<p>Standard deviations, in points. A dash: this experiment cannot tell (base models and seeds are told apart only where a base "
        "model has several seeds, drawing only where a task has several answers).</p>"
        f"<details><summary>By condition, comparison and temperature</summary><table><tr>{head}</tr>{''.join(rows)}</table></details>"
    )


def comparisons(numbers: dict[str, Any]) -> str:
    """The declared family as a table."""
    if not numbers["comparisons"]:
        return "<p>None was declared.</p>"
    names = [
        "a − b",
        "n",
        "difference, points [95 % interval]",
        "p",
        "Holm p",
        "exact sign-flip p",
        "smallest detectable, points",
        "tokens match",
    ]
    rows = []
    for r in numbers["comparisons"]:
        p = [("–" if r[k] is None else f"{r[k]:.3g}") for k in ("p", "p_holm", "p_sign_flip")]
        band = (
            ""
            if r["ci_low"] is None
            else f" <small>[{tables.percent(r['ci_low'], True)}, {tables.percent(r['ci_high'], True)}]</small>"
        )
        cells = [
            f"{r['a']} − {r['b']}",
            f"{r['n']} {r['unit']}s",
            tables.percent(r["mean"], True) + band,
            *p,
            tables.percent(r["detectable"]),
            "yes" if r["matched"] else "no",
        ]
        rows.append("<tr>" + "".join(f"<td>{c}</td>" for c in cells) + "</tr>")
    return f"<table><tr>{''.join(f'<th>{n}</th>' for n in names)}</tr>{''.join(rows)}</table>"


def interventions(numbers: dict[str, Any]) -> str:
    """Accuracy by condition, benchmark, decoding and intervention; of a single run with the interval over its tasks."""
    rows = []
    for label, c in numbers["conditions"].items():
        for name, decodings in c["accuracy"].items():
            for decoding, kinds in decodings.items():
                for kind, row in kinds.items():
                    t = row["tasks"]
                    band = (
                        f" <small>[{tables.percent(t['low'])}, {tables.percent(t['high'])}] over {t['n']} tasks</small>"
                        if t
                        else ""
                    )
                    how = c["decodings"][decoding]["words"]
                    cells = [
                        html.escape(label),
                        html.escape(name),
                        how,
                        kind,
                        tables.percent(row["mean"]) + band,
                    ]
                    rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    names = ("condition", "benchmark", "answering", "intervention", "accuracy, %")
    return f"<table><tr>{''.join(f'<th>{n}</th>' for n in names)}</tr>{''.join(rows)}</table>"


def graders(numbers: dict[str, Any]) -> str:
    """The same answers under our verifier and under the papers' graders, as far as theirs were used on such answers."""
    rows = [
        f"<tr><td>{html.escape(label)}</td><td>{html.escape(name)}</td>"
        + "".join(f"<td>{tables.percent(row[k])}</td>" for k in ("accuracy", "c3", "ccpo"))
        + "</tr>"
        for label, c in numbers["conditions"].items()
        for name, row in c["graders"].items()
    ]
    if not rows:
        return "<p>No answers of kinds that they were used on.</p>"
    names = ["condition", "benchmark", "ours, %", "C3's, %", "CCPO's (PRIME), %"]
    return f"<table><tr>{''.join(f'<th>{n}</th>' for n in names)}</tr>{''.join(rows)}</table>"


def forecast(plan: Forecast, manifest: dict[str, Any], runs: Path) -> str:
    """What was forecast before the runs, and what they took: tokens generated in training, seconds inside updates."""
    rows = []
    for row in plan.conditions:
        ids = manifest["conditions"].get(row.condition, {"runs": {}})["runs"].values()
        if len(ids) != row.runs:
            continue  # the experiment was changed since
        tokens = sum(
            int(
                schema.read_table(runs / run / "ledger.parquet", "ledger")
                .to_pandas()
                .generated_tokens.sum()
            )
            for run in ids
        )
        seconds = sum(
            float(
                schema.read_table(runs / run / "seconds.parquet", "seconds")
                .to_pandas()
                .seconds.sum()
            )
            for run in ids
        )
        pairs = (
            (row.train_tokens, tokens, tables.amount),
            (row.update_seconds, seconds, tables.duration),
        )
        told = "".join(
            f"<td>{say(a)}</td><td>{say(b)}</td><td>{_off(a, b)}</td>" for a, b, say in pairs
        )
        rows.append(f"<tr><td>{html.escape(row.condition)}</td><td>{row.source}</td>{told}</tr>")
    names = [
        "condition",
        "known from",
        "tokens, forecast",
        "actual",
        "off by",
        "time of updates, forecast",
        "actual",
        "off by",
    ]
    return f"<table><tr>{''.join(f'<th>{n}</th>' for n in names)}</tr>{''.join(rows)}</table>"


def _off(told: float, found: float) -> str:
    return f"{100 * (told / found - 1):+.0f} %" if found else "–"


def _figure(path: Path) -> str:
    svg = path.read_text()
    svg = svg[svg.index("<svg") :]
    # ids must be unique in the page, and each figure was made by itself
    svg = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{path.stem}-", svg)
    svg = re.sub(
        r'<svg ([^>]*?)width="[^"]*"',
        r"<svg \1",
        re.sub(r'(<svg [^>]*?)height="[^"]*"', r"\1", svg, count=1),
        count=1,
    )
    return f"<figure>{svg}<figcaption>{figure.load(path.stem).CAPTION} Numbers: <code>figures/{path.stem}.csv</code>.</figcaption></figure>"


def example(manifest: dict[str, Any], runs: Path) -> str:
    """The task with the most mixed rewards in the last kept update that taught one multi-agent run anything: messages, answers, rewards,
    credits, advantages; and of each benchmark the first evaluated questions."""
    label, condition = max(
        manifest["conditions"].items(),
        key=lambda item: (
            item[1]["config"]["credit"]["name"] == "ccpo",
            len(item[1]["config"]["train"]["fanout"]),
        ),
    )
    run = next(iter(condition["runs"].values()))
    rows = schema.read_table(runs / run / "credit.parquet", "credit").to_pandas()
    parts = [f"<p>Condition {html.escape(label)}, run <code>{html.escape(run)}</code>.</p>"]
    if len(rows):
        learnt = rows[rows.advantage != 0].step.max()
        last = rows[rows.step == (rows.step.max() if pd.isna(learnt) else learnt)]
        mixed = last.groupby("task_id").reward.std()
        task = mixed.idxmax()
        shown = (
            last[last.task_id == task]
            .sort_values(
                ["removed", "turn", "reward", "message"], ascending=[True, True, False, True]
            )
            .groupby(["removed", "turn"], sort=False)
            .head(3)
        )
        parts.append(
            f"<p>Training, update {int(last.step.iloc[0])}, question <code>{html.escape(str(task))}</code>; the three best paid messages of each turn (agent left out: −1 means nobody).</p>"
        )
        lines = [
            f"<tr><td>{r.turn}</td><td>{r.agent}</td><td>{r.removed}</td><td><pre>{html.escape(r.text)}</pre></td><td>{html.escape(r.answer) or '–'}</td><td>{r.reward:.2f}</td><td>{r.credit:+.2f}</td><td>{r.advantage:+.3f}</td></tr>"
            for r in shown.itertuples()
        ]
        names = ["turn", "agent", "left out", "message", "answer", "reward", "credit", "advantage"]
        parts.append(
            f"<div class='wide'><table><tr>{''.join(f'<th>{n}</th>' for n in names)}</tr>{''.join(lines)}</table></div>"
        )
    evaluation = runs / run / "eval" / manifest["protocols"][0]["id"]
    return "".join([*parts, *_answered(evaluation)])


def _answered(evaluation: Path) -> list[str]:
    """The first SHOWN evaluated questions of each benchmark in full, with and (the first) without the other agents."""
    said = schema.read_table(evaluation / "rollouts.parquet", "rollouts").to_pandas()
    scores = schema.read_table(evaluation / "scores.parquet", "scores").to_pandas()
    parts = []
    decoding = said.decoding.iloc[0]  # the primary one is played first
    for name, rows in said[(said["sample"] == 0) & (said.decoding == decoding)].groupby(
        "benchmark", sort=False
    ):
        verdicts = scores[
            (scores.benchmark == name) & (scores["sample"] == 0) & (scores.decoding == decoding)
        ]
        for index, task in enumerate(rows.task_id.unique()[:SHOWN]):
            kinds = ("factual", "solo") if index == 0 else ("factual",)
            lines = [
                _said(rows[rows.task_id == task], verdicts[verdicts.task_id == task], kind)
                for kind in kinds
            ]
            head = f"Evaluation on {html.escape(str(name))}: {html.escape(str(task))}"
            parts.append(
                f"<details{' open' if index == 0 else ''}><summary>{head}</summary>{''.join(lines)}</details>"
            )
    return parts


def _said(messages: pd.DataFrame, verdicts: pd.DataFrame, kind: str) -> str:
    """What was said under an intervention, and the verdict."""
    lines = [
        f"<p>{kind}, turn {m.turn}, agent {m.agent}</p><pre>{html.escape(m.prompt)}</pre><pre>{html.escape(m.completion)}</pre>"
        for m in messages[messages.intervention == kind].itertuples()
    ]
    lines += [
        f"<p>{kind}: answer {html.escape(v.answer) or '(none)'}, truth {html.escape(v.truth)}, accuracy {v.accuracy:g}</p>"
        for v in verdicts[verdicts.intervention == kind].itertuples()
    ]
    return "".join(lines)


def origin(manifest: dict[str, Any]) -> str:
    """Code, versions, runs, and how to audit."""
    code = lineage.source()
    versions = ", ".join(f"{k} {v}" for k, v in code.versions.items() if v)
    runs = "".join(
        f"<li><code>{html.escape(run)}</code></li>"
        for c in manifest.get("conditions", {}).values()
        for run in c["runs"].values()
    )
    dirty = " with uncommitted changes" if code.dirty else ""
    return (
        f"<p>Commit <code>{code.commit}</code>{dirty}. Python {code.python}; {html.escape(versions)}.</p>"
        "<p>Check this page back to the runs: <code>python -m ccpo audit results/experiments/"
        f"{html.escape(manifest['experiment'])}/report.html</code></p>"
        + (f"<details><summary>Runs</summary><ul>{runs}</ul></details>" if runs else "")
    )
