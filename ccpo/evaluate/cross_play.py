"""Cross-play: teams whose agents come from several conditions (and from before training), on the
same tasks and draws. Nothing is trained.

Of two agents every pairing plays; of more, every team with one of its agents from another
condition. A message depends on nothing but the policies of its author and of those it reads, so
each is drawn once for all teams that share these; a policy is loaded once a turn, and never beside
another. The draws are those of the factual evaluation: a team that is not mixed says what it says
there.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ccpo import benchmark, lease, lineage, manifest, schema
from ccpo.benchmark import Task
from ccpo.config import RunConfig, read_run
from ccpo.data import overlap
from ccpo.data.tables import read_tasks
from ccpo.evaluate.parts import Kept, Part, Rows
from ccpo.grade import verifier
from ccpo.manifest import CrossPlan
from ccpo.play import engine, room
from ccpo.play import rollout as rollouts
from ccpo.play.types import AgentEndpoint, Ledger, Message, PlayingTeam
from ccpo.team import Team, vote_outcome

log = logging.getLogger("ccpo")

ANY = "*"  # stands for an agent that a message does not depend on
Seats = tuple[str, ...]  # whose policy each agent has: labels by agent


def seatings(labels: Sequence[str], agents: int) -> list[Seats]:
    """The teams that play: of two agents all pairings; of more those that are not mixed, and those
    with one agent from another condition.
    """
    if agents == 2:
        return list(itertools.product(labels, repeat=2))
    own = [(label,) * agents for label in labels]
    mixed = [
        swapped(team, agent, label)
        for team in own
        for agent in range(agents)
        for label in labels
        if label != team[agent]
    ]
    return [*own, *mixed]


def swapped(seats: Seats, agent: int, label: str) -> Seats:
    """The team with one agent from another condition."""
    return (*seats[:agent], label, *seats[agent + 1 :])


def joined(seats: Seats) -> str:
    """Seats as they stand in a table; no label has a bar."""
    return "|".join(seats)


def reached(team: Team, turn: int) -> frozenset[int]:
    """The agents whose policies a turn's message depends on."""
    earlier = [reached(team, read) for read in team.turns[turn].reads]
    return frozenset({team.turns[turn].agent}).union(*earlier)


def narrowed(team: Team, turn: int, seats: Seats) -> Seats:
    """The seats that a turn's message depends on; ANY for the others."""
    own = reached(team, turn)
    return tuple(label if agent in own else ANY for agent, label in enumerate(seats))


@dataclass(frozen=True)
class CrossSources:
    """The files that a seed's cross-play is made from: its plan, the folders of runs and of base
    models, the task table that the conditions were `trained_on`, and the one that is played.
    """

    plan: Path
    seed: int
    runs: Path
    models: Path
    trained_on: Path
    tasks: Path

    def run(self, label: str) -> Path:
        """The folder of the run whose policies (as it left or as it found them) a label names."""
        return self.runs / manifest.read_cross(self.plan).players[label].runs[self.seed]


def play(sources: CrossSources, *, scratch: Path, out: Path) -> None:
    """Plays the cross-play of one seed, and writes the messages as a table `rollouts`, whose column
    `intervention` holds the seats that each depends on. What is played is kept in `scratch`, so
    that a killed evaluation goes on with the next part.

    Raises:
        ValueError: a run was trained on a test item (ccpo/data/overlap.py), or a file is no such.
    """
    plan = manifest.read_cross(sources.plan)
    import torch

    torch.set_num_threads(1)
    players = {label: _Player.of(sources, plan, label) for label in plan.players}
    for player in players.values():
        player.refuse_trained_on(sources)
    first = next(iter(players.values()))
    team = first.run.build_team()
    items = read_tasks(sources.tasks, "test")[: plan.most]
    paths = tuple(dict.fromkeys(path for player in players.values() for path in player.files))
    begun = lineage.begin([sources.plan, *paths, sources.trained_on, sources.tasks])
    with lease.hold(scratch, "cross") as held:
        total = sum(len(of_turn) for of_turn in messages_of(team, list(players)))
        kept = Kept(scratch / f"cross-{_key(begun, sources.seed)}", held, total, {})
        rows = _Crossed(plan, sources.seed, team, players, items).play(kept)
        held.check()
        schema.write_table(out, schema.rows_to_table("rollouts", rows))
        lineage.write_passport(out, begun)


def messages_of(team: Team, labels: Sequence[str]) -> list[list[Seats]]:
    """By turn, the seats for which messages are drawn, those of one author together."""
    every = seatings(labels, team.agents)
    out = []
    for turn, written in enumerate(team.turns):
        own = dict.fromkeys(narrowed(team, turn, seats) for seats in every)
        out.append(sorted(own, key=lambda seats: labels.index(seats[written.agent])))
    return out


def _key(begun: lineage.Begun, seed: int) -> str:
    """16 hex digits of the content that messages are made from."""
    hashes = " ".join([*begun.hashes.values(), str(seed)])
    return hashlib.sha256(hashes.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class _Player:
    """Whose policies speak: a run, and their folders, one for all agents or one for each."""

    run: RunConfig
    folder: Path
    policies: tuple[Path, ...]

    @classmethod
    def of(cls, sources: CrossSources, plan: CrossPlan, label: str) -> _Player:
        folder = sources.run(label)
        run = read_run(folder / "config.json")
        if plan.players[label].trained:
            policies = sorted(
                (folder / "model").glob("policy*"),
                key=lambda path: int(path.name.removeprefix("policy")),
            )
        else:
            policies = [sources.models / model.slug for model in run.models]
        if not policies:
            raise ValueError(
                f"{folder / 'model'} holds no policy. Remedy: run the rule that makes it "
                f"(snakemake {folder / 'model'})"
            )
        return cls(run, folder, tuple(policies))

    @property
    def files(self) -> tuple[Path, ...]:
        """What is played: config and policies."""
        return (self.folder / "config.json", *self.policies)

    def policy(self, agent: int) -> Path:
        """The folder of an agent's policy."""
        return self.policies[agent if len(self.policies) > 1 else 0]

    def refuse_trained_on(self, sources: CrossSources) -> None:
        """ValueError where the run was trained on an item that is played."""
        left_out = lineage.read_provenance(self.folder).trained.left_out
        overlap.refuse_trained_on(self.run, sources.trained_on, left_out, [sources.tasks])

    def endpoint(self, agent: int, form: str, demos: tuple[benchmark.Demo, ...]) -> AgentEndpoint:
        """An agent's policy, loaded."""
        from ccpo.models import policy

        make = engine.load(self.run.sampling.engine)
        model, tokenizer = policy.load(self.policy(agent), self.run.train.dtype)
        made = make(model, policy.end_ids(model, tokenizer))
        return AgentEndpoint(made, tokenizer, demos=demos, form=form)


@dataclass
class _Crossed:
    """A seed's cross-play while it is played. `texts`: by turn and seats, what was said by episode;
    `loaded`: the only policy that is in memory.
    """

    plan: CrossPlan
    seed: int
    team: Team
    players: Mapping[str, _Player]
    items: Sequence[Task]
    texts: dict[tuple[int, Seats], list[str]] = field(default_factory=dict)
    loaded: dict[tuple[str, int], PlayingTeam] = field(default_factory=dict)

    def play(self, kept: Callable[[Part, Callable[[], Rows]], Rows]) -> Rows:
        """The rows of all messages, turn by turn."""
        rows: Rows = []
        labels = list(self.players)
        for turn, of_turn in enumerate(messages_of(self.team, labels)):
            for seats in of_turn:
                numbers = [str(labels.index(x)) if x in labels else "any" for x in seats]
                part = Part(self.plan.benchmark, self.plan.decoding, f"{turn}-{'-'.join(numbers)}")
                new = kept(part, functools.partial(self._draw, turn, seats))
                self.texts[turn, seats] = [row["completion"] for row in new]
                rows += new
        return rows

    def _draw(self, turn: int, seats: Seats) -> Rows:
        """The messages of a turn under seats, which their authors' readings follow."""
        written = self.team.turns[turn]
        playing = self._playing(seats[written.agent], written.agent)
        read = [
            self.texts[earlier, narrowed(self.team, earlier, seats)] for earlier in written.reads
        ]
        questions = [item.question for item in self.items for _ in range(self.plan.samples)]
        request = rollouts.MessageRequest(
            turn,
            tuple(range(len(self.team.turns))),
            questions,
            [[texts[i] for texts in read] for i in range(len(questions))],
            n=1,
            purpose="evaluation",
        )
        stream = rollouts.stream("evaluation", self.plan.seed, self.seed)
        messages = rollouts.generate_messages(playing, request, [*stream, turn], Ledger())
        return [
            self._row(playing, (turn, episode), seats, row[0])
            for episode, row in enumerate(messages)
        ]

    def _playing(self, label: str, agent: int) -> PlayingTeam:
        """The team with one policy in all places, of which one agent speaks."""
        if (label, agent) not in self.loaded:
            self.loaded.clear()  # before the next one is loaded
            player = self.players[label]
            asked = benchmark.load(self.plan.benchmark)
            shots = player.run.shots
            demos = tuple(asked.demos(shots, **self.plan.params)) if shots else ()
            endpoint = player.endpoint(agent, asked.FORM, demos)
            playing = PlayingTeam(
                self.team,
                [endpoint] * self.team.agents,
                self.plan.temperature,
                self.plan.limits,
                top_p=self.plan.top_p,
                top_k=self.plan.top_k,
            )
            room.check(playing, self.items)
            self.loaded[label, agent] = playing
        return self.loaded[label, agent]

    def _row(
        self, playing: PlayingTeam, place: tuple[int, int], seats: Seats, message: Message
    ) -> dict[str, Any]:
        turn, episode = place
        return {
            "task_id": self.items[episode // self.plan.samples].task_id,
            "sample": episode % self.plan.samples,
            "intervention": joined(seats),
            "turn": turn,
            "agent": self.team.turns[turn].agent,
            "fate": "drawn",
            "prompt": str(playing.endpoint(turn).tokenizer.decode(message.prompt)),
            "completion": message.text,
            "n_prompt_tokens": len(message.prompt),
            "n_completion_tokens": len(message.completion.token_ids),
            "logprob": float(sum(message.completion.logprobs)),
            "finish_reason": message.completion.finish_reason,
        }


@dataclass(frozen=True)
class CrossPlayed:
    """What verdicts are made from: the plan, the config of one of its runs (all have one team), the
    task table, and the messages.
    """

    plan: Path
    config: Path
    tasks: Path
    rollouts: Path


def score(played: CrossPlayed, *, scratch: Path, out: Path) -> None:
    """The answer and its verdict of every team, task and sample: the table `cross`. Each message is
    judged once, whatever teams share it. What was kept in `scratch` is deleted.
    """
    begun = lineage.begin([played.plan, played.config, played.tasks, played.rollouts])
    schema.write_table(out, graded(played))
    lineage.write_passport(out, begun)
    shutil.rmtree(scratch, ignore_errors=True)


def graded(played: CrossPlayed) -> schema.Table:
    """The table that `score` writes."""
    plan = manifest.read_cross(played.plan)
    team = read_run(played.config).build_team()
    items = {task.task_id: task for task in read_tasks(played.tasks, "test")}
    messages = schema.read_table(played.rollouts, "rollouts").to_pylist()
    verdicts = _verdicts(messages, team, items)
    episodes = list(dict.fromkeys((row["task_id"], row["sample"]) for row in messages))
    rows = [
        row
        for seats in seatings(list(plan.players), team.agents)
        for row in _judged(team, seats, episodes, verdicts, items)
    ]
    return schema.rows_to_table("cross", rows)


Episode = tuple[str, int]  # task and sample
Verdicts = Mapping[tuple[int, str, Episode], verifier.Verdict]  # by turn, seats, episode


def _answering(team: Team) -> tuple[int, ...]:
    """The turns that answer for the team."""
    every = tuple(range(len(team.turns)))
    return every if team.answer == "vote" else every[-1:]


def _verdicts(messages: Rows, team: Team, items: Mapping[str, Task]) -> Verdicts:
    """Of every message that answers."""
    answers = [row for row in messages if row["turn"] in _answering(team)]
    judged = verifier.verify_many(
        (row["completion"], task.truth, task.kind, task.tolerance)
        for row, task in ((row, items[row["task_id"]]) for row in answers)
    )
    return {
        (row["turn"], row["intervention"], (row["task_id"], row["sample"])): verdict
        for row, verdict in zip(answers, judged, strict=True)
    }


def _judged(
    team: Team,
    seats: Seats,
    episodes: Sequence[Episode],
    verdicts: Verdicts,
    items: Mapping[str, Task],
) -> Iterator[dict[str, Any]]:
    """A team's rows."""
    keys = [(turn, joined(narrowed(team, turn, seats))) for turn in _answering(team)]
    own = [[verdicts[turn, key, episode] for turn, key in keys] for episode in episodes]
    voting = team.answer == "vote"
    ballots = verifier.in_order(
        verifier.ballots,
        (
            (votes, items[episode[0]].kind, items[episode[0]].tolerance)
            for episode, votes in zip(episodes, own if voting else [], strict=voting)
        ),
    )
    for episode, votes in zip(episodes, own, strict=True):
        late = sum(vote.late for vote in votes)
        accuracy = float(votes[0].correct)
        if voting:
            ballot = next(ballots)
            accuracy = float(vote_outcome(np.array([ballot.codes]), team.tie)[0])
            late += ballot.late
        yield {
            "task_id": episode[0],
            "sample": episode[1],
            "seats": joined(seats),
            "answer": " | ".join(vote.answer or "-" for vote in votes),
            "accuracy": accuracy,
            "late": late,
        }
