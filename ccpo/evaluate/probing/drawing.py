"""Draws a probe of a run: frozen contexts x candidate messages x replays, for the messages of every
turn. The last work of a probe that may need a GPU; verdicts are given elsewhere (probe_verdicts).

Contexts come from the team's own play on test tasks. The context of a message is all that it was
written from: the task, the messages that its author reads, and those that these were written from.
Candidates are drawn independently from the policy, and none is thrown away. A replay keeps context
and candidate and draws all other messages that bear upon the answer. Each (context, candidate,
replay) has a stream of its own numbers, so that a killed probe goes on to the same table.
"""

from __future__ import annotations

import functools
import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ccpo import benchmark, lease, lineage, schema
from ccpo.benchmark import Task
from ccpo.config import Probe, RunConfig, read_probe, read_run
from ccpo.data.tables import read_tasks
from ccpo.evaluate.evaluate import endpoints_of
from ccpo.play import room
from ccpo.play.rollout import MessageRequest, generate_messages, stream
from ccpo.play.types import Ledger, Message, PlayingTeam
from ccpo.team import Team

log = logging.getLogger("ccpo")

TABLE = "probe_messages"
OWN = -1  # the probed turn of the team's own play, and of episodes without an agent
STAGES = ("own", "candidates", "replays", "removal")

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Sources:
    """The files that a probe is drawn from: the run's config, the probe, the task table, and the
    folders of the policies (one that all agents share, or one for each).
    """

    config: Path
    probe: Path
    tasks: Path
    policies: tuple[Path, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        """All of them, each once."""
        return tuple(dict.fromkeys((self.config, self.probe, self.tasks, *self.policies)))

    @functools.cached_property
    def begun(self) -> lineage.Begun:
        """Their hashes, compared with what made them."""
        return lineage.begin(self.files)

    def key(self) -> str:
        """16 hex digits of their content."""
        return hashlib.sha256(" ".join(self.begun.hashes.values()).encode()).hexdigest()[:16]


def policies_in(folders: Sequence[Path]) -> tuple[Path, ...]:
    """The policies' folders of what training left or kept (policy0 ...), or the folders themselves
    where it is what training began with.
    """
    if len(folders) > 1 or (folders[0] / "config.json").is_file():
        return tuple(folders)
    return tuple(
        sorted(
            folders[0].glob("policy*"), key=lambda folder: int(folder.name.removeprefix("policy"))
        )
    )


def draw(sources: Sources, *, scratch: Path, out: Path) -> None:
    """Draws the probe of a run at one share of its training. What is drawn is kept in `scratch`
    turn by turn.

    Raises:
        ValueError: a file is no such, there are too few tasks, or no task leaves room for a
        message.
    """
    begun = sources.begun
    run = read_run(sources.config)
    probe = read_probe(sources.probe)
    tasks = read_tasks(sources.tasks, "test")[: probe.tasks]
    if len(tasks) < 2:
        raise ValueError(
            f"{sources.tasks} has {len(tasks)} test task(s), a probe needs two at least"
        )
    import torch

    torch.set_num_threads(1)
    parts = 1 + len(run.build_team().turns) + removable(run.build_team())
    with lease.hold(scratch, "probe") as held:
        drawing = _Drawing(probe, run, tasks, _playing(run, probe, sources.policies))
        room.check(drawing.playing, tasks)
        keep = _Keep(scratch / f"probe-{sources.key()}", held, parts)
        own = keep("own", drawing.own)
        rows = list(own)
        for turn in range(len(drawing.team.turns)):
            rows += keep(f"turn{turn}", functools.partial(drawing.of_turn, turn, own))
        if removable(drawing.team):
            rows += keep("removal", drawing.without_first)
        held.check()
        schema.write_table(out, schema.rows_to_table(TABLE, rows))
        lineage.write_passport(out, begun)


def _playing(run: RunConfig, probe: Probe, folders: Sequence[Path]) -> PlayingTeam:
    """The team, as it plays in training."""
    team = run.build_team()
    asked = benchmark.load(probe.benchmark_of(run).name)
    params = probe.benchmark_of(run).params
    demos = tuple(asked.demos(run.shots, **params)) if run.shots else ()
    endpoints = [
        replace(each, demos=demos, form=asked.FORM)
        for each in endpoints_of(run, team, list(folders))
    ]
    temperature = probe.temperature or run.sampling.temperature
    return PlayingTeam(team, endpoints, temperature, run.sampling.max_tokens)


@dataclass(frozen=True)
class _Keep:
    """Where the `parts` of a probe are kept as they are drawn."""

    folder: Path
    held: lease.Lease
    parts: int

    def __call__(self, name: str, play: Callable[[], Rows]) -> Rows:
        """Rows of a part, as they were kept, else drawn now."""
        path = self.folder / f"{name}.parquet"
        self.held.tell(len(list(self.folder.glob("*.parquet"))), self.parts, name)
        if path.is_file():
            return schema.read_table(path, TABLE).to_pylist()
        rows = play()
        self.held.check()
        schema.write_table(path, schema.rows_to_table(TABLE, rows))
        return rows


def ancestors(team: Team, turn: int) -> tuple[int, ...]:
    """The turns that a message is written from: those it reads, and those that these read."""
    turns: set[int] = set()
    pending = list(team.turns[turn].reads)
    while pending:
        read = pending.pop()
        if read not in turns:
            turns.add(read)
            pending += team.turns[read].reads
    return tuple(sorted(turns))


def redrawn(team: Team, turn: int) -> tuple[int, ...]:
    """The turns that a replay draws below a message: those that bear upon the team's answer, and
    are neither the message nor what it was written from.
    """
    last = len(team.turns) - 1
    bears = range(last + 1) if team.answer == "vote" else (*ancestors(team, last), last)
    return tuple(t for t in bears if t != turn and t not in ancestors(team, turn))


def removable(team: Team) -> bool:
    """Whether the team still answers without its first agent, alone: what CCPO's credit compares
    with.
    """
    return team.answer == "last" and team.agents == 2 and len(team.without(0)) == 1


@dataclass(frozen=True)
class _Branch:
    """Texts by turn of an unfinished episode, and where its rows belong."""

    context: int
    task: int
    texts: dict[int, str] = field(default_factory=dict)
    candidate: int = -1
    replay: int = -1


@dataclass(frozen=True)
class _Drawing:
    """A probe of one run at one share of its training."""

    probe: Probe
    run: RunConfig
    tasks: list[Task]
    playing: PlayingTeam

    @property
    def team(self) -> Team:
        """Who plays."""
        return self.playing.team

    def own(self) -> Rows:
        """The team's own play: the messages that contexts consist of."""
        team = self.team
        last = len(team.turns) - 1
        spoken = sorted({read for turn in range(last + 1) for read in ancestors(team, turn)})
        branches = [
            _Branch(context=task * self.probe.contexts + k, task=task)
            for task in range(len(self.tasks))
            for k in range(self.probe.contexts)
        ]
        rows: Rows = []
        for turn in spoken:
            branches, drawn = self._say(branches, turn, ("own", OWN), 1)
            rows += drawn
        return rows

    def of_turn(self, turn: int, own: Rows) -> Rows:
        """Candidates of a turn in its contexts, and the replays below each."""
        contexts = self._contexts(turn, own)
        numbers = self.probe.candidates
        branches, rows = self._say(contexts, turn, ("candidates", turn), numbers)
        later = redrawn(self.team, turn)
        for position, after in enumerate(later):
            n = self.probe.replays if position == 0 else 1
            branches, drawn = self._say(branches, after, ("replays", turn), n)
            rows += drawn
        return rows

    def without_first(self) -> Rows:
        """Episodes of the second agent alone, as many a task as a turn has candidates."""
        branches = [_Branch(context=task, task=task) for task in range(len(self.tasks))]
        (turn,) = self.team.without(0)
        _, rows = self._say(branches, turn, ("removal", OWN), self.probe.candidates)
        return rows

    def _contexts(self, turn: int, own: Rows) -> list[_Branch]:
        """The contexts of a turn: as many a task as episodes were played, or one, where the task is
        all that its author reads.
        """
        read = ancestors(self.team, turn)
        each = self.probe.contexts
        texts: dict[int, dict[int, str]] = {}
        for row in own:
            if row["turn"] in read:
                texts.setdefault(row["context"], {})[row["turn"]] = row["text"]
        if not read:
            return [_Branch(context=task * each, task=task) for task in range(len(self.tasks))]
        return [
            _Branch(context=context, task=context // each, texts=of_context)
            for context, of_context in sorted(texts.items())
        ]

    def _say(
        self, branches: list[_Branch], turn: int, place: tuple[str, int], n: int
    ) -> tuple[list[_Branch], Rows]:
        """`n` messages of a turn below each branch; `place`: what is drawn, and the probed turn."""
        stage, probed = place
        present = self.team.without(0 if stage == "removal" else -1)
        reads = [read for read in self.team.turns[turn].reads if read in present]
        request = MessageRequest(
            turn=turn,
            present=present,
            questions=[self.tasks[branch.task].question for branch in branches],
            read=[[branch.texts[read] for read in reads] for branch in branches],
            n=n,
            purpose="probe",
        )
        numbers = (self.probe.seed, self.run.seed, STAGES.index(stage), probed + 1, turn)
        seed = stream("probe", *numbers)
        messages = generate_messages(self.playing, request, seed, Ledger())
        longer = []
        rows: Rows = []
        for branch, of_branch in zip(branches, messages, strict=True):
            for number, message in enumerate(of_branch):
                new = replace(branch, texts={**branch.texts, turn: message.text})
                if stage in ("candidates", "removal"):
                    new = replace(new, candidate=number)
                elif stage == "replays" and n > 1:
                    new = replace(new, replay=number)
                longer.append(new)
                rows.append(self._row(new, place, turn, message))
        return longer, rows

    def _row(
        self, branch: _Branch, place: tuple[str, int], turn: int, message: Message
    ) -> dict[str, Any]:
        stage, probed = place
        return {
            "probed": probed,
            "context": branch.context,
            "task_id": self.tasks[branch.task].task_id,
            "candidate": branch.candidate,
            "replay": branch.replay,
            "turn": turn,
            "agent": self.team.turns[turn].agent,
            "removed": 0 if stage == "removal" else -1,
            "text": message.text,
            "tokens": len(message.completion.token_ids),
            "logprob": float(sum(message.completion.logprobs)),
            "finish_reason": message.completion.finish_reason,
        }
