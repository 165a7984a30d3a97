"""Messages of an experiment in full, for its page."""

from __future__ import annotations

import html
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from ccpo import intervention, schema
from ccpo.manifest import TrainingManifest
from ccpo.publish import page
from ccpo.publish.statistics import FACTUAL

SHOWN = 5  # evaluated questions of each benchmark that the page shows in full


def holds(folder: Path, names: tuple[str, ...]) -> bool:
    """Whether a folder has these tables."""
    return all((folder / f"{name}.parquet").is_file() for name in names)


def example(planned: TrainingManifest, runs: Path) -> str:
    """Messages of one multi-agent run: of a training task (`_trained_on`), and of each benchmark
    the first evaluated questions.
    """
    chosen = _chosen(planned, runs)
    if chosen is None:
        return "<p>No run is there.</p>"
    label, folder = chosen
    where = f"Condition {html.escape(label)}, run <code>{html.escape(folder.name)}"
    shown = _trained_on(folder) + "".join(_answered(planned.primary.folder(folder)))
    return f"<p>{where}</code>.</p>{shown}"


def tables(planned: TrainingManifest, runs: Path) -> list[Path]:
    """The tables whose messages `example` shows."""
    chosen = _chosen(planned, runs)
    if chosen is None:
        return []
    folder = chosen[1]
    played = planned.primary.folder(folder)
    return [folder / "credit.parquet", played / "rollouts.parquet", played / "scores.parquet"]


def _chosen(planned: TrainingManifest, runs: Path) -> tuple[str, Path] | None:
    """The label and the folder of the run that is shown, if any is there."""
    preferred = sorted(planned.conditions, key=lambda c: (c.credit != "ccpo", -c.turns))
    for condition in preferred:
        for run in condition.runs.values():
            folder = runs / run
            played = planned.primary.folder(folder)
            if holds(folder, ("credit",)) and holds(played, ("rollouts", "scores")):
                return condition.label, folder
    return None


def _trained_on(run: Path) -> str:
    """The task with the most mixed rewards in the last kept update that taught anything: messages,
    answers, rewards, credits, advantages.
    """
    rows = schema.read_table(run / "credit.parquet", "credit").to_pandas()
    if rows.empty:
        return ""
    taught = rows[rows.advantage != 0].step.max()
    last = rows[rows.step == (rows.step.max() if pd.isna(taught) else taught)]
    task = last.groupby("task_id").reward.std().idxmax()
    order = ["removed", "turn", "reward", "message"]
    shown = (
        last[last.task_id == task]
        .sort_values(order, ascending=[True, True, False, True])
        .groupby(["removed", "turn"], sort=False)
        .head(3)
    )
    lines = [
        [
            f"{r.turn}",
            f"{r.agent}",
            f"{r.removed}",
            f"<pre>{html.escape(r.text)}</pre>",
            html.escape(r.answer) or "–",
            f"{r.reward:.2f}",
            f"{r.credit:+.2f}",
            f"{r.advantage:+.3f}",
        ]
        for r in shown.itertuples()
    ]
    names = ["turn", "agent", "left out", "message", "answer", "reward", "credit", "advantage"]
    return (
        f"<p>Training, update {int(last.step.iloc[0])}, question "
        f"<code>{html.escape(str(task))}</code>; the three best paid messages of each turn (agent "
        f"left out: −1 means nobody).</p>{page.wide(page.table(names, lines))}"
    )


def _answered(evaluation: Path) -> Iterator[str]:
    """The first SHOWN evaluated questions of each benchmark in full, with and (the first) without
    the other agents.
    """
    messages = schema.read_table(evaluation / "rollouts.parquet", "rollouts").to_pandas()
    scores = schema.read_table(evaluation / "scores.parquet", "scores").to_pandas()
    decoding = messages.decoding.iloc[0]  # the primary one is played first
    messages = messages[(messages["sample"] == 0) & (messages.decoding == decoding)]
    scores = scores[(scores["sample"] == 0) & (scores.decoding == decoding)]
    for name, rows in messages.groupby("benchmark", sort=False):
        verdicts = scores[scores.benchmark == name]
        for index, task in enumerate(rows.task_id.unique()[:SHOWN]):
            of_task = rows[rows.task_id == task]
            kinds = [k for k in of_task.intervention.unique() if _shown(k, index == 0)]
            verdict = verdicts[verdicts.task_id == task]
            lines = [_conversation(of_task, verdict, kind) for kind in kinds]
            yield page.folded(f"Evaluation on {name}: {task}", "".join(lines), index == 0)


def _shown(kind: str, alone_too: bool) -> bool:
    return kind == FACTUAL or (alone_too and intervention.parse(kind)[0] == "solo")


def _conversation(messages: pd.DataFrame, verdicts: pd.DataFrame, kind: str) -> str:
    """The messages under an intervention, and the verdict."""
    lines = [
        f"<p>{kind}, turn {m.turn}, agent {m.agent}, message {m.fate}</p>"
        f"<pre>{html.escape(m.prompt)}</pre><pre>{html.escape(m.completion)}</pre>"
        for m in messages[messages.intervention == kind].itertuples()
    ]
    lines += [
        f"<p>{kind}: answer {html.escape(v.answer) or '(none)'}, truth {html.escape(v.truth)}, "
        f"accuracy {v.accuracy:g}</p>"
        for v in verdicts[verdicts.intervention == kind].itertuples()
    ]
    return "".join(lines)
