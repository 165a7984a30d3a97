"""The records of an experiment as a graph: which record says what of which file, and what
was made from what. Every file is hashed once and every record read once, however many name it.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ccpo import files, lineage
from ccpo.audit.findings import Failure, Findings
from ccpo.lineage import Passport, Provenance
from ccpo.source import Source

MISSING = "no such file"


def plain(path: Path) -> Path:
    """A path without detours, as it is compared with others."""
    return Path(os.path.normpath(path))


class Digests:
    """sha256 of files and folders as `files.sha256` computes it, each file read once."""

    def __init__(self) -> None:
        self.read = 0
        self._known: dict[Path, str] = {}

    def of(self, path: Path) -> str:
        """The hash; MISSING where nothing is."""
        if path.is_dir():
            total = hashlib.sha256()
            for item in files.members(path):
                name = item.relative_to(path).as_posix()
                total.update(f"{name}\0{self.of(item)}\n".encode())
            return total.hexdigest()
        if path not in self._known:
            if not path.is_file():
                return MISSING
            self._known[path] = files.sha256(path)
            self.read += path.stat().st_size
        return self._known[path]

    @property
    def files(self) -> int:
        """How many were read."""
        return len(self._known)


@dataclass(frozen=True)
class Claim:
    """What a record says of a file or folder, which it names as its `own` or as an input."""

    record: Path
    path: Path
    digest: str
    own: bool


class Records:
    """The records that some artefacts lead to."""

    def __init__(self, findings: Findings, digests: Digests) -> None:
        self.findings = findings
        self.digests = digests
        self.claims: list[Claim] = []
        self.passports: dict[Path, Passport] = {}
        self.runs: dict[Path, Provenance] = {}
        self.made_from: dict[Path, set[Path]] = defaultdict(set)
        self._broken: set[Path] = set()
        self._followed: set[Path] = set()

    def follow(self, path: Path) -> bool:
        """Reads the record of an artefact, and those of all that it was made from; whether it has
        one.
        """
        waiting = [plain(path)]
        has_record = False
        while waiting:
            artefact = waiting.pop()
            record = self._record(artefact)
            if artefact == plain(path):
                has_record = record is not None
            if record is not None and record not in self._followed:
                self._followed.add(record)
                waiting += self._read(record, artefact)
        return has_record

    def _record(self, artefact: Path) -> Path | None:
        """The record of an artefact; None where there is none that can be read."""
        passport = lineage.passport_of(artefact)
        provenance = artefact.parent / lineage.PROVENANCE
        if passport in self._broken:
            return None
        if passport in self._followed or passport.is_file():
            return passport
        if artefact == provenance or not provenance.is_file() or provenance in self._broken:
            return None
        try:
            run = self.runs.setdefault(artefact.parent, lineage.read_provenance(artefact.parent))
        except ValueError as error:
            self._unreadable(provenance, error)
            return None
        return provenance if artefact.name in run.outputs else None

    def _read(self, record: Path, artefact: Path) -> list[Path]:
        """Keeps what a record claims; returns what it names."""
        if record.name == lineage.PROVENANCE:
            run = self.runs[record.parent]
            own = {plain(record.parent / name): digest for name, digest in run.outputs.items()}
            inputs = run.inputs
        else:
            try:
                passport = lineage.read_passport(artefact)
            except ValueError as error:
                self._unreadable(record, error)
                return []
            self.passports[artefact] = passport
            own = {artefact: passport.sha256}
            inputs = passport.inputs
            if passport.artefact != artefact.name:
                self.findings.compare(
                    "files",
                    record,
                    artefact.name,
                    passport.artefact,
                    lineage.remedy(artefact, record),
                )
        named = {plain(record.parent / name): digest for name, digest in inputs.items()}
        self.claims += [Claim(record, path, digest, True) for path, digest in own.items()]
        self.claims += [Claim(record, path, digest, False) for path, digest in named.items()]
        for path in named:
            self.made_from[path] |= set(own)
        return list(named)

    def _unreadable(self, record: Path, error: ValueError) -> None:
        if record in self._broken:
            return
        self._broken.add(record)
        artefact = record.with_name(record.name.removesuffix(".passport.json"))
        self.findings.failed(
            Failure("files", str(record), "a record", str(error), self.remedy(artefact, record))
        )

    def check(self) -> None:
        """Compares every claim with the file that it is about; a file is named once."""
        failed: set[Path] = set()
        for claim in sorted(self.claims, key=lambda claim: not claim.own):
            actual = self.digests.of(claim.path)
            if actual == claim.digest:
                self.findings.passed("files")
            elif claim.path in failed:
                self.findings.checks["files"] += 1
            else:
                failed.add(claim.path)
                self.findings.failed(
                    Failure(
                        "files",
                        str(claim.path),
                        f"sha256 {claim.digest}, as {claim.record} recorded",
                        actual if actual == MISSING else f"sha256 {actual}",
                        self.remedy(claim.path, claim.record),
                    )
                )

    def remedy(self, path: Path, record: Path) -> str:
        """What to do about a file that is not as it should be: bring it back, or make it and all
        that was made from it anew.
        """
        later = [str(p) for p in self.after(path)]
        shown = ", ".join(later[:6]) + (f" and {len(later) - 6} more" if len(later) > 6 else "")
        mend = lineage.remedy(path, record).removeprefix("Remedy: ")
        return f"{mend} (made from it: {shown})" if later else mend

    def after(self, path: Path) -> list[Path]:
        """All that was made from a file, of what was read."""
        reached: set[Path] = set()
        waiting = [path]
        while waiting:
            for artefact in self.made_from.get(waiting.pop(), ()):
                if artefact not in reached:
                    reached.add(artefact)
                    waiting.append(artefact)
        return sorted(reached)

    def sources(self) -> Iterator[tuple[Path, Source]]:
        """The code by which each artefact was made, as its record says."""
        for artefact, passport in self.passports.items():
            yield from ((artefact, source) for source in passport.sources)
        for folder, run in self.runs.items():
            if folder / lineage.PROVENANCE in self._followed:
                yield from ((folder / lineage.PROVENANCE, source) for source in run.sources)

    def recorded(self, paths: Iterable[Path]) -> bool:
        """Whether something is said of one of some paths."""
        known = {claim.path for claim in self.claims}
        return any(plain(path) in known for path in paths)
