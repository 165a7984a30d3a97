"""The code and the packages of an experiment's records: whether they are what the commits hold, and
whether they are those of this process, by which all is derived again.
"""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ccpo import files, lineage, source
from ccpo.audit.contents import Audited
from ccpo.audit.findings import Failure
from ccpo.source import Source


def check(audited: Audited, package: Path) -> None:
    """Checks every code that a record names, once, with that of the package here."""
    named: dict[str, tuple[Source, Path]] = {}
    for artefact, each in audited.records.sources():
        # torch is loaded by some stages and not by others
        key = each.model_copy(update={"torch": None}).model_dump_json()
        named.setdefault(key, (each, artefact))
    now = source.source(package)
    for each, artefact in named.values():
        _against_commit(each, artefact, audited, package)
        for what, then, now_is in _differences(each, now):
            audited.findings.doubt(
                f"{what} of {artefact} and what was made by the same",
                f"{then} then, {now_is} here. Remedy: audit by a clone of that commit",
            )
        if each.unlocked:
            why = f"made with other packages than its lock names: {', '.join(each.unlocked)}"
            audited.findings.doubt(f"packages of {artefact}", why)
    for folder, run in audited.records.runs.items():
        if run.ended is not None or run.earlier:
            path = folder / lineage.PROVENANCE
            audited.findings.doubt(f"code of {path}", "it was changed while the run was trained")


def _differences(then: Source, now: Source) -> Iterator[tuple[str, str, str]]:
    """What the code and packages of a record have otherwise than those of this process."""
    if then.code is None or then.code != now.code:
        yield "code", then.name, now.name
    elif then.commit is not None and now.commit is None:
        yield "commit", then.name, "no git repository"
    if then.lock != now.lock:
        yield "lock", str(then.lock)[:12], str(now.lock)[:12]
    if then.python != now.python:
        yield "Python", then.python, now.python
    for name in sorted({*then.versions, *now.versions} - {"ccpo"}):
        if then.versions.get(name) != now.versions.get(name):
            yield name, str(then.versions.get(name)), str(now.versions.get(name))


def _against_commit(each: Source, artefact: Path, audited: Audited, package: Path) -> None:
    """That the commit a record names, with its patch, holds the code and the lock it names."""
    findings = audited.findings
    if each.code is None or each.commit is None or not source.commit(package):
        return  # nothing to compare with, which is named as a difference
    with tempfile.TemporaryDirectory() as scratch:
        if not _checkout(each.commit, Path(scratch), package):
            findings.doubt(f"commit of {artefact}", f"{each.commit} is not in this repository")
            return
        if each.dirty is not None and not _patched(each, artefact, Path(scratch), audited):
            return
        where = f"{artefact}, its code"
        remedy = "restore the record: it names a commit whose code is not the code it names"
        then = Path(scratch, package.name)
        findings.compare("code", where, each.code, source.digest(then), remedy)
        lock = source.lock_of(then, each.versions)
        actual = files.sha256(lock) if lock else None
        findings.compare("code", f"{artefact}, its lock", each.lock, actual, remedy)


def _checkout(commit: str, folder: Path, package: Path) -> bool:
    """The package and the locks at a commit, in a folder; False where there is no such commit."""
    top = source.git(package, "rev-parse", "--show-toplevel")
    if top is None:
        return False
    names = [package.name, "envs"]
    archive = source.git(Path(top.decode().strip()), "archive", "--format=tar", commit, *names)
    if archive is None:
        return False
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:  # of git's own making: relative names; extractall differs by Python
            if member.isfile():
                content = tar.extractfile(member)
                assert content is not None
                path = folder / member.name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content.read())
    return True


def _patched(each: Source, artefact: Path, folder: Path, audited: Audited) -> bool:
    """Applies the patch that is kept beside what was made; False where it is not there, or is
    another, or does not fit.
    """
    patch = artefact.parent / lineage.patch_name(str(each.dirty))
    if audited.digests.of(patch) != each.dirty:
        remedy = "restore the patch; without it nobody knows which code this was"
        audited.findings.failed(
            Failure("code", str(patch), f"sha256 {each.dirty}", audited.digests.of(patch), remedy)
        )
        return False
    done = subprocess.run(
        ["git", "apply", "--whitespace=nowarn", str(patch.resolve())],
        cwd=folder,
        env={**os.environ, "GIT_CEILING_DIRECTORIES": str(folder.parent)},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        audited.findings.doubt(f"patch {patch}", f"it does not fit its commit: {done.stderr}")
    return done.returncode == 0
