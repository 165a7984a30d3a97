"""Verdicts of a probe: from the messages that were drawn to one row per replay with its reward and
the class of the team's answer. Needs no GPU.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ccpo.benchmark import Task
from ccpo.evaluate.probing.drawing import OWN, ancestors, redrawn
from ccpo.grade import verifier
from ccpo.team import Team, vote_outcome

Row = Mapping[str, Any]
UNDECIDED = -2  # class of a vote that several answers lead


@dataclass(frozen=True)
class _Episode:
    """The messages of a replay by turn, and the row of its table as far as it is known."""

    messages: dict[int, Row]
    head: dict[str, Any]


def rows(team: Team, tasks: Mapping[str, Task], messages: Sequence[Row]) -> list[dict[str, Any]]:
    """Rows of the table `probe` from those of `probe_messages`.

    tasks: by id.
    """
    episodes = [
        *(e for turn in range(len(team.turns)) for e in _of_turn(team, turn, messages)),
        *_without_first(messages),
    ]
    answering = [_answering(team, episode) for episode in episodes]
    codes = _codes(team, tasks, [m for own in answering for m in own])
    out = []
    for episode, own in zip(episodes, answering, strict=True):
        judged = [codes[_key(message)] for message in own]
        out.append({**episode.head, **_outcome(team, [code for code, _ in judged])})
        out[-1]["late"] = sum(late for _, late in judged)
    return out


def _of_turn(team: Team, turn: int, messages: Sequence[Row]) -> list[_Episode]:
    """The replays of a turn's candidates; a candidate that nothing follows is one itself."""
    own = [m for m in messages if m["probed"] == turn]
    place = {(m["context"], m["candidate"], m["replay"], m["turn"]): m for m in own}
    prefix = {
        (m["context"], m["turn"]): m for m in messages if m["probed"] == OWN and m["removed"] < 0
    }
    before = ancestors(team, turn)
    later = redrawn(team, turn)
    numbers = sorted({(m["context"], m["candidate"], m["replay"]) for m in own})
    episodes = []
    for context, candidate, replay in numbers:
        if later and replay < 0:
            continue
        spoken = {t: prefix[context, t] for t in before}
        spoken[turn] = place[context, candidate, -1, turn]
        spoken |= {t: place[context, candidate, replay, t] for t in later}
        after = spoken[later[0]] if later else None
        head = _head(turn, spoken[turn], max(replay, 0), after)
        episodes.append(_Episode(spoken, head))
    return episodes


def _without_first(messages: Sequence[Row]) -> list[_Episode]:
    return [_Episode({m["turn"]: m}, _head(OWN, m, 0, None)) for m in messages if m["removed"] >= 0]


def _head(turn: int, candidate: Row, replay: int, after: Row | None) -> dict[str, Any]:
    columns = ("agent", "context", "task_id", "candidate", "removed", "tokens", "logprob")
    return {
        "turn": turn,
        **{column: candidate[column] for column in columns},
        "replay": replay,
        "text": text_hash(candidate["text"]),
        "next_text": text_hash(after["text"]) if after else "",
    }


def text_hash(text: str) -> str:
    """16 hex digits of a text, its white space normalised."""
    return hashlib.sha1(" ".join(text.split()).encode("utf-8", "replace")).hexdigest()[:16]


def _answering(team: Team, episode: _Episode) -> list[Row]:
    """The messages that answer for the team, by turn."""
    spoken = [episode.messages[turn] for turn in sorted(episode.messages)]
    return spoken if team.answer == "vote" else spoken[-1:]


def _key(message: Row) -> tuple[str, str]:
    return message["task_id"], message["text"]


def _codes(
    team: Team, tasks: Mapping[str, Task], messages: Sequence[Row]
) -> dict[tuple[str, str], tuple[int, int]]:
    """Class of the answer of each (task, text), and the verdicts that were not reached; each text
    is judged once.
    """
    keys = list(dict.fromkeys(map(_key, messages)))
    verdicts = verifier.verify_many(
        (text, tasks[task].truth, tasks[task].kind, tasks[task].tolerance) for task, text in keys
    )
    judged: dict[str, list[tuple[str, verifier.Verdict]]] = {}
    for (task, text), verdict in zip(keys, verdicts, strict=True):
        judged.setdefault(task, []).append((text, verdict))
    same = verifier.equal if team.answer == "vote" else verifier.spelling
    ballots = verifier.in_order(
        verifier.ballots,
        (
            ([verdict for _, verdict in pairs], tasks[t].kind, tasks[t].tolerance, same)
            for t, pairs in judged.items()
        ),
    )
    out = {}
    for (task, pairs), ballot in zip(judged.items(), ballots, strict=True):
        for (text, verdict), code in zip(pairs, ballot.codes, strict=True):
            out[task, text] = (int(code), int(verdict.late))
    return out


def _outcome(team: Team, codes: list[int]) -> dict[str, Any]:
    """Reward and class of the team's answer: of a vote the class that leads. A tie is a class of
    its own (UNDECIDED), unless the rule is that the first of the tied voters decides.
    """
    if team.answer != "vote":
        return {"reward": float(codes[0] == 0), "answer": codes[0], "votes": ""}
    cast = [code for code in codes if code >= 0]
    most = max(map(cast.count, cast), default=0)
    tied = [code for code in dict.fromkeys(cast) if cast.count(code) == most]
    leading = -1
    if len(tied) == 1 or (tied and team.tie == "first"):
        leading = tied[0]
    elif tied:
        leading = UNDECIDED
    return {
        "reward": float(vote_outcome(np.array([codes]), team.tie)[0]),
        "answer": leading,
        "votes": ",".join(map(str, codes)),
    }
