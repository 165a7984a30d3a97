"""Verdicts on a busy machine: the same mixed answers are verified with several numbers of busy
processes beside, and the verdicts must be identical. `python benchmarks/load.py`

Answers are right and wrong ones of every kind: plain, by algebra, algebra that takes long, and
programs that are right, wrong, slow, endless and waiting. Exits 1 and names the first difference.
"""

from __future__ import annotations

import argparse
import itertools
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from ccpo.benchmark import checks
from ccpo.grade import process, verifier
from ccpo.grade.sandbox import isolation

TESTS = checks(["f(3)", "f(4)"], [9, 16])
SPIN = "import time\ndef f(x):\n    end = time.process_time() + {}\n"
SPIN += "    while time.process_time() < end: pass\n    return x * x"
PROGRAMS = (
    "def f(x): return x * x",
    "def f(x): return x + x",
    "def f(x): return x ** 2 if x < 4 else 0",
    SPIN.format(0.2),
    "def f(x):\n    while True: pass",
    "import time\ndef f(x): time.sleep(1000)",
)


def items(n: int) -> list[verifier.Item]:
    """`n` answers, half of them right or so, each in a form of its own."""
    draw = random.Random(0)
    out: list[verifier.Item] = []
    for i in itertools.count():
        if len(out) >= n:
            return out[:n]
        k = draw.randint(2, 10**6)
        deep = "+".join(f"\\sqrt{{{k + j}}}" for j in range(4))
        out += [
            (f"\\boxed{{{k}}}", str(k + i % 2), "number", 0.0),
            (f"\\boxed{{\\sqrt{{{8 * k * k}}}}}", f"{2 * k}\\sqrt{{2}}", "expression", 0.0),
            (f"\\boxed{{(x+{k})^2}}", f"x^2+{2 * k + i % 2}x+{k * k}", "expression", 0.0),
            (f"\\boxed{{{deep}}}", f"1+{deep}-{1 + i % 2}", "expression", 0.0),
            (f"\\boxed{{(1+x)^{{{20 + i % 9}}}}}", f"(x+1)^{{{20 + i % 7}}}", "expression", 0.0),
            ("The answer is (B).", "ABCD"[k % 4], "choice", 0.0),
        ]
        if i % 20 == 0:
            program = PROGRAMS[i // 20 % len(PROGRAMS)]
            out.append((f"```python\n{program}\n```", TESTS, "code", 0.0))


@contextmanager
def busy(n: int) -> Iterator[None]:
    """`n` processes beside that do nothing but work."""
    beside = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n)]
    try:
        yield
    finally:
        for one in beside:
            one.kill()
            one.wait()


def main() -> int:
    """Prints a line for each number of busy processes; 1 if verdicts differ."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--answers", type=int, default=2000)
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 2, 4, 8])
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    isolation.SECONDS = 2.0  # so that the endless programs take less long
    isolation.IDLE_SECONDS = 5.0
    answers = items(arguments.answers)
    first: list[verifier.Verdict] = []
    differ = 0
    for n in arguments.busy:
        verifier.equal.cache_clear()
        process.stop()
        start = time.monotonic()
        with busy(n):
            verdicts = list(verifier.verify_many(answers, arguments.workers))
        seconds = time.monotonic() - start
        counts = Counter("late" if v.late else "right" if v.correct else "wrong" for v in verdicts)
        first = first or verdicts
        unlike = [i for i, (a, b) in enumerate(zip(first, verdicts, strict=True)) if a != b]
        differ += len(unlike)
        print(f"{n} busy beside: {dict(counts)}, {seconds:.0f} s, {len(unlike)} differ", flush=True)
        for i in unlike[:3]:
            print(f"  {answers[i][0]!r:.100}\n  {first[i]}\n  {verdicts[i]}")
    print("identical" if not differ else "NOT identical")
    return int(differ > 0)


if __name__ == "__main__":
    sys.exit(main())
