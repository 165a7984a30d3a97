"""A process of its own for verdicts that may take long or never end: asked line by line, killed
when an item exceeds its time.

An alarm signal would do in a main thread, and only between bytecodes; this works in threads and
worker processes, and against a power that is written out in C.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import subprocess
import sys
import threading
import weakref
from collections.abc import Sequence
from typing import Any

START_SECONDS = 120  # to import the algebra on a slow disk

_mine = threading.local()
_living: weakref.WeakSet[Judge] = weakref.WeakSet()


class Judge:
    """A worker that answers requests in order. It starts when first asked, and again after it was
    killed.
    """

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.heard = b""
        self.owner = os.getpid()
        _living.add(self)

    def __del__(self) -> None:
        self.stop()

    def ask(
        self, requests: Sequence[dict[str, Any]], seconds: Sequence[float]
    ) -> list[dict[str, Any] | None]:
        """Replies to requests, None for one that took longer than its seconds or brought the worker
        down.

        Raises:
            RuntimeError: the worker does not start.
        """
        out: list[dict[str, Any] | None] = []
        while len(out) < len(requests):
            process = self._started()
            assert process.stdin
            try:
                process.stdin.write(json.dumps(list(requests[len(out) :])).encode() + b"\n")
                process.stdin.flush()
            except BrokenPipeError:  # it died idle, by somebody's hand: another one is asked
                self.stop()
                continue
            while len(out) < len(requests):
                line = self._line(seconds[len(out)])
                out.append(json.loads(line) if line else None)
                if not line:
                    self.stop()
                    break
        return out

    def _started(self) -> subprocess.Popen[bytes]:
        if self.process is None or self.process.poll() is not None:
            self.heard = b""
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

    def _line(self, seconds: float) -> bytes:
        """The next line, or nothing when the time is up or the worker is gone."""
        assert self.process
        assert self.process.stdout
        fd = self.process.stdout.fileno()
        while b"\n" not in self.heard:
            if not select.select([fd], [], [], seconds)[0]:
                return b""
            data = os.read(fd, 1 << 16)
            if not data:
                return b""
            self.heard += data
        line, self.heard = self.heard.split(b"\n", 1)
        return line

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


def mine() -> Judge:
    """The judge of this thread of this process: a fork gets its own."""
    if getattr(_mine, "pid", None) != os.getpid():
        _mine.pid = os.getpid()
        _mine.judge = Judge()
    return _mine.judge


@atexit.register
def _end() -> None:
    for judge in list(_living):
        judge.stop()
