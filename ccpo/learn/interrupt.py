"""Signals that ask a training to stop: it saves and exits, to be started again."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

INTERRUPTED = 75  # EX_TEMPFAIL: saved, start again


class Interrupted(SystemExit):
    """A signal came, the state is saved: exit code 75, start again to go on.

    `progress`: updates since this process began; `first`: whether it is the rank that writes.
    """

    def __init__(self, why: str, progress: int, first: bool) -> None:
        super().__init__(INTERRUPTED)
        self.why = why
        self.progress = progress
        self.first = first

    def __str__(self) -> str:
        return self.why


class Stopped(Exception):
    """A signal came while nothing had changed yet."""


class Stop:
    """Remembers that SIGTERM or SIGUSR1 came; inside `at_once` it raises Stopped: long rollouts
    would outlive a cluster's patience.
    """

    def __init__(self) -> None:
        self.asked = False
        self._raise = False
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, self._ask)

    def _ask(self, number: int, frame: object) -> None:
        self.asked = True
        if self._raise:
            self._raise = False
            raise Stopped

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """What runs inside may be dropped."""
        try:
            self._raise = True
            if self.asked:
                raise Stopped
            yield
        finally:
            self._raise = False
