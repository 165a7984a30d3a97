"""Plays a plan on tasks with the agents' endpoints, scores the leaves, and counts every token and
evaluator call into the ledger.

It knows teams, not credit methods: what a method needs generated is in the plan.
"""

from __future__ import annotations

import time
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np

from ccpo import intervention as interventions
from ccpo.benchmark import Task
from ccpo.grade import verifier
from ccpo.play import rating
from ccpo.play.engine import NO_ROOM, Completion, SamplingParams, fits
from ccpo.play.types import AgentEndpoint, Ledger, Message, PlayingTeam, RolloutRow, ScoredTree
from ccpo.team import Team, vote_outcome
from ccpo.tree import Plan, Structure, make_tree


def stream(name: str, *numbers: int) -> list[int]:
    """Seed of a named random stream."""
    return [zlib.crc32(name.encode()), *numbers]


@dataclass(frozen=True)
class MessageRequest:
    """Messages of one turn: `n` for each question, with the messages read beside it.

    `present`: the turns of the team that are there; a role may depend on it.
    `purpose`: the account of the ledger.
    """

    turn: int
    present: Sequence[int]
    questions: Sequence[str]
    read: Sequence[Sequence[str]]
    n: int
    purpose: str


def generate_messages(
    playing: PlayingTeam, request: MessageRequest, seed: list[int], ledger: Ledger
) -> list[list[Message]]:
    """The messages [questions][n] of a request. Where a prompt leaves no room in the model's
    context, its messages are empty and cut.
    """
    endpoint = playing.endpoint(request.turn)
    role = playing.team.role(request.turn, request.present)
    prompts = [
        endpoint.prompt(role, question, [playing.team.as_read(text) for text in read])
        for question, read in zip(request.questions, request.read, strict=True)
    ]
    start = time.perf_counter()
    completions = _generate(endpoint, prompts, request.n, playing.sampling(request.turn), seed)
    ledger.timed("rollout", start)
    ledger.add(
        playing.team.turns[request.turn].agent,
        request.purpose,
        prompt_tokens=sum(
            len(prompt)
            for prompt, row in zip(prompts, completions, strict=True)
            for completion in row
            if completion is not NO_ROOM
        ),
        generated_tokens=sum(len(c.token_ids) for row in completions for c in row),
    )
    return [
        [Message(prompt, c, endpoint.text(c), request.purpose) for c in row]
        for prompt, row in zip(prompts, completions, strict=True)
    ]


def _generate(
    endpoint: AgentEndpoint,
    prompts: list[list[int]],
    n: int,
    sampling: SamplingParams,
    seed: list[int],
) -> list[list[Completion]]:
    """`n` completions of each prompt; NO_ROOM for a prompt that leaves none."""
    fitting = [i for i, prompt in enumerate(prompts) if fits(prompt, sampling, endpoint.engine)]
    rows = [[NO_ROOM] * n for _ in prompts]
    generated = endpoint.engine.generate([prompts[i] for i in fitting], n, sampling, seed)
    for i, row in zip(fitting, generated, strict=True):
        rows[i] = row
    return rows


def play(
    plan: Plan, tasks: Sequence[Task], playing: PlayingTeam, seed: list[int], ledger: Ledger
) -> ScoredTree:
    """Plays the plan's factual tree and its removals on every task, scores the leaves, and asks for
    ratings if the plan does.

    Raises:
        ValueError: a removal leaves nobody; or `rating_tokens` leave an agent's context no room
        even for an empty episode, so that every
            rating would be invalid without a word.
    """
    if plan.ratings:
        _check_rating_room(playing)
    growing = _GrowingTree()
    branches = _branches(plan, playing.team)
    for number, branch in enumerate(branches):
        _grow(growing, branch, tasks, playing, [*seed, number], ledger)
    scored = _score(growing, playing.team, tasks, ledger)
    if not plan.ratings:
        return scored
    return _rate(scored, tasks, playing, [*seed, len(branches)], ledger)


@dataclass(frozen=True)
class _Branch:
    """Part of a plan: the agent left out (-1: nobody), the turns that are present, how many
    messages each turn of the team draws below each message before it, and the purpose.
    """

    removed: int
    present: tuple[int, ...]
    fanout: tuple[int, ...]
    purpose: str


def _branches(plan: Plan, team: Team) -> list[_Branch]:
    """The factual branch of a plan, then its removals."""
    branches = [_Branch(-1, team.without(-1), plan.fanout, "rollout")]
    for removal in plan.removals:
        present = team.without(removal.agent)
        if not present:
            raise ValueError(f"plan: nobody is left when agent {removal.agent} is removed")
        fanout = tuple(removal.n if turn == present[0] else 1 for turn in range(len(team.turns)))
        branches.append(_Branch(removal.agent, present, fanout, f"removal-{removal.agent}"))
    return branches


@dataclass(frozen=True)
class _Path:
    """An unfinished episode: its task, its last message (-1: none yet), its messages by turn."""

    task: int
    last: int
    messages: Mapping[int, int]


@dataclass
class _GrowingTree:
    """A tree while it is grown: rows of (task, parent, turn, agent, removed) and their messages."""

    rows: list[tuple[int, int, int, int, int]] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)

    def add(self, path: _Path, turn: int, agent: int, removed: int, message: Message) -> _Path:
        """Appends a message to an episode."""
        index = len(self.rows)
        self.rows.append((path.task, path.last, turn, agent, removed))
        self.messages.append(message)
        return _Path(path.task, index, {**path.messages, turn: index})

    def structure(self) -> Structure:
        """The rows as arrays."""
        return Structure(*(np.array(c, dtype=np.int64) for c in zip(*self.rows, strict=True)))


def _grow(
    growing: _GrowingTree,
    branch: _Branch,
    tasks: Sequence[Task],
    playing: PlayingTeam,
    seed: list[int],
    ledger: Ledger,
) -> None:
    """Adds the messages of a branch, turn by turn."""
    paths = [_Path(task, -1, {}) for task in range(len(tasks))]
    for number in branch.present:
        turn = playing.team.turns[number]
        request = MessageRequest(
            turn=number,
            present=branch.present,
            questions=[tasks[path.task].question for path in paths],
            read=[
                [growing.messages[path.messages[r]].text for r in turn.reads if r in path.messages]
                for path in paths
            ],
            n=branch.fanout[number],
            purpose=branch.purpose,
        )
        messages = generate_messages(playing, request, [*seed, number], ledger)
        paths = [
            growing.add(path, number, turn.agent, branch.removed, message)
            for path, row in zip(paths, messages, strict=True)
            for message in row
        ]


def _score(growing: _GrowingTree, team: Team, tasks: Sequence[Task], ledger: Ledger) -> ScoredTree:
    """Verifies every message that may answer, forms the team's outcome at the leaves, and makes the
    tree.
    """
    start = time.perf_counter()
    structure = growing.structure()
    verified = verify([message.text for message in growing.messages], structure, team, tasks)
    for i in verified.asked:
        ledger.add(int(structure.agent[i]), growing.messages[i].purpose, evaluator_calls=1)
    ledger.late += verified.late
    cut = np.array([m.completion.finish_reason == "length" for m in growing.messages])
    tree = make_tree(structure, leaf_reward=verified.reward, answer=verified.answer, truncated=cut)
    ledger.timed("verify", start)
    return ScoredTree(tree, growing.messages, verified.texts)


@dataclass(frozen=True)
class Verified:
    """What the verifier says of messages [M]: class (see Tree) and text of each one's answer, -1
    and "" where it may have none; the team's outcome, read at leaves only; which messages it was
    `asked` about; and how many verdicts were not reached.
    """

    answer: np.ndarray
    texts: list[str]
    reward: np.ndarray
    asked: list[int]
    late: int


def verify(
    messages: Sequence[str], structure: Structure, team: Team, tasks: Sequence[Task]
) -> Verified:
    """Verifies every message that may answer, and forms the team's outcome at the leaves."""
    leaf = structure.leaf
    answer = np.full(len(leaf), -1)
    texts = [""] * len(leaf)
    answering = [
        i
        for i in range(len(leaf))
        if team.role(int(structure.turn[i]), team.without(int(structure.removed[i]))).answers
        and (leaf[i] or team.answer != "last")
    ]
    verdicts = verifier.verify_many(
        (messages[i], task.truth, task.kind, task.tolerance)
        for i, task in ((i, tasks[structure.task[i]]) for i in answering)
    )
    judged: dict[int, list[tuple[int, verifier.Verdict]]] = {}
    late = 0
    for i, verdict in zip(answering, verdicts, strict=True):
        late += verdict.late
        texts[i] = verdict.answer or ""
        judged.setdefault(int(structure.task[i]), []).append((int(i), verdict))
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
        late += vote.late
    reward = (answer == 0).astype(float)
    if team.answer == "vote":
        for end in np.flatnonzero(leaf):
            ballot = answer[structure.path(int(end))]
            reward[end] = vote_outcome(ballot[None], team.tie)[0]
    return Verified(answer, texts, reward, answering, late)


def _check_rating_room(playing: PlayingTeam) -> None:
    """Refuses ratings that no episode could ever get; a single prompt that is too long is an
    invalid rating instead.
    """
    for agent in sorted({turn.agent for turn in playing.team.turns}):
        endpoint = playing.endpoints[agent]
        limit = endpoint.engine.limit
        shortest = len(endpoint.encode(rating.ask(agent, "", "", "", correct=True)))
        if limit is not None and shortest + playing.rating_tokens > limit:
            raise ValueError(
                f"sampling.rating_tokens={playing.rating_tokens}: with the {shortest} tokens in "
                f"which agent {agent} is asked for a rating, an episode "
                f"left out, that is more than the model's context of {limit}. Remedy: at most "
                f"{limit - shortest}, less what episodes take."
            )


def _rate(
    scored: ScoredTree,
    tasks: Sequence[Task],
    playing: PlayingTeam,
    seed: list[int],
    ledger: Ledger,
) -> ScoredTree:
    """The ratings of every factual episode by the author of each of its two messages."""
    shares = scored.tree.rating.copy()
    rejections: Counter[str] = Counter()
    episodes = scored.tree.episodes()
    for turn in range(episodes.shape[1]):
        prompts = _rating_prompts(scored, tasks, playing, turn)
        ratings = _ask_for_ratings(playing, turn, prompts, [*seed, turn], ledger)
        for episode, text in zip(episodes, ratings, strict=True):
            if text is None:
                rejections["the prompt leaves no room"] += 1
                continue
            parsed = rating.parse(text, bool(scored.tree.reward[episode[-1]] > 0.5))
            if parsed.shares:
                shares[episode[turn]] = parsed.shares
            else:
                rejections[parsed.reason] += 1
    return replace(scored, tree=replace(scored.tree, rating=shares), rejections=rejections)


def _rating_prompts(
    scored: ScoredTree, tasks: Sequence[Task], playing: PlayingTeam, turn: int
) -> list[list[int]]:
    """What the author of a turn is asked about each factual episode."""
    agent = playing.team.turns[turn].agent
    prompts = []
    for thought, answer in scored.tree.episodes():
        texts = (
            tasks[scored.tree.task[answer]].question,
            playing.team.as_read(scored.messages[thought].text),
            playing.team.as_read(scored.messages[answer].text),
        )
        correct = bool(scored.tree.reward[answer] > 0.5)
        prompts.append(playing.endpoint(turn).encode(rating.ask(agent, *texts, correct)))
    return prompts


def _ask_for_ratings(
    playing: PlayingTeam, turn: int, prompts: list[list[int]], seed: list[int], ledger: Ledger
) -> list[str | None]:
    """The reply to each prompt; None where the prompt leaves no room for one."""
    endpoint = playing.endpoint(turn)
    sampling = SamplingParams(playing.temperature, playing.rating_tokens)
    start = time.perf_counter()
    completions = [row[0] for row in _generate(endpoint, prompts, 1, sampling, seed)]
    ledger.timed("rollout", start)
    asked = [(p, c) for p, c in zip(prompts, completions, strict=True) if c is not NO_ROOM]
    ledger.add(
        playing.team.turns[turn].agent,
        "rating",
        prompt_tokens=sum(len(prompt) for prompt, _ in asked),
        generated_tokens=sum(len(completion.token_ids) for _, completion in asked),
    )
    return [None if c is NO_ROOM else endpoint.text(c) for c in completions]


@dataclass(frozen=True)
class EvaluationPass:
    """One pass over the test tasks: an intervention by its name in tables (ccpo/intervention) with
    its parameters, and the episodes of a task.

    factual: rows of the factual pass by turn, in the order of the episodes; none of that pass.
    untrained: endpoints of the policies that training began with, where the intervention asks them.
    """

    intervention: str
    samples: int
    factual: Mapping[int, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    untrained: Sequence[AgentEndpoint] = ()


def evaluate(
    playing: PlayingTeam,
    tasks: Sequence[Task],
    evaluation: EvaluationPass,
    seed: list[int],
    ledger: Ledger,
) -> list[RolloutRow]:
    """Rows of the table `rollouts` (without the names of benchmark and decoding) for one pass: a
    row for each message of each turn that is there. What depends on the change is drawn anew, each
    turn from the stream that its factual messages were drawn from.
    """
    changed = _Changed.of(playing.team, evaluation)
    rows: dict[int, list[RolloutRow]] = {}
    for turn, fate in changed.fates.items():
        if fate == "drawn":
            request = _request(playing.team, tasks, changed, turn, rows)
            speaking = playing
            if turn in changed.change.untrained:
                speaking = replace(playing, endpoints=evaluation.untrained)
            messages = generate_messages(speaking, request, [*seed, turn], ledger)
            rows[turn] = [
                _row(speaking, tasks, evaluation, (turn, i), row[0])
                for i, row in enumerate(messages)
            ]
        else:
            rows[turn] = _factual_rows(playing, tasks, changed, turn)
    return [row for of_turn in rows.values() for row in of_turn]


@dataclass(frozen=True)
class _Changed:
    """A pass, and what it makes of the team's turns."""

    evaluation: EvaluationPass
    change: interventions.Change
    fates: Mapping[int, interventions.Fate]
    present: tuple[int, ...]

    @classmethod
    def of(cls, team: Team, evaluation: EvaluationPass) -> _Changed:
        change = interventions.change_of(team, evaluation.intervention)
        if evaluation.intervention == "factual":
            fates: dict[int, interventions.Fate] = dict.fromkeys(range(len(team.turns)), "drawn")
        else:
            fates = interventions.fates(team, change)
        return cls(evaluation, change, fates, interventions.present(team, change))


def _request(
    team: Team,
    tasks: Sequence[Task],
    changed: _Changed,
    turn: int,
    rows: Mapping[int, Sequence[RolloutRow]],
) -> MessageRequest:
    """What a turn that speaks anew is asked, after the rows of the turns before it."""
    samples = changed.evaluation.samples
    asked = turn not in changed.change.unasked
    reads = [read for read in team.turns[turn].reads if read in rows]
    return MessageRequest(
        turn,
        changed.present,
        [task.question if asked else "" for task in tasks for _ in range(samples)],
        [[rows[r][i]["completion"] for r in reads] for i in range(len(tasks) * samples)],
        n=1,
        purpose="evaluation",
    )


def _factual_rows(
    playing: PlayingTeam, tasks: Sequence[Task], changed: _Changed, turn: int
) -> list[RolloutRow]:
    """The rows of a turn whose messages are those of the factual pass, kept or altered: no token
    was drawn for them in this pass. An altered message has no prompt either.
    """
    evaluation = changed.evaluation
    uncounted = {"n_prompt_tokens": 0, "n_completion_tokens": 0, "logprob": 0.0}
    own = {"intervention": evaluation.intervention, "fate": "kept", **uncounted}
    kept = [cast(RolloutRow, {**row, **own}) for row in evaluation.factual[turn]]
    if changed.fates[turn] == "kept":
        return kept
    messages = [row["completion"] for row in kept]
    tokenizer = playing.endpoint(turn).tokenizer

    def cut(text: str, share: float) -> str:
        token_ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        return str(tokenizer.decode(token_ids[: int(share * len(token_ids))]))

    foreign = [messages[i] for i in foreign_episodes(tasks, evaluation.samples)]
    rule = interventions.load(interventions.parse(evaluation.intervention)[0])
    altered = rule.alter(interventions.Material(messages, foreign, cut), **evaluation.params)
    return [
        cast(RolloutRow, {**row, "fate": "altered", "prompt": "", "completion": text})
        for row, text in zip(kept, altered, strict=True)
    ]


def foreign_episodes(tasks: Sequence[Task], samples: int) -> list[int]:
    """For each episode the one of the same sample of the next task with another truth; of the next
    task where all have the same.
    """
    out = []
    n = len(tasks)
    for i, task in enumerate(tasks):
        others = ((i + step) % n for step in range(1, n))
        unlike = next((j for j in others if tasks[j].truth != task.truth), (i + 1) % n)
        out += [unlike * samples + sample for sample in range(samples)]
    return out


def _row(
    playing: PlayingTeam,
    tasks: Sequence[Task],
    evaluation: EvaluationPass,
    place: tuple[int, int],
    message: Message,
) -> RolloutRow:
    """The row of a message that was drawn in a (turn, episode)."""
    turn, episode = place
    return {
        "task_id": tasks[episode // evaluation.samples].task_id,
        "sample": episode % evaluation.samples,
        "intervention": evaluation.intervention,
        "turn": turn,
        "agent": playing.team.turns[turn].agent,
        "fate": "drawn",
        "prompt": str(playing.endpoint(turn).tokenizer.decode(message.prompt)),
        "completion": message.text,
        "n_prompt_tokens": len(message.prompt),
        "n_completion_tokens": len(message.completion.token_ids),
        "logprob": float(sum(message.completion.logprobs)),
        "finish_reason": message.completion.finish_reason,
    }
