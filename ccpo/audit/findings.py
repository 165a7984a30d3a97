"""What an audit says: how much was checked, what is not as recorded, what could not be checked, and
what nobody asked for. Told as a tree, or as JSON.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field

PASSED = 0
FAILED = 1
UNCERTAIN = 3  # 2 is a wrong command line
LISTED = 20  # failures that are named beside the first

PARTS = {
    "closed": "all that it is made of is there, recorded, and nothing else",
    "files": "every file is what its records say",
    "names": "runs, protocols, task tables and models are named by their content",
    "code": "the code and the packages are those of the records",
    "tasks": "task tables are those of the raw files",
    "ledger": "the ledger adds up",
    "credit": "verdicts, rewards, credit and advantages of training follow from its messages",
    "verdicts": "scores follow from the rollouts",
    "prompts": "prompts follow from tasks and messages",
    "statistics": "statistics follow from the tables of the runs",
    "figures": "figures, plotted numbers and tables follow from the statistics",
    "page": "the page follows from what it shows",
    "mlflow": "what was imported is what is here",
    "anchor": "the experiment is the one that was published",
    "replay": "what was computed with a model comes out again",
}


@dataclass(frozen=True)
class Failure:
    """Something that is not as recorded, or cannot be derived again."""

    part: str
    path: str
    expected: str
    actual: str
    remedy: str

    def __str__(self) -> str:
        return (
            f"{self.path}\n  expected: {self.expected}\n  found:    {self.actual}\n"
            f"  remedy:   {self.remedy}"
        )


@dataclass(frozen=True)
class Unchecked:
    """Something that was not checked, and why."""

    what: str
    why: str


@dataclass
class Findings:
    """What was found of one thing that is audited. `uncertain`: what should have been checked and
    could not be; `unasked`: what takes a model or an anchor, and was not asked for; `read`: bytes.
    """

    name: str
    checks: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    uncertain: list[Unchecked] = field(default_factory=list)
    unasked: list[Unchecked] = field(default_factory=list)
    files: int = 0
    read: int = 0
    seconds: float = 0.0

    def passed(self, part: str, n: int = 1) -> None:
        """Counts checks that hold."""
        self.checks[part] += n

    def failed(self, failure: Failure) -> None:
        """Counts and keeps a check that does not."""
        self.checks[failure.part] += 1
        if failure not in self.failures:
            self.failures.append(failure)

    def compare(
        self, part: str, path: object, expected: object, actual: object, remedy: str
    ) -> bool:
        """Checks that two values are equal."""
        if expected == actual:
            self.passed(part)
            return True
        self.failed(Failure(part, str(path), str(expected), str(actual), remedy))
        return False

    def doubt(self, what: str, why: str) -> None:
        """Keeps something that could not be checked."""
        if Unchecked(what, why) not in self.uncertain:
            self.uncertain.append(Unchecked(what, why))

    def unasked_for(self, what: str, why: str) -> None:
        """Keeps something that was not checked, and need not be."""
        self.unasked.append(Unchecked(what, why))

    @property
    def code(self) -> int:
        """The exit code."""
        if self.failures:
            return FAILED
        return UNCERTAIN if self.uncertain else PASSED


def lines(findings: Findings, every: bool = False) -> Iterator[str]:
    """The tree in lines. The first failure stands in full, the others by their file; `every`: all
    in full.
    """
    total = sum(findings.checks.values())
    yield (
        f"{findings.name}: {total:,} checks, {len(findings.failures)} failed, "
        f"{len(findings.uncertain)} could not be made ({findings.files:,} files, "
        f"{findings.read / 1e6:,.1f} MB, each read once; {findings.seconds:.1f} s)"
    )
    failures = Counter(failure.part for failure in findings.failures)
    parts = [part for part in PARTS if findings.checks[part]]
    for i, part in enumerate(parts):
        branch = "└─" if i == len(parts) - 1 else "├─"
        verdict = f"{failures[part]} FAILED" if failures[part] else "ok"
        yield f"{branch} {part:10} {findings.checks[part]:>7,} {verdict:>9}  {PARTS[part]}"
    for title, items in (
        ("could not be checked", findings.uncertain),
        ("not asked for", findings.unasked),
    ):
        if items:
            yield f"{title}:"
            yield from (f"  {item.what}: {item.why}" for item in items)
    shown = findings.failures if every else findings.failures[:1]
    for number, failure in enumerate(shown):
        yield ("first failure: " if number == 0 else "failure: ") + str(failure)
    if rest := findings.failures[len(shown) :]:
        yield f"{len(rest)} more:"
        yield from (f"  {failure.part}: {failure.path}" for failure in rest[:LISTED])
        if len(rest) > LISTED:
            yield f"  and {len(rest) - LISTED} that --all names"


def as_json(findings: Findings) -> dict[str, object]:
    """All of it as JSON values."""
    return {**asdict(findings), "checks": dict(findings.checks), "exit": findings.code}


def worst(several: Sequence[Findings]) -> int:
    """The exit code of several audits: that something failed, else that something is uncertain."""
    codes = {findings.code for findings in several}
    return FAILED if FAILED in codes else max(codes, default=PASSED)
