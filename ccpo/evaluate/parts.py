"""What an evaluation plays at a time, and where what was played before is kept.

A part's rows depend on the policies, the task table and the settings of that part alone, since each
part draws from a stream of its own. So a killed evaluation goes on with its next part, and a
protocol that has one intervention more than another plays that one only.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ccpo import intervention, lease, lineage, schema
from ccpo.config import Protocol, RunConfig, read_protocol
from ccpo.data.tables import read_tasks
from ccpo.team import Team

log = logging.getLogger("ccpo")

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Part:
    """What an evaluation plays at a time: a benchmark, a decoding and an intervention, by name."""

    benchmark: str
    decoding: str
    intervention: str

    def __str__(self) -> str:
        return f"{self.benchmark}.{self.decoding}.{self.intervention}"


@dataclass(frozen=True)
class Sources:
    """The files that an evaluation is made from: the run's config and provenance, the protocol, the
    task table it was `trained_on`, the `tasks` of each benchmark that is evaluated, the run's
    `model`, and the `untrained` folder that training began with, or one for each agent.
    """

    config: Path
    provenance: Path
    protocol: Path
    trained_on: Path
    tasks: tuple[Path, ...]
    model: Path
    untrained: tuple[Path, ...]

    @property
    def policies(self) -> tuple[Path, ...]:
        """What speaks, and how it is asked."""
        return (self.config, self.model, *self.untrained)

    @property
    def files(self) -> tuple[Path, ...]:
        """All of them, each once."""
        named = (self.provenance, self.protocol, self.trained_on, *self.tasks)
        return tuple(dict.fromkeys((*self.policies, *named)))

    @functools.cached_property
    def begun(self) -> lineage.Begun:
        """All of them as they were when they were first asked for, and what their records say."""
        return lineage.begin(self.files)

    @property
    def hashes(self) -> Mapping[Path, str]:
        """sha256 of each, computed once: a model's weights are many gigabytes."""
        return self.begun.hashes

    def key(self) -> str:
        """16 hex digits of their content: what was kept of another evaluation is not taken for this
        one's.
        """
        hashes = [self.hashes[path] for path in (*self.policies, self.protocol, *self.tasks)]
        return hashlib.sha256(" ".join(hashes).encode()).hexdigest()[:16]

    def unchanged(self, recorded: Mapping[str, str], paths: Iterable[Path], folder: Path) -> bool:
        """Whether files are today what a passport in `folder` recorded that they were."""
        return all(
            recorded.get(os.path.relpath(path, folder)) == self.hashes[path] for path in paths
        )


def parts_of(run: RunConfig, protocol: Protocol) -> list[tuple[str, str]]:
    """What an evaluation plays on each benchmark, as (decoding, intervention): under every decoding
    the team as it is and what changes the whole team; under the primary decoding also what changes
    one agent.
    """
    kinds = list(protocol.changes(run.build_team()))
    everywhere = ["factual", *(kind for kind in kinds if changes_team(kind))]
    others = [name for name in protocol.decodings if name != protocol.primary]
    return [
        *((protocol.primary, kind) for kind in ["factual", *kinds]),
        *((name, kind) for name in others for kind in everywhere),
    ]


def changes_team(kind: str) -> bool:
    """Whether an intervention, by its name in tables, changes the whole team."""
    return bool(intervention.load(intervention.parse(kind)[0]).CHANGES == "team")


def asks_untrained(team: Team, kinds: Iterable[str]) -> bool:
    """Whether the policies that training began with speak under one of these interventions."""
    return any(intervention.change_of(team, kind).untrained for kind in kinds)


class Kept:
    """Rows of parts as they are played, kept in a folder; and those of other protocols by which the
    run was evaluated before.
    """

    def __init__(
        self, folder: Path, held: lease.Lease, total: int, earlier: Mapping[Part, Rows]
    ) -> None:
        self.folder = folder
        self.held = held
        self.total = total
        self.earlier = earlier
        self.done = 0
        held.tell(0, total)

    def __call__(self, part: Part, play: Callable[[], Rows]) -> Rows:
        """The rows of one part, as they were kept, else played now."""
        path = self.folder / f"{part}.parquet"
        if part in self.earlier:
            rows = self.earlier[part]
        elif path.is_file():
            rows = schema.read_table(path, "rollouts").to_pylist()
        else:
            head = {"benchmark": part.benchmark, "decoding": part.decoding}
            rows = [{**head, **row} for row in play()]
            self.held.check()
            schema.write_table(path, schema.rows_to_table("rollouts", rows))
        self.done += 1
        self.held.tell(self.done, self.total, f"{part}")
        return rows


def played_before(sources: Sources, run: RunConfig, out: Path) -> dict[Part, Rows]:
    """Rows of the parts that another protocol's evaluation of the same policies, on the same tasks,
    played in the same way: {run}/eval/*/rollouts.parquet beside `out`, as far as their passports
    say so.
    """
    asked = read_protocol(sources.protocol)
    rows: dict[Part, Rows] = {}
    for table in sorted(out.parent.parent.glob(f"*/{out.name}")):
        if table == out or not lineage.passport_of(table).is_file():
            continue
        folder = table.parent
        passport = lineage.read_passport(table)
        protocol = _protocol_of(passport, table)
        if not protocol or not sources.unchanged(passport.inputs, sources.policies, folder):
            continue
        same = [
            Part(choice.name, *part)
            for choice, path in zip(asked.benchmarks(run), sources.tasks, strict=True)
            if sources.unchanged(passport.inputs, [path], folder)
            for part in parts_of(run, asked)
            if _played_alike(asked, protocol, part)
        ]
        wanted = [part for part in same if part not in rows]
        if wanted and schema.sha256(table) == passport.sha256:
            samples = _samples(sources, run, asked)
            rows |= {
                part: of_part
                for part, of_part in _rows(table, wanted).items()
                if len({row["sample"] for row in of_part}) == samples[part.benchmark, part.decoding]
            }
    return rows


def _samples(sources: Sources, run: RunConfig, asked: Protocol) -> dict[tuple[str, str], int]:
    """Episodes of each task that a protocol asks for, by benchmark and decoding."""
    out = {}
    for choice, path in zip(asked.benchmarks(run), sources.tasks, strict=True):
        tasks = len(read_tasks(path, "test")[: asked.tasks])
        for decoding in asked.decodings:
            out[choice.name, decoding] = asked.samples(decoding, run, choice.name, tasks)
    return out


def _protocol_of(passport: lineage.Passport, table: Path) -> Protocol | None:
    """The protocol that a table of rollouts was played by: the file that is named as its folder."""
    named = [name for name in passport.inputs if Path(name).name == f"{table.parent.name}.json"]
    path = Path(os.path.normpath(table.parent / named[0])) if named else None
    if not (path and path.is_file()):
        return None
    try:
        return read_protocol(path)
    except ValueError as error:
        log.info("%s is played by another protocol: %s", table, error)
        return None


def _played_alike(a: Protocol, b: Protocol, part: tuple[str, str]) -> bool:
    """Whether two protocols play a (decoding, intervention) in the same way, but for the number of
    samples, which the table itself tells.
    """
    decoding, kind = part
    if decoding not in b.decodings:
        return False
    one, other = (p.decodings[decoding].model_dump(exclude={"samples"}) for p in (a, b))
    if one != other:
        return False
    if kind != "factual" and _as_played(a, kind) != _as_played(b, kind):
        return False
    if not changes_team(kind) and b.primary != decoding:
        return False
    return (a.tasks, a.seed, a.max_tokens, a.stage) == (b.tasks, b.seed, b.max_tokens, b.stage)


def _as_played(protocol: Protocol, kind: str) -> tuple[int, dict[str, Any]] | None:
    """Version and parameters of an intervention, by its name in tables; None where a protocol does
    not play it.
    """
    name, agent = intervention.parse(kind)
    for choice in protocol.interventions:
        if choice.name == name and (choice.agents is None or agent in choice.agents):
            return choice.version, choice.params
    return None


def _rows(table: Path, parts: Iterable[Part]) -> dict[Part, Rows]:
    """Rows of a table by part; of the parts that it holds."""
    rows: dict[Part, Rows] = {}
    wanted = set(parts)
    for row in schema.read_table(table, "rollouts").to_pylist():
        part = Part(row["benchmark"], row["decoding"], row["intervention"])
        if part in wanted:
            rows.setdefault(part, []).append(row)
    log.info("%d parts are taken from %s", len(rows), table)
    return rows
