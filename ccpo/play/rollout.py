"""Plays a plan on tasks with the agents' engines, scores the leaves, and counts every token and
evaluator call into the ledger.

It knows teams, not credit methods: what a method needs generated is in the plan.
"""

from __future__ import annotations

import time
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ccpo import intervention as interventions
from ccpo.benchmark import BOXED, Demo, Task
from ccpo.grade import verifier
from ccpo.intervention import Reading
from ccpo.play import rating
from ccpo.play.engine import Completion, Draw, Engine
from ccpo.team import Role, Team, chat, vote_outcome
from ccpo.tree import Plan, Structure, Tree, make_tree

COUNTS = ("prompt_tokens", "generated_tokens", "trained_tokens", "evaluator_calls")


@dataclass
class Ledger:
    """Counts by (agent, purpose), verdicts that were not reached, and wall seconds by part of an
    update.
    """

    counts: dict[tuple[int, str], dict[str, int]] = field(default_factory=dict)
    late: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, agent: int, purpose: str, **numbers: int) -> None:
        """Adds to an account; the names are those of COUNTS."""
        account = self.counts.setdefault((agent, purpose), dict.fromkeys(COUNTS, 0))
        for name, number in numbers.items():
            account[name] += number

    def timed(self, part: str, start: float) -> None:
        """Adds the seconds since `start` (time.perf_counter) to a part."""
        self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - start

    def total(self, name: str) -> int:
        """Sum of one count over all accounts."""
        return sum(account[name] for account in self.counts.values())


@dataclass(frozen=True)
class Speaker:
    """One agent's voice: its engine, its tokenizer (transformers), the solved examples it is shown,
    the form of its answers.
    """

    engine: Engine
    tokenizer: Any
    demos: tuple[Demo, ...] = ()
    form: str = BOXED

    def prompt(self, role: Role, question: str, heard: Sequence[str]) -> list[int]:
        """Token ids of the chat prompt for a role."""
        messages = chat(role, question, heard, self.form)
        shown: list[dict[str, str]] = []
        for demo in self.demos:
            plan = [demo.plan] if "{read}" in role.user else []
            shown += [
                chat(role, demo.question, plan)[1],
                {"role": "assistant", "content": getattr(demo, role.demo)},
            ]
        return self.encode([messages[0], *shown, messages[1]])

    def encode(self, messages: Sequence[dict[str, str]]) -> list[int]:
        """Token ids of chat messages, with what makes the model answer."""
        return list(
            self.tokenizer.apply_chat_template(
                list(messages), add_generation_prompt=True, tokenize=True, return_dict=False
            )
        )

    def text(self, completion: Completion) -> str:
        """What a completion says, without special tokens."""
        return self.tokenizer.decode(completion.ids, skip_special_tokens=True)


@dataclass(frozen=True)
class Message:
    """One message as generated: prompt, completion, text, the purpose its tokens are booked on."""

    prompt: list[int]
    completion: Completion
    text: str
    purpose: str


@dataclass(frozen=True)
class Played:
    """A scored tree, its messages (same order), the text of each message's answer ("" where there
    is none), and how often each reason made a rating invalid.
    """

    tree: Tree
    messages: list[Message]
    answers: list[str]
    rejections: Counter[str] = field(default_factory=Counter)


def stream(name: str, *numbers: int) -> list[int]:
    """Seed of a named random stream."""
    return [zlib.crc32(name.encode()), *numbers]


def speak(
    team: Team,
    turn: int,
    present: Sequence[int],
    questions: Sequence[str],
    heard: Sequence[Sequence[str]],
    n: int,
    *,
    speakers: Sequence[Speaker],
    draw: Draw,
    seed: list[int],
    purpose: str,
    ledger: Ledger,
) -> list[list[Message]]:
    """`n` messages of one turn for each (question, messages heard)."""
    agent = team.turns[turn].agent
    speaker = speakers[agent]
    role = team.role(turn, present)
    prompts = [speaker.prompt(role, q, h) for q, h in zip(questions, heard, strict=True)]
    start = time.perf_counter()
    said = speaker.engine.generate(prompts, n, draw, seed)
    ledger.timed("rollout", start)
    ledger.add(
        agent,
        purpose,
        prompt_tokens=sum(map(len, prompts)) * n,
        generated_tokens=sum(len(c.ids) for row in said for c in row),
    )
    return [
        [Message(p, c, speaker.text(c), purpose) for c in row]
        for p, row in zip(prompts, said, strict=True)
    ]


def play(
    plan: Plan,
    team: Team,
    tasks: Sequence[Task],
    speakers: Sequence[Speaker],
    *,
    temperature: float,
    max_tokens: Sequence[int],
    rating_tokens: int = 512,
    seed: list[int],
    ledger: Ledger,
) -> Played:
    """Plays the plan's factual tree and its removals on every task, scores the leaves, and asks for
    ratings if the plan does.

    Raises:
        ValueError: a removal leaves nobody; or `rating_tokens` leave an agent's context no room
            even for an empty episode, so that every
            rating would be invalid without a word.
    """
    if plan.ratings:
        _room(team, speakers, rating_tokens)
    grown = _Growing()
    branches = [
        (-1, plan.fanout, "rollout"),
        *((r.agent, None, f"removal-{r.agent}") for r in plan.removals),
    ]
    for branch, (removed, fanout, purpose) in enumerate(branches):
        present = team.without(removed)
        if not present:
            raise ValueError(f"plan: nobody is left when agent {removed} is removed")
        if fanout is None:
            fanout = tuple(
                plan.removals[branch - 1].n if t == present[0] else 1
                for t in range(len(team.turns))
            )
        front = [(task, -1, dict[int, int]()) for task in range(len(tasks))]
        for turn in present:
            heard = [
                [grown.messages[path[r]].text for r in team.turns[turn].reads if r in path]
                for _, _, path in front
            ]
            said = speak(
                team,
                turn,
                present,
                [tasks[task].question for task, _, _ in front],
                heard,
                fanout[turn],
                speakers=speakers,
                draw=Draw(temperature, max_tokens[min(turn, len(max_tokens) - 1)]),
                seed=[*seed, branch, turn],
                purpose=purpose,
                ledger=ledger,
            )
            front = [
                (
                    task,
                    (
                        index := grown.add(
                            task, parent, turn, team.turns[turn].agent, removed, message
                        )
                    ),
                    {**path, turn: index},
                )
                for (task, parent, path), row in zip(front, said, strict=True)
                for message in row
            ]
    played = _score(grown, team, tasks, ledger)
    if not plan.ratings:
        return played
    return _rate(
        played,
        team,
        tasks,
        speakers,
        Draw(temperature, rating_tokens),
        [*seed, len(branches)],
        ledger,
    )


@dataclass
class _Growing:
    """A tree while it is grown: rows of (task, parent, turn, agent, removed) and their messages."""

    rows: list[tuple[int, int, int, int, int]] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)

    def add(
        self, task: int, parent: int, turn: int, agent: int, removed: int, message: Message
    ) -> int:
        self.rows.append((task, parent, turn, agent, removed))
        self.messages.append(message)
        return len(self.rows) - 1


def _score(grown: _Growing, team: Team, tasks: Sequence[Task], ledger: Ledger) -> Played:
    """Verifies every message that may answer, forms the team's outcome at the leaves, and makes the
    tree.
    """
    start = time.perf_counter()
    task, parent, turn, agent, removed = (
        np.array(c, dtype=np.int64) for c in zip(*grown.rows, strict=True)
    )
    inner = np.zeros(len(task), bool)
    inner[parent[parent >= 0]] = True
    answer = np.full(len(task), -1)
    texts = [""] * len(task)
    asked = [
        i
        for i in range(len(task))
        if team.role(int(turn[i]), team.without(int(removed[i]))).answers
        and not (team.answer == "last" and inner[i])
    ]
    verdicts = verifier.verify_many(
        (grown.messages[i].text, tasks[t].truth, tasks[t].kind, tasks[t].tolerance)
        for i, t in zip(asked, task[asked], strict=True)
    )
    judged: dict[int, list[tuple[int, verifier.Verdict]]] = {}
    for i, verdict in zip(asked, verdicts, strict=True):
        ledger.add(int(agent[i]), grown.messages[i].purpose, evaluator_calls=1)
        ledger.late += verdict.late
        texts[i] = verdict.answer or ""
        judged.setdefault(int(task[i]), []).append((i, verdict))
    same = verifier.equal if team.answer == "vote" else verifier.spelling
    votes = verifier.in_order(
        verifier.ballots,
        (
            ([verdict for _, verdict in pairs], tasks[t].kind, tasks[t].tolerance, same)
            for t, pairs in judged.items()
        ),
    )
    for pairs, vote in zip(judged.values(), votes, strict=True):
        answer[[i for i, _ in pairs]] = vote.codes
        ledger.late += vote.late
    reward = (answer == 0).astype(float)
    if team.answer == "vote":
        for leaf in np.flatnonzero(~inner):
            path = [int(leaf)]
            while parent[path[-1]] >= 0:
                path.append(int(parent[path[-1]]))
            reward[leaf] = vote_outcome(answer[path[::-1]][None], team.tie)[0]
    cut = np.array([message.completion.finish_reason == "length" for message in grown.messages])
    tree = make_tree(
        Structure(task, parent, turn, agent, removed),
        leaf_reward=reward,
        answer=answer,
        truncated=cut,
    )
    ledger.timed("verify", start)
    return Played(tree, grown.messages, texts)


def _room(team: Team, speakers: Sequence[Speaker], rating_tokens: int) -> None:
    """Refuses ratings that no episode could ever get; a single prompt that is too long is an
    invalid rating instead.
    """
    for agent in sorted({turn.agent for turn in team.turns}):
        limit = speakers[agent].engine.limit
        least = len(speakers[agent].encode(rating.ask(agent, "", "", "", correct=True)))
        if limit is not None and least + rating_tokens > limit:
            raise ValueError(
                f"sampling.rating_tokens={rating_tokens}: with the {least} tokens in which agent "
                f"{agent} is asked for a rating, an episode "
                f"left out, that is more than the model's context of {limit}. Remedy: at most "
                f"{limit - least}, less what episodes take."
            )


def _rate(
    played: Played,
    team: Team,
    tasks: Sequence[Task],
    speakers: Sequence[Speaker],
    draw: Draw,
    seed: list[int],
    ledger: Ledger,
) -> Played:
    """The ratings of every factual episode by the author of each of its two messages."""
    tree = played.tree
    paths = played.tree.episodes()
    shares = tree.rating.copy()
    rejections: Counter[str] = Counter()
    for turn in range(paths.shape[1]):
        agent = team.turns[turn].agent
        prompts = []
        for thought, answer in paths:
            correct = bool(tree.reward[answer] > 0.5)
            texts = (
                tasks[tree.task[answer]].question,
                played.messages[thought].text,
                played.messages[answer].text,
            )
            prompts.append(speakers[agent].encode(rating.ask(agent, *texts, correct)))
        limit = speakers[agent].engine.limit
        fits = [
            i
            for i, prompt in enumerate(prompts)
            if limit is None or len(prompt) + draw.max_tokens <= limit
        ]
        rejections["the prompt leaves no room"] += len(prompts) - len(fits)
        start = time.perf_counter()
        said = [
            row[0]
            for row in speakers[agent].engine.generate(
                [prompts[i] for i in fits], 1, draw, [*seed, turn]
            )
        ]
        ledger.timed("rollout", start)
        numbers = {
            "prompt_tokens": sum(len(prompts[i]) for i in fits),
            "generated_tokens": sum(len(c.ids) for c in said),
        }
        ledger.add(agent, "rating", **numbers)
        for i, completion in zip(fits, said, strict=True):
            found = rating.parse(
                speakers[agent].text(completion), bool(tree.reward[paths[i, -1]] > 0.5)
            )
            if found.shares:
                shares[paths[i, turn]] = found.shares
            else:
                rejections[found.reason] += 1
    return replace(played, tree=replace(tree, rating=shares), rejections=+rejections)


def evaluate(
    team: Team,
    tasks: Sequence[Task],
    speakers: Sequence[Speaker],
    *,
    intervention: str,
    samples: int,
    temperature: float,
    max_tokens: Sequence[int],
    seed: list[int],
    factual: Mapping[int, Sequence[str]] | None,
    ledger: Ledger,
) -> list[dict[str, Any]]:
    """Rows of the table `rollouts` (without the names of benchmark and decoding) for one
    intervention on the team (ccpo/intervention).

    factual: texts by turn and episode of the factual pass, where there was one.
    """
    rule = interventions.load(intervention)
    present = rule.present(team)
    questions = [t.question for t in tasks for _ in range(samples)]
    texts: dict[int, list[str]] = {}
    rows: list[dict[str, Any]] = []
    for turn in rule.speaks(team):
        reads = [r for r in team.turns[turn].reads if r in present]
        heard = rule.hears(Reading(reads, texts, factual or {}, len(questions), samples))
        said = speak(
            team,
            turn,
            present,
            questions,
            heard,
            1,
            speakers=speakers,
            draw=Draw(temperature, max_tokens[min(turn, len(max_tokens) - 1)]),
            seed=[*seed, turn],
            purpose="evaluation",
            ledger=ledger,
        )
        texts[turn] = [row[0].text for row in said]
        for i, row in enumerate(said):
            message = row[0]
            agent = team.turns[turn].agent
            rows.append(
                {
                    "task_id": tasks[i // samples].task_id,
                    "sample": i % samples,
                    "intervention": intervention,
                    "turn": turn,
                    "agent": agent,
                    "prompt": speakers[agent].tokenizer.decode(message.prompt),
                    "completion": message.text,
                    "n_prompt_tokens": len(message.prompt),
                    "n_completion_tokens": len(message.completion.ids),
                    "logprob": float(sum(message.completion.logprobs)),
                    "finish_reason": message.completion.finish_reason,
                }
            )
    return rows
