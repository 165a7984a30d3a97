"""What runs in the process that `ccpo/grade/process.py` asks: `python -m ccpo.grade.worker`;
nothing imports it.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys

from ccpo.grade import answers, verifier

MEMORY = 4 << 30  # bytes of address space


def serve() -> None:
    """The worker: a line of requests in, a line of reply for each."""
    # the one who asks decides; the end of its pipe ends this
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints goes to the log
    answers.symbolic("x", "x")  # the algebra is imported before anybody's time runs
    print('"ready"', file=replies, flush=True)
    for line in sys.stdin:
        for request in json.loads(line):
            print(json.dumps(verifier.answer_request(request)), file=replies, flush=True)


if __name__ == "__main__":
    serve()
