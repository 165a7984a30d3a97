"""What a probe says of credit: verdicts, then for every turn fidelity, variance, calibration,
influence, and the published definitions. Needs no GPU.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ccpo import lineage, schema
from ccpo.config import read_run
from ccpo.data.tables import read_tasks
from ccpo.evaluate.probing import as_published, fidelity, verdicts
from ccpo.evaluate.probing.drawing import TABLE, ancestors
from ccpo.evaluate.probing.fidelity import Draws, Method
from ccpo.evaluate.probing.influence import influence
from ccpo.play.rollout import stream
from ccpo.publish.probe_statistics import MethodProbe, RunProbe, TurnProbe
from ccpo.team import Team

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Drawn:
    """What is measured: the run's config, the task table, and the messages of its probe."""

    config: Path
    tasks: Path
    messages: Path


def measure(drawn: Drawn, *, scratch: Path, table: Path, diagnostics: Path) -> None:
    """Writes the table `probe` and the diagnostics of a run at one share of its training, and
    deletes what was kept in `scratch` for a drawing that dies.
    """
    begun = lineage.begin([drawn.config, drawn.tasks, drawn.messages])
    rows, measured_on = measured(drawn)
    schema.write_table(table, rows)
    lineage.write_passport(table, begun)
    measured_on.write(diagnostics)
    lineage.write_passport(diagnostics, lineage.begin([drawn.config, table]))
    shutil.rmtree(scratch, ignore_errors=True)


def measured(drawn: Drawn) -> tuple[schema.Table, RunProbe]:
    """The table `probe` and the diagnostics that `measure` writes."""
    run = read_run(drawn.config)
    team = run.build_team()
    tasks = {task.task_id: task for task in read_tasks(drawn.tasks, "test")}
    messages = schema.read_table(drawn.messages, TABLE).to_pylist()
    rows = verdicts.rows(team, tasks, messages)
    diagnostics = RunProbe(run=run.id, turns=tuple(of_turns(team, rows)))
    return schema.rows_to_table("probe", rows), diagnostics


def of_turns(team: Team, rows: Sequence[Row]) -> list[TurnProbe]:
    """The diagnostics of every turn, from the rows of the table `probe`."""
    out = []
    for turn in range(len(team.turns)):
        own = [row for row in rows if row["turn"] == turn and row["removed"] < 0]
        draws = draws_of(team, turn, rows)
        texts = np.array([row["next_text"] for row in _ordered(own)])
        late = sum(row["late"] for row in own)
        out.append(of_turn(team, draws, texts.reshape(draws.reward.shape), late))
    return out


def draws_of(team: Team, turn: int, rows: Sequence[Row]) -> Draws:
    """The rows of a turn as arrays; see Draws."""
    own = _ordered([row for row in rows if row["turn"] == turn and row["removed"] < 0])
    ids = list(dict.fromkeys(row["task_id"] for row in own))
    contexts, candidates, replays = (
        len({row[key] for row in own}) for key in ("context", "candidate", "replay")
    )
    shape = (contexts, candidates, replays)
    votes = [[int(code) for code in row["votes"].split(",") if code] for row in own]
    solo = {
        task: [r["reward"] for r in rows if r["removed"] >= 0 and r["task_id"] == task]
        for task in ids
    }
    return Draws(
        turn=turn,
        task=np.array([ids.index(row["task_id"]) for row in own]).reshape(shape)[:, 0, 0],
        reward=np.array([row["reward"] for row in own]).reshape(shape),
        answer=np.array([row["answer"] for row in own]).reshape(shape),
        votes=np.array(votes, dtype=int).reshape(*shape, -1),
        solo=np.array([solo[task] for task in ids]),
        before=ancestors(team, turn),
    )


def _ordered(rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: (row["context"], row["candidate"], row["replay"]))


def of_turn(team: Team, draws: Draws, next_text: np.ndarray, late: int = 0) -> TurnProbe:
    """The diagnostics of one turn, from what was drawn of it and the text [C, n, m] of the next
    message ("": none).
    """
    rng = np.random.default_rng(stream("shuffle", draws.turn))
    pair = fidelity.halves(draws)
    of = fidelity.target(pair, rng)
    able, left_out = fidelity.methods(team, draws)
    contexts, candidates, replays = draws.reward.shape
    return TurnProbe(
        turn=draws.turn,
        agent=team.turns[draws.turn].agent,
        contexts=contexts,
        candidates=candidates,
        replays=replays,
        reward=float(draws.reward.mean()),
        mixed=draws.mixed,
        late=late,
        reliability=of.reliability,
        signal=of.signal,
        influence=None if draws.exact else influence(draws.answer, draws.task, rng),
        methods=tuple(_method(team, pair, of, method, rng) for method in able),
        published=tuple(as_published.diagnostics(draws.reward, next_text)),
        left_out=tuple(left_out),
    )


def _method(
    team: Team,
    pair: Sequence[fidelity.Half],
    of: fidelity.Target,
    method: Method,
    rng: np.random.Generator,
) -> MethodProbe:
    credits = np.concatenate([fidelity.estimate(team, h.seen, method) for h in pair], axis=1)
    calls = fidelity.plant(team, pair[0].seen, method.form).calls
    return fidelity.measure(credits, of, (method.label, calls), rng)
