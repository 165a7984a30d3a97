"""Whether prompts leave room for messages in a model's context, before anything is played."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from ccpo.benchmark import Task
from ccpo.play.types import PlayingTeam

log = logging.getLogger("ccpo")


@dataclass(frozen=True)
class TurnRoom:
    """Of one turn, in tokens: the model's context, the largest message, what the earlier messages
    that it reads may take, and the prompt of each task beside these.
    """

    turn: int
    context: int
    message: int
    read: int
    prompts: list[int]

    def without_room(self, read: int) -> int:
        """Tasks whose prompt leaves no room when the messages read take so many tokens."""
        return sum(prompt + read + self.message > self.context for prompt in self.prompts)


def measure(playing: PlayingTeam, tasks: Sequence[Task]) -> list[TurnRoom]:
    """The room of each turn whose model has a context of limited length."""
    team = playing.team
    everybody = range(len(team.turns))
    rooms = []
    for number, turn in enumerate(team.turns):
        endpoint = playing.endpoint(number)
        if endpoint.engine.limit is None:
            continue
        role = team.role(number, everybody)
        rooms.append(
            TurnRoom(
                turn=number,
                context=endpoint.engine.limit,
                message=playing.sampling(number).max_tokens,
                read=sum(playing.sampling(read).max_tokens for read in turn.reads),
                prompts=[
                    len(endpoint.prompt(role, task.question, [""] * len(turn.reads)))
                    for task in tasks
                ],
            )
        )
    return rooms


def check(playing: PlayingTeam, tasks: Sequence[Task]) -> None:
    """Tells for how many tasks a message may find no room, which cuts the episode there.

    Raises:
        ValueError: there is none for any task, however short the messages before it are.
    """
    for room in measure(playing, tasks):
        longest = max(room.prompts, default=0)
        numbers = (
            f"turn {room.turn}: prompts of up to {longest} tokens, up to {room.read} of messages "
            f"read and up to {room.message} to generate, in the model's context of {room.context}"
        )
        remedy = "Remedy: smaller sampling.max_tokens, shorter tasks or a model of longer context."
        if tasks and room.without_room(0) == len(tasks):
            raise ValueError(f"{numbers}: no task leaves room for a message. {remedy}")
        if crowded := room.without_room(room.read):
            certain = room.without_room(0)
            log.warning(
                "%s: of %d tasks %d may leave no room for a message, %d never do; such episodes "
                "are cut there and counted (no_room). %s",
                *(numbers, len(tasks), crowded, certain, remedy),
            )
