"""What runs in the processes that `ccpo/grade/process.py` asks: `python -m ccpo.grade.worker`;
nothing imports it.
"""

from __future__ import annotations

import functools
import json
import os
import resource
import signal
import sys

from ccpo.grade import answers

MEMORY = 4 << 30  # bytes of address space


@functools.lru_cache(maxsize=1 << 17)
def same(answer: str, truth: str, kind: str, tolerance: float) -> bool:
    """As `answers.same`."""
    return answers.same(answer, truth, kind, tolerance)


def reply(asked: dict[str, str | float]) -> bool | float | None:
    """What one request is answered with; its fields are those of `process.Request`. What goes wrong
    in the algebra is a wrong answer and no value.

    Raises:
        MemoryError: no verdict.
    """
    value = asked["do"] == "value"
    text = str(asked["text"])
    try:
        if value:
            return answers.value(text)
        return same(text, str(asked["truth"]), str(asked["kind"]), float(asked["tolerance"]))
    except MemoryError:
        raise
    except Exception:  # the algebra is another's: whatever it raises, it raises each time
        return None if value else False


def serve() -> None:
    """The worker: a line of request in, a line of reply out."""
    # the one who asks decides; the end of its pipe ends this
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints goes to the log
    answers.symbolic("x", "x")  # the algebra is imported before anybody's time runs
    print('"ready"', file=replies, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        # counts processor time; SIGPROF has no handler, so the kernel ends the process, in C too
        signal.setitimer(signal.ITIMER_PROF, asked["seconds"])
        try:
            message: dict[str, bool | float | str | None] = {"result": reply(asked)}
        except MemoryError:
            message = {"late": f"more than {MEMORY >> 30} GiB of memory"}
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps(message), file=replies, flush=True)


if __name__ == "__main__":
    serve()
