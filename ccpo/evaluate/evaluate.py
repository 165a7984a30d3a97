"""Evaluation of trained teams: rollouts (the last work that may need a GPU), and their scores
(which never does).
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import logging
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ccpo import STAGE_VERSIONS, benchmark, intervention, lease, lineage, schema
from ccpo.benchmark import Task
from ccpo.config import Choice, RunConfig, read_run
from ccpo.data.tables import read_tasks
from ccpo.grade import leakage, paper_graders, process, verifier
from ccpo.play import engine, room
from ccpo.play import rollout as rollouts
from ccpo.play.types import AgentEndpoint, Ledger, PlayingTeam, RolloutRow
from ccpo.team import Team, vote_outcome

log = logging.getLogger("ccpo")


def rollout(
    *,
    config: Path,
    tasks: list[Path],
    model: Path,
    untrained: Path | Sequence[Path],
    scratch: Path,
    out: Path,
) -> None:
    """Plays the final policies on each benchmark's test tasks, under every decoding, with every
    intervention that means something.

    `tasks`: one table for each of `run.evaluated`. `model`: {run}/model. `untrained`: the folder
    training began with, or one for each agent. What is played is kept in `scratch`, so that a
    killed evaluation goes on with the next part.
    """
    import torch

    from ccpo.models import policy

    torch.set_num_threads(1)
    run = read_run(config)
    starts = policy.starts(run, untrained)
    team = run.build_team()
    with lease.hold(scratch, "rollout") as held:
        parts = _Parts(
            scratch / f"rollout-{_key([config, *tasks, model, *starts])}",
            held,
            len(run.evaluated) * len(parts_of(run)),
        )
        folders = sorted(
            model.glob("policy*"), key=lambda folder: int(folder.name.removeprefix("policy"))
        )
        trained = _speakers(run, team, folders)
        started = (
            _speakers(run, team, starts)
            if any(map(plays_untrained, run.evaluate.interventions))
            else None
        )
        rows: Rows = []
        for choice, path in zip(run.evaluated, tasks, strict=True):
            items = read_tasks(path, "test")[: run.evaluate.tasks]
            if len(items) < run.evaluate.tasks:
                log.info(
                    "%s: all %d usable test tasks; evaluate.tasks allows %d",
                    choice.name,
                    len(items),
                    run.evaluate.tasks,
                )
            found = _one(run, team, choice, items, trained, started, parts)
            rows += found
            log.info("%s: %d messages", choice.name, len(found))
        held.check()
        schema.write_table(out, schema.rows_to_table("rollouts", rows))
        lineage.write_passport(out, [config, *tasks, model, *starts])


def sample(
    run: RunConfig, speakers: list[AgentEndpoint], tasks: list[Path], most: int
) -> tuple[Rows, int, float]:
    """What a few tasks of each benchmark cost: rows of all interventions with one set of policies,
    tasks, seconds.
    """
    team = run.build_team()
    start = time.perf_counter()
    rows = []
    n = 0
    for choice, path in zip(run.evaluated, tasks, strict=True):
        items = read_tasks(path, "test")[: min(most, run.evaluate.tasks)]
        rows += _one(
            run, team, choice, items, speakers, speakers, lambda part, play: list(map(dict, play()))
        )
        n += len(items)
    return rows, n, time.perf_counter() - start


def _key(inputs: list[Path]) -> str:
    """16 hex digits of what an evaluation is made from: what was kept of another is not taken for
    this one's.
    """
    made = [str(STAGE_VERSIONS["rollout"]), *(schema.sha256(path) for path in inputs)]
    return hashlib.sha256(" ".join(made).encode()).hexdigest()[:16]


Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Part:
    """What an evaluation plays at a time: a benchmark, a decoding and an intervention, by name."""

    benchmark: str
    decoding: str
    intervention: str

    def __str__(self) -> str:
        return f"{self.benchmark}.{self.decoding}.{self.intervention}"


class _Parts:
    """Rows of parts as they are played, kept in a folder."""

    def __init__(self, folder: Path, held: lease.Lease, total: int) -> None:
        self.folder = folder
        self.held = held
        self.total = total
        self.done = 0
        held.tell(0, total)

    def __call__(self, part: Part, play: Callable[[], list[RolloutRow]]) -> Rows:
        """The rows of one part, as they were kept, else played now."""
        path = self.folder / f"{part}.parquet"
        if path.is_file():
            rows = schema.read_table(path, "rollouts").to_pylist()
        else:
            head = {"benchmark": part.benchmark, "decoding": part.decoding}
            rows = [{**head, **row} for row in play()]
            self.held.check()
            schema.write_table(path, schema.rows_to_table("rollouts", rows))
        self.done += 1
        self.held.tell(self.done, self.total, f"{part}")
        return rows


def _speakers(run: RunConfig, team: Team, folders: list[Path]) -> list[AgentEndpoint]:
    from ccpo.models import policy

    make = engine.load(run.sampling.engine)
    voices = []
    for folder in folders:
        model, tokenizer = policy.load(folder, run.train.dtype)
        voices.append(AgentEndpoint(make(model, policy.end_ids(model, tokenizer)), tokenizer))
    return [voices[agent if len(voices) > 1 else 0] for agent in range(team.agents)]


def parts_of(run: RunConfig) -> list[tuple[str, str]]:
    """What a run's evaluation plays on each benchmark, as (decoding, intervention): under every
    decoding the team as it is and the untrained one, if asked for; under the primary decoding also
    the other interventions that mean something for the team.
    """
    kinds = intervention.fitting(run.build_team(), run.evaluate.interventions)
    everywhere = ["factual", *(kind for kind in kinds if plays_untrained(kind))]
    primary = ["factual", *kinds]
    names = [
        run.evaluate.primary,
        *(name for name in run.evaluate.decodings if name != run.evaluate.primary),
    ]
    return [
        (name, kind)
        for name in names
        for kind in (primary if name == run.evaluate.primary else everywhere)
    ]


def plays_untrained(kind: str) -> bool:
    """Whether the policies that training began with speak under an intervention."""
    return bool(intervention.load(kind).POLICIES == "untrained")


def _one(
    run: RunConfig,
    team: Team,
    choice: Choice,
    items: list[Task],
    trained: list[AgentEndpoint],
    started: list[AgentEndpoint] | None,
    parts: Callable[[Part, Callable[[], list[RolloutRow]]], Rows],
) -> list[dict[str, Any]]:
    """Rows of one benchmark. All interventions of a run, and all conditions of a training seed,
    draw from the same stream, so that comparisons are paired; another training seed draws others,
    so that the noise of drawing is in every interval over seeds.
    """
    asked = benchmark.load(choice.name)
    demos = tuple(asked.demos(run.shots, **choice.params)) if run.shots else ()
    shown = {
        id(voices): [replace(s, demos=demos, form=asked.FORM) for s in voices]
        for voices in (trained, started or [])
    }
    max_tokens = run.evaluate.max_tokens or run.sampling.max_tokens
    room.check(PlayingTeam(team, shown[id(trained)], 1.0, max_tokens), items)
    rows: Rows = []
    heard: dict[int, list[str]] = defaultdict(list)
    for name, kind in parts_of(run):
        decoding = run.evaluate.decodings[name]
        endpoints = shown[id(started if started and plays_untrained(kind) else trained)]
        play = functools.partial(
            rollouts.evaluate,
            PlayingTeam(team, endpoints, decoding.temperature, max_tokens),
            items,
            rollouts.EvaluationPass(kind, decoding.samples, heard),
            rollouts.stream("evaluation", run.evaluate.seed, run.seed),
            Ledger(),
        )
        found = parts(Part(choice.name, name, kind), play)
        if (name, kind) == (run.evaluate.primary, "factual"):
            for row in found:
                heard[row["turn"]].append(row["completion"])
        rows += found
    return rows


def score(
    *, config: Path, tasks: list[Path], rollouts: Path, scratch: Path, out: Path, graders: Path
) -> None:
    """The team's answer and its verdict for every (task, decoding, sample, intervention), and
    beside it what the papers' graders would have said.

    The run is complete then, and what was kept in `scratch` for a job that dies is deleted.
    """
    run = read_run(config)
    team = run.build_team()
    truths = {
        (c.name, t.task_id): t
        for c, path in zip(run.evaluated, tasks, strict=True)
        for t in read_tasks(path, "test")
    }
    episodes: Episodes = defaultdict(list)
    for row in schema.read_table(rollouts, "rollouts").to_pylist():
        episodes[
            row["benchmark"], row["task_id"], row["decoding"], row["sample"], row["intervention"]
        ].append(row)
    rows = []
    audited = []
    unlike = {pair: _unlike(truths, pair) for pair in truths}
    late = 0
    for key, judged in zip(episodes, judge(team, episodes, truths, unlike), strict=True):
        name, task_id, decoding, sample, kind = key
        head = {"benchmark": name, "task_id": task_id, "decoding": decoding, "sample": sample}
        task = truths[name, task_id]
        rows.append({**head, "intervention": kind, **judged})
        if kind == "factual" and team.answer == "last":
            last = max(episodes[key], key=lambda m: m["turn"])["completion"]
            try:
                theirs = {
                    g: paper_graders.verdict(g, last, task.truth, task.kind)
                    for g in paper_graders.GRADERS
                }
            except process.Late:
                late += 1
                continue
            if None not in theirs.values():
                audited.append(
                    {
                        **head,
                        **{k: judged[k] for k in ("answer", "truth", "accuracy")},
                        **{g: float(bool(v)) for g, v in theirs.items()},
                    }
                )
    if late:
        log.warning("%d answers are left out of %s: no verdict was reached", late, graders)
    schema.write_table(graders, schema.rows_to_table("graders", audited))
    schema.write_table(out, schema.rows_to_table("scores", rows))
    for artefact in (graders, out):
        lineage.write_passport(artefact, [config, *tasks, rollouts])
    shutil.rmtree(scratch, ignore_errors=True)


Episodes = dict[tuple[str, str, str, int, str], list[dict[str, Any]]]
Truths = Mapping[tuple[str, str], Task]


def judge(
    team: Team, episodes: Episodes, truths: Truths, unlike: Mapping[tuple[str, str], Task | None]
) -> Iterator[dict[str, Any]]:
    """Answer, truth, accuracy, leakage, late verdicts, tokens and log-prob of each episode, in
    order. `unlike`: for each task one with another truth, to say how often one is met by chance.
    """
    spoken: list[_Spoken] = []
    for (name, task_id, *_), rows in episodes.items():
        messages = sorted(rows, key=lambda m: m["turn"])
        voting = team.answer == "vote" and len(messages) > 1
        spoken.append(_Spoken(messages, voting, truths[name, task_id], unlike[name, task_id]))
    verdicts = verifier.verify_many(
        item
        for one in spoken
        for item in _items([message["completion"] for message in one.answering], one.task)
    )
    # thoughts as their readers see them
    read = [[team.as_read(thought["completion"]) for thought in one.thoughts] for one in spoken]
    pairs = list(zip(spoken, read, strict=True))
    leaks = leakage.leaks_many(item for one, texts in pairs for item in _items(texts, one.task))
    chances = leakage.leaks_many(item for one, texts in pairs for item in _items(texts, one.other))
    for one in spoken:
        yield {
            **_outcome(team, one, list(itertools.islice(verdicts, len(one.answering)))),
            "leakage": float(any(list(itertools.islice(leaks, len(one.thoughts))))),
            "leakage_by_chance": float(
                any(list(itertools.islice(chances, len(one.thoughts) if one.other else 0)))
            ),
            "n_tokens": sum(m["n_completion_tokens"] for m in one.messages),
            "logprob": sum(m["logprob"] for m in one.messages),
        }


@dataclass(frozen=True)
class _Spoken:
    """The messages of an episode in the order of their turns, and what they are compared with."""

    messages: list[dict[str, Any]]
    voting: bool
    task: Task
    other: Task | None

    @property
    def answering(self) -> list[dict[str, Any]]:
        """The messages that answer for the team."""
        return self.messages if self.voting else self.messages[-1:]

    @property
    def thoughts(self) -> list[dict[str, Any]]:
        """The messages that another one reads."""
        return [] if self.voting else self.messages[:-1]


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


def _outcome(team: Team, one: _Spoken, verdicts: Sequence[verifier.Verdict]) -> dict[str, Any]:
    """The team's answer and its verdict."""
    if one.voting:
        classes: dict[str, int] = {}
        codes = [
            0
            if v.correct
            else -1
            if v.answer is None
            else classes.setdefault(v.answer, len(classes) + 1)
            for v in verdicts
        ]
        accuracy = fraction = float(vote_outcome(np.array([codes]), team.tie)[0])
        answer = " | ".join(v.answer or "-" for v in verdicts)
    else:
        accuracy = float(verdicts[0].correct)
        answer = verdicts[0].answer or ""
        fraction = accuracy if verdicts[0].fraction is None else verdicts[0].fraction
    return {
        "answer": answer,
        "truth": one.task.truth if one.task.kind != "code" else "(its tests)",
        "accuracy": accuracy,
        "fraction": fraction,
        "late": sum(v.late for v in verdicts),
        "defect": bool(one.task.defect),
    }
