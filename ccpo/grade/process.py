"""Processes of their own for verdicts that may take long or never end.

What is limited is the processor time of the worker, which the kernel counts and enforces, never the
time by the clock: on a busy machine a verdict comes later, and is the same. A signal handler would
do only between bytecodes; the kernel's default action also ends a power that is written out in C.

A verdict that was not reached is asked for once more, of a fresh worker with more time; then it is
`Late`, which is neither right nor wrong: whoever asks counts it and keeps it nowhere.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Literal

START_SECONDS = 120.0  # by the clock, to import the algebra on a slow disk
# by the clock, without a reply and without the kernel's ending the worker: it was stopped, or a
# hundred others share its core
STALLED_SECONDS = 600.0
TRIES = (1.0, 4.0)  # multiples of the processor time that is asked for


class Late(Exception):
    """A verdict could not be reached. It says nothing about the answer, and is never kept."""


@dataclass(frozen=True)
class Request:
    """Whether `text` is equal to `truth` ("equal"), or the value of a formula without variables
    ("value").
    """

    do: Literal["equal", "value"]
    text: str
    truth: str = ""
    kind: str = ""
    tolerance: float = 0.0


Reply = bool | float | None


def ask(request: Request, seconds: float) -> Reply:
    """The reply of a worker, which takes at most `seconds` of processor time, or four times as much
    when it is asked once more. May be called from any thread of any process.

    Raises:
        Late: no verdict was reached. RuntimeError: the worker does not start.
    """
    reasons: list[str] = []
    for factor in TRIES:
        with _borrowed(fresh=bool(reasons)) as judge:
            try:
                return judge.ask(request, factor * seconds)
            except Late as late:
                reasons.append(str(late))
    raise Late(f"no verdict: {reasons[0]}, and asked once more: {reasons[-1]}")


class Judge:
    """A worker that answers requests. It starts when first asked, and again after it ended."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.unread = b""
        self.owner = os.getpid()
        _living.add(self)

    def __del__(self) -> None:
        self.stop()

    def ask(self, request: Request, seconds: float) -> Reply:
        """The reply to one request within `seconds` of the worker's processor time.

        Raises:
            Late: it took longer, or brought the worker down. RuntimeError: it does not start.
        """
        message = json.dumps({**asdict(request), "seconds": seconds}).encode() + b"\n"
        self._send(message)
        line = self._line(STALLED_SECONDS)
        if line is None:
            raise Late(self._ending(seconds))
        reply = json.loads(line)
        if "late" in reply:
            self.stop()
            raise Late(str(reply["late"]))
        result: Reply = reply["result"]
        return result

    def _send(self, message: bytes) -> None:
        while True:
            process = self._started()
            assert process.stdin
            try:
                process.stdin.write(message)
                process.stdin.flush()
                return
            except BrokenPipeError:  # it was ended while idle: another one is asked
                self.stop()

    def _started(self) -> subprocess.Popen[bytes]:
        if self.process is None or self.process.poll() is not None:
            self.unread = b""
            path = os.pathsep.join(p or os.getcwd() for p in sys.path)
            command = [sys.executable, "-W", "ignore", "-m", "ccpo.grade.worker"]
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            )
            if self._line(START_SECONDS) != b'"ready"':
                self.stop()
                raise RuntimeError(
                    "verifier: its worker does not start. Remedy: see what "
                    f"`{' '.join(command)}` says."
                )
        return self.process

    def _line(self, seconds: float) -> bytes | None:
        """The next line; None when the time by the clock is up or the worker is gone."""
        assert self.process
        assert self.process.stdout
        stream = self.process.stdout.fileno()
        while b"\n" not in self.unread:
            if not select.select([stream], [], [], seconds)[0]:
                return None
            data = os.read(stream, 1 << 16)
            if not data:
                return None
            self.unread += data
        line, self.unread = self.unread.split(b"\n", 1)
        return line

    def _ending(self, seconds: float) -> str:
        """Why there was no reply; the worker is over then."""
        process = self.process
        assert process
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(1)
        code = process.returncode
        self.stop()
        if code is None:
            return f"no reply within {STALLED_SECONDS:g} s by the clock"
        if code == -signal.SIGPROF:
            return f"more than {seconds:g} s of processor time"
        return f"the worker ended with {code}"

    def stop(self) -> None:
        """Ends the worker; a fork of its owner leaves it alone."""
        process = self.process
        self.process = None
        if process is None or self.owner != os.getpid():
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


_living: weakref.WeakSet[Judge] = weakref.WeakSet()
_idle: list[Judge] = []
_lock = threading.Lock()


@contextlib.contextmanager
def _borrowed(fresh: bool) -> Iterator[Judge]:
    """A judge that nobody else asks meanwhile: one that is idle, else a new one."""
    with _lock:
        judge = _idle.pop() if _idle and not fresh else Judge()
    try:
        yield judge
    except BaseException:
        judge.stop()  # a reply may be under way
        raise
    with _lock:
        _idle.append(judge)


def _forget() -> None:
    """A fork has judges of its own: two processes would read one pipe."""
    global _lock
    _lock = threading.Lock()
    _idle.clear()


os.register_at_fork(after_in_child=_forget)


@atexit.register
def stop() -> None:
    """Ends all workers of this process; the next request starts another."""
    for judge in list(_living):
        judge.stop()
