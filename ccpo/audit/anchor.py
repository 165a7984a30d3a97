"""An experiment's anchor: the roots of all that it is made of, kept in git under published/,
outside the folder that they are of. Who makes it anew from changed bytes, records included, makes
another root.
"""

from __future__ import annotations

import subprocess
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from ccpo import lineage, manifest, merkle
from ccpo.audit import derive
from ccpo.audit.contents import Audited, ExperimentFolder
from ccpo.audit.findings import Failure
from ccpo.document import Document, read
from ccpo.publish import report

REMEDY = (
    "restore the experiment that was published (dvc pull brings it), or publish this one: "
    "python -m ccpo publish"
)


class Published(Document):
    """published/{experiment}.json. `root` stands on the page: over all that the page was made from.
    `parts`: roots by run, and of what runs share, over everything with its records; the page and
    what was imported into MLflow too. `commits`: the code that made it, in words.
    """

    kind: Literal["published"] = "published"
    version: Literal[1] = 1
    experiment: str
    root: str
    parts: dict[str, str]
    commits: tuple[str, ...]


def path_of(folder: Path, experiment: str) -> Path:
    """Where the anchor of an experiment lies."""
    return folder / f"{experiment}.json"


def anchor_of(experiment: ExperimentFolder, audited: Audited) -> Published:
    """The anchor of an experiment whose records were followed.

    Raises:
        ValueError: a record that the page was made from cannot be read.
    """
    planned = manifest.read(experiment.folder / "experiment.json")
    shown = report.inputs(derive.shown_by(experiment, audited), planned)
    return Published(
        experiment=experiment.planned.experiment,
        root=merkle.root(merkle.reached(shown), experiment.folder),
        parts=_parts(experiment, audited),
        commits=tuple(sorted({source.name for _, source in audited.records.sources()})),
    )


def _parts(experiment: ExperimentFolder, audited: Audited) -> dict[str, str]:
    """A root for each run, for the experiment's own folder, and for each kind of what is shared."""
    claims = audited.records.claims
    paths = {claim.path for claim in claims} | {claim.record for claim in claims}
    paths |= {
        path for _, _, run in experiment.run_folders() for path in (run / lineage.PROVENANCE,)
    }
    groups: dict[str, dict[Path, str]] = defaultdict(dict)
    for path in paths:
        groups[_part(path, experiment)][path] = audited.digests.of(path)
    return {name: merkle.root(groups[name], experiment.folder) for name in sorted(groups)}


def _part(path: Path, experiment: ExperimentFolder) -> str:
    """The part of an experiment that a file is of."""
    for folder in (experiment.runs, experiment.results / "experiments"):
        if path.is_relative_to(folder):
            return path.relative_to(folder).parts[0]
    if path.is_relative_to(experiment.results):
        return path.relative_to(experiment.results).parts[0]
    return "outside results"


def check(experiment: ExperimentFolder, audited: Audited, published: Path) -> None:
    """Compares an experiment with its anchor.

    Raises:
        ValueError: there is none, or none that can be read.
    """
    path = path_of(published, experiment.planned.experiment)
    if not path.is_file():
        raise ValueError(
            f"audit: {path} does not exist, so that there is nothing to compare with. Remedy: "
            f"python -m ccpo publish {experiment.planned.experiment}; or take it from git"
        )
    anchor = read(path, Published)
    verify(path, audited)
    try:
        actual = anchor_of(experiment, audited)
    except ValueError as error:
        audited.findings.failed(
            Failure("anchor", str(experiment.folder), "roots", str(error), REMEDY)
        )
        return
    _compare(anchor.parts, actual.parts, experiment, audited)
    page = experiment.folder / "report.html"
    audited.findings.compare("anchor", page, anchor.root, actual.root, REMEDY)


def _compare(
    anchored: Mapping[str, str],
    actual: Mapping[str, str],
    experiment: ExperimentFolder,
    audited: Audited,
) -> None:
    for name in sorted({*anchored, *actual}):
        where = (
            experiment.runs / name
            if (experiment.runs / name).is_dir()
            else experiment.results / name
        )
        wanted = anchored.get(name, "nothing")
        audited.findings.compare("anchor", where, wanted, actual.get(name, "nothing"), REMEDY)


SIGNERS = "allowed_signers"  # beside the anchors, as ssh-keygen reads it
PURPOSE = "ccpo"


def sign(path: Path, key: Path) -> Path:
    """Signs an anchor; returns the signature's file.

    Raises:
        ValueError: ssh-keygen cannot.
    """
    signature = path.with_name(path.name + ".sig")
    signature.unlink(missing_ok=True)  # ssh-keygen asks before it writes over one
    _ssh_keygen("sign", "-f", str(key), "-n", PURPOSE, str(path))
    return signature


def verify(path: Path, audited: Audited) -> None:
    """Checks the signature of an anchor, if there is one, against the signers that are allowed."""
    signature = path.with_name(path.name + ".sig")
    signers = path.with_name(SIGNERS)
    if not signature.is_file():
        audited.findings.unasked_for(f"who published {path}", "it is not signed")
        return
    if not signers.is_file():
        audited.findings.doubt(f"signature of {path}", f"{signers} does not name who may sign")
        return
    remedy = f"take {path} from git; it is not what was signed, or not by one of {signers}"
    try:
        options = ("-f", str(signers), "-s", str(signature), "-n", PURPOSE)
        named = _ssh_keygen("find-principals", *options[:4]).split()[0]
        _ssh_keygen("verify", *options, "-I", named, content=path.read_bytes())
    except (ValueError, IndexError) as error:
        audited.findings.failed(
            Failure("anchor", str(path), "a good signature", str(error), remedy)
        )
        return
    audited.findings.passed("anchor")


def _ssh_keygen(what: str, *words: str, content: bytes | None = None) -> str:
    """What `ssh-keygen -Y` prints.

    Raises:
        ValueError: it fails.
    """
    try:
        done = subprocess.run(
            ["ssh-keygen", "-Y", what, *words], input=content or b"", capture_output=True
        )
    except FileNotFoundError:
        raise ValueError("there is no ssh-keygen. Remedy: install OpenSSH's client") from None
    if done.returncode:
        raise ValueError(f"ssh-keygen -Y {what}: {(done.stderr or done.stdout).decode().strip()}")
    return done.stdout.decode()
