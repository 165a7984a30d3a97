"""Evaluation of trained teams: rollouts (the last work that may need a GPU), and their scores
(which never does).
"""

from __future__ import annotations

import functools
import logging
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ccpo import benchmark, intervention, lease, lineage, schema
from ccpo.benchmark import Task
from ccpo.config import Choice, Protocol, RunConfig, read_protocol, read_run
from ccpo.data import overlap
from ccpo.data.tables import read_tasks
from ccpo.evaluate.classes import by_grader, classes_of, lot
from ccpo.evaluate.parts import (
    Kept,
    Part,
    Rows,
    Sources,
    asks_untrained,
    parts_of,
    played_before,
)
from ccpo.grade import leakage, paper_graders, process, verifier
from ccpo.play import engine, room
from ccpo.play import rollout as rollouts
from ccpo.play.types import AgentEndpoint, Ledger, PlayingTeam
from ccpo.team import Team, vote_answer, vote_outcome

log = logging.getLogger("ccpo")


def rollout(sources: Sources, *, scratch: Path, out: Path) -> None:
    """Plays a run's final policies on the test tasks of each benchmark of a protocol, under every
    decoding, with every intervention that means something. What is played is kept in `scratch`, so
    that a killed evaluation goes on with the next part; what was played alike under another
    protocol is taken from there.

    Raises:
        ValueError: the run was trained on a test item (ccpo/data/overlap.py), or a file is no such.
    """
    run = read_run(sources.config)
    protocol = read_protocol(sources.protocol)
    left_out = lineage.read_provenance(sources.provenance.parent).trained.left_out
    overlap.refuse_trained_on(run, sources.trained_on, left_out, sources.tasks)
    begun = sources.begun  # before any model is loaded
    import torch

    from ccpo.models import policy

    torch.set_num_threads(1)
    starts = policy.starts(run, sources.untrained)
    with lease.hold(scratch, "rollout") as held:
        earlier = played_before(sources, run, out)
        total = len(protocol.benchmarks(run)) * len(parts_of(run, protocol))
        kept = Kept(scratch / f"rollout-{sources.key()}", held, total, earlier)
        team = run.build_team()
        folders = sorted(
            sources.model.glob("policy*"),
            key=lambda folder: int(folder.name.removeprefix("policy")),
        )
        trained = endpoints_of(run, team, folders)
        started = (
            endpoints_of(run, team, starts)
            if asks_untrained(team, protocol.changes(team))
            else None
        )
        evaluated = _Evaluated(run, protocol, team, trained, started)
        rows: Rows = []
        for choice, path in zip(protocol.benchmarks(run), sources.tasks, strict=True):
            items = read_tasks(path, "test")[: protocol.tasks]
            log.info("%s: %d test tasks", choice.name, len(items))
            rows += evaluated.play(choice, items, len(items), kept)
        held.check()
        schema.write_table(out, schema.rows_to_table("rollouts", rows))
        lineage.write_passport(out, begun)


def sample(
    run: RunConfig,
    protocol: Protocol,
    endpoints: list[AgentEndpoint],
    tasks: Sequence[Path],
    most: int,
) -> tuple[Rows, int, float]:
    """What a few tasks of each benchmark cost: rows of all interventions with one set of policies,
    tasks, seconds. `tasks`: a table for each of the protocol's benchmarks.
    """
    evaluated = _Evaluated(run, protocol, run.build_team(), endpoints, endpoints)
    start = time.perf_counter()
    rows: Rows = []
    n = 0
    for choice, path in zip(protocol.benchmarks(run), tasks, strict=True):
        every = read_tasks(path, "test")[: protocol.tasks]
        items = every[:most]
        rows += evaluated.play(choice, items, len(every), lambda part, play: play())
        n += len(items)
    return rows, n, time.perf_counter() - start


def endpoints_of(run: RunConfig, team: Team, folders: list[Path]) -> list[AgentEndpoint]:
    """An endpoint for each agent, from the folders of the policies."""
    from ccpo.models import policy

    make = engine.load(run.sampling.engine)
    endpoints = []
    for folder in folders:
        model, tokenizer = policy.load(folder, run.train.dtype)
        endpoints.append(AgentEndpoint(make(model, policy.end_ids(model, tokenizer)), tokenizer))
    return [endpoints[agent if len(endpoints) > 1 else 0] for agent in range(team.agents)]


@dataclass(frozen=True)
class _Evaluated:
    """A run's policies, as training left and as it found them, and how they are played."""

    run: RunConfig
    protocol: Protocol
    team: Team
    trained: list[AgentEndpoint]
    started: list[AgentEndpoint] | None

    def play(
        self,
        choice: Choice,
        items: list[Task],
        tasks: int,
        parts: Callable[[Part, Callable[[], Rows]], Rows],
    ) -> Rows:
        """Rows of one benchmark. All interventions of a run, and all conditions of a training seed,
        draw from the same stream, so that comparisons are paired; another training seed draws
        others, so that the noise of drawing is in every interval over seeds.

        tasks: how many of it the whole evaluation plays.
        """
        run = self.run
        protocol = self.protocol
        asked = benchmark.load(choice.name)
        demos = tuple(asked.demos(run.shots, **choice.params)) if run.shots else ()
        shown = {
            id(of_all): [replace(each, demos=demos, form=asked.FORM) for each in of_all]
            for of_all in (self.trained, self.started or [])
        }
        limits = protocol.limits(run)
        room.check(PlayingTeam(self.team, shown[id(self.trained)], 1.0, limits), items)
        rows: Rows = []
        factual: dict[int, Rows] = defaultdict(list)
        changes = protocol.changes(self.team)
        for name, kind in parts_of(run, protocol):
            decoding = protocol.decodings[name]
            samples = protocol.samples(name, run, choice.name, tasks)
            once = rollouts.EvaluationPass(
                kind,
                samples,
                factual,
                changes[kind].params if kind in changes else {},
                shown[id(self.started)] if self.started else (),
            )
            playing = PlayingTeam(
                self.team,
                shown[id(self.trained)],
                decoding.temperature,
                limits,
                top_p=decoding.top_p,
                top_k=decoding.top_k,
            )
            play = functools.partial(self._play, playing, items, once)
            played = parts(Part(choice.name, name, kind), play)
            if (name, kind) == (protocol.primary, "factual"):
                for row in played:
                    factual[row["turn"]].append(row)
            rows += played
        return rows

    def _play(self, playing: PlayingTeam, items: list[Task], once: rollouts.EvaluationPass) -> Rows:
        """The rows of one part."""
        seed = rollouts.stream("evaluation", self.protocol.seed, self.run.seed)
        return [dict(row) for row in rollouts.evaluate(playing, items, once, seed, Ledger())]


@dataclass(frozen=True)
class Played:
    """What verdicts are made from: the run's config, the protocol, the task table of each of its
    benchmarks, and the rollouts.
    """

    config: Path
    protocol: Path
    tasks: tuple[Path, ...]
    rollouts: Path


@dataclass(frozen=True)
class Graded:
    """The tables `scores` and `graders` of rollouts; `late`: answers that the second lacks, since
    no verdict was reached.
    """

    scores: schema.Table
    graders: schema.Table
    late: int


def score(played: Played, *, scratch: Sequence[Path], out: Path, graders: Path) -> None:
    """The team's answer and its verdict for every (task, decoding, sample, intervention), and
    beside it what the papers' graders would have said.

    Training and evaluation are complete then, and what was kept in the folders `scratch` for jobs
    that die is deleted.
    """
    begun = lineage.begin([played.config, played.protocol, *played.tasks, played.rollouts])
    made = graded(played)
    if made.late:
        log.warning("%d answers are left out of %s: no verdict was reached", made.late, graders)
    schema.write_table(graders, made.graders)
    schema.write_table(out, made.scores)
    for artefact in (graders, out):
        lineage.write_passport(artefact, begun)
    for folder in scratch:
        shutil.rmtree(folder, ignore_errors=True)


def graded(played: Played) -> Graded:
    """The tables that `score` writes."""
    run = read_run(played.config)
    team = run.build_team()
    protocol = read_protocol(played.protocol)
    truths = {
        (choice.name, task.task_id): task
        for choice, path in zip(protocol.benchmarks(run), played.tasks, strict=True)
        for task in read_tasks(path, "test")
    }
    episodes: Episodes = defaultdict(list)
    for row in schema.read_table(played.rollouts, "rollouts").to_pylist():
        episodes[
            row["benchmark"], row["task_id"], row["decoding"], row["sample"], row["intervention"]
        ].append(row)
    rows = []
    audited = []
    unlike = {pair: _unlike(truths, pair) for pair in truths}
    late = 0
    every = judge(team, episodes, truths, unlike, protocol.grader)
    for key, judged in zip(episodes, every, strict=True):
        name, task_id, decoding, sample, kind = key
        head = {"benchmark": name, "task_id": task_id, "decoding": decoding, "sample": sample}
        rows.append({**head, "intervention": kind, **judged})
        if kind == "factual" and team.answer == "last":
            try:
                theirs = _by_papers(episodes[key], truths[name, task_id])
            except process.Late:
                late += 1
                continue
            if theirs:
                ours = {column: judged[column] for column in ("answer", "truth")}
                audited.append({**head, **ours, **theirs})
    return Graded(
        schema.rows_to_table("scores", rows), schema.rows_to_table("graders", audited), late
    )


def _by_papers(messages: Sequence[Mapping[str, Any]], task: Task) -> dict[str, float]:
    """What our verifier and each paper's grader say of an episode's last message; empty where one
    was not used on answers of this kind.

    Raises:
        process.Late: no verdict was reached.
    """
    last = max(messages, key=lambda message: message["turn"])["completion"]
    verdicts = {
        grader: paper_graders.verdict(grader, last, task.truth, task.kind)
        for grader in paper_graders.GRADERS
    }
    if None in verdicts.values():
        return {}
    ours = verifier.verify(last, task.truth, task.kind, task.tolerance)
    return {
        "accuracy": float(ours.correct),
        **{grader: float(bool(verdict)) for grader, verdict in verdicts.items()},
    }


Episodes = dict[tuple[str, str, str, int, str], list[dict[str, Any]]]
Truths = Mapping[tuple[str, str], Task]


def judge(
    team: Team,
    episodes: Episodes,
    truths: Truths,
    unlike: Mapping[tuple[str, str], Task | None],
    grader: str = "ours",
) -> Iterator[dict[str, Any]]:
    """Answer, truth, accuracy, class of the answer, leaks, late verdicts, tokens and log-prob of
    each episode, in order, and what its intervention changed. `unlike`: for each task one with
    another truth, to say how often one is met by chance; `grader`: as of a protocol.
    """
    spoken: list[_Spoken] = []
    for (name, task_id, *_, kind), rows in episodes.items():
        messages = sorted(rows, key=lambda m: m["turn"])
        voting = team.answer == "vote" and len(messages) > 1
        pair = (name, task_id)
        spoken.append(_Spoken(kind, messages, voting, truths[pair], unlike[pair]))
    verdicts = verifier.verify_many(
        item
        for one in spoken
        for item in _items([message["completion"] for message in one.answering], one.task)
    )
    by_chance = verifier.verify_many(
        item
        for one in spoken
        for item in _items([m["completion"] for m in one.answering if one.unasked], one.other)
    )
    # thoughts as their readers see them
    read = [[team.as_read(thought["completion"]) for thought in one.thoughts] for one in spoken]
    pairs = list(zip(spoken, read, strict=True))
    leaks = leakage.leaks_many(item for one, texts in pairs for item in _items(texts, one.task))
    chances = leakage.leaks_many(item for one, texts in pairs for item in _items(texts, one.other))
    judged = [
        [
            by_grader(grader, verdict, message["completion"], one.task)
            for message, verdict in zip(one.answering, verdicts, strict=False)
        ]
        for one in spoken
    ]
    classes = classes_of(list(episodes), [one.task for one in spoken], judged)
    ballots = verifier.in_order(
        verifier.ballots,
        (
            (own, one.task.kind, one.task.tolerance)
            for one, own in zip(spoken, judged, strict=True)
            if one.voting
        ),
    )
    for (key, _), one, own, (codes, late) in zip(
        episodes.items(), spoken, judged, classes, strict=True
    ):
        own_leaks = _by_agent(team, one, leaks)
        own_chances = _by_agent(team, one, chances if one.other else iter(()))
        guessed = next(by_chance).correct if one.unasked and one.other else False
        outcome = _outcome(team, one, own, next(ballots) if one.voting else None)
        yield {
            **outcome,
            "late": outcome["late"] + late,
            "ballot": vote_answer(np.array(codes), team.tie, lot(key)) if one.voting else codes[0],
            "leakage": max(own_leaks),
            "leakage_by_chance": max(own_chances),
            "leaks": own_leaks,
            "leaks_by_chance": own_chances,
            "accuracy_by_chance": float(guessed),
            "replaced": _replaced(one, episodes.get((*key[:-1], "factual"), [])),
            "n_tokens": sum(m["n_completion_tokens"] for m in one.drawn),
            "logprob": sum(m["logprob"] for m in one.drawn),
        }


@dataclass(frozen=True)
class _Spoken:
    """The messages of an episode in the order of their turns, its intervention, and what they are
    compared with.
    """

    kind: str
    messages: list[dict[str, Any]]
    voting: bool
    task: Task
    other: Task | None

    @property
    def answering(self) -> list[dict[str, Any]]:
        """The messages that answer for the team."""
        return self.messages if self.voting else self.messages[-1:]

    @property
    def drawn(self) -> list[dict[str, Any]]:
        """The messages that were drawn under this intervention."""
        return [message for message in self.messages if message["fate"] == "drawn"]

    @property
    def thoughts(self) -> list[dict[str, Any]]:
        """Of the drawn messages those that another one reads."""
        return [] if self.voting else [m for m in self.drawn if m is not self.messages[-1]]

    @property
    def unasked(self) -> bool:
        """Whether who answers saw no question."""
        return intervention.parse(self.kind)[0] == "message_only"


def _by_agent(team: Team, one: _Spoken, leaks: Iterator[bool]) -> list[float]:
    """Whether a thought of each agent leaks; takes one of `leaks` for each thought, as far as there
    are any.
    """
    out = [0.0] * team.agents
    for thought, leak in zip(one.thoughts, leaks, strict=False):
        out[thought["agent"]] = max(out[thought["agent"]], float(leak))
    return out


def _replaced(one: _Spoken, factual: Sequence[Mapping[str, Any]]) -> float:
    """Share of the altered messages that are others than the factual ones; 0 where none is."""
    before = {message["turn"]: message["completion"] for message in factual}
    altered = [message for message in one.messages if message["fate"] == "altered"]
    others = [m for m in altered if m["completion"] != before.get(m["turn"])]
    return len(others) / max(len(altered), 1)


def _items(texts: Sequence[str], task: Task | None) -> list[verifier.Item]:
    if task is None:
        return []
    return [(text, task.truth, task.kind, task.tolerance) for text in texts]


def _unlike(truths: Truths, pair: tuple[str, str]) -> Task | None:
    """The next task of a benchmark whose truth is of the same kind and another one."""
    name, task_id = pair
    own = truths[pair]
    ids = [other for benchmark, other in truths if benchmark == name]
    start = ids.index(task_id) + 1
    for other in [*ids[start:], *ids[:start]]:
        task = truths[name, other]
        if task.kind == own.kind and task.truth != own.truth:
            return task
    return None


def _outcome(
    team: Team, one: _Spoken, verdicts: Sequence[verifier.Verdict], ballots: verifier.Ballots | None
) -> dict[str, Any]:
    """The team's answer and its verdict; `ballots`: the votes, where the team votes."""
    late = sum(v.late for v in verdicts)
    if ballots:
        accuracy = fraction = float(vote_outcome(np.array([ballots.codes]), team.tie)[0])
        answer = " | ".join(v.answer or "-" for v in verdicts)
        late += ballots.late
    else:
        accuracy = float(verdicts[0].correct)
        answer = verdicts[0].answer or ""
        fraction = accuracy if verdicts[0].fraction is None else verdicts[0].fraction
    return {
        "answer": answer,
        "truth": one.task.truth if one.task.kind != "code" else "(its tests)",
        "accuracy": accuracy,
        "fraction": fraction,
        "late": late,
        "defect": bool(one.task.defect),
        "votes": " ".join(map(str, ballots.codes)) if ballots else "",
    }
