"""Publishes an experiment: its anchor and its numbers in published/, which git keeps, and all that
it is made of as a bundle, which DVC keeps, so that another clone audits it without training.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ccpo import files, lineage, schema
from ccpo.audit import anchor, audit, contents
from ccpo.audit.audit import HERE, Place
from ccpo.audit.contents import Audited, ExperimentFolder
from ccpo.audit.records import plain

CURVES = "learning_curves"
METRICS = "metrics.json"
BUNDLE = "bundle"


def publish(folder: Path, key: Path | None = None, place: Place = HERE) -> Iterator[str]:
    """Audits an experiment and publishes it, signed with a key if one is named; a line for each
    thing that was written.

    Raises:
        ValueError: its audit fails, or the key cannot sign.
    """
    of = contents.of_folder(folder)
    audited = contents.begin(of.planned.experiment)
    for _ in audit.checks(of, audited, place):
        pass
    if audited.findings.failures:
        raise ValueError(
            f"{of.planned.experiment} is not published, since its audit fails: "
            f"{audited.findings.failures[0]}"
        )
    path = anchor.path_of(place.published, of.planned.experiment)
    anchor.anchor_of(of, audited).write(path)
    yield f"{path}: the anchor, for git"
    if key:
        yield f"{anchor.sign(path, key)}: its signature, for git"
    own = place.published / of.planned.experiment
    _numbers(of, own)
    _declare(place.published)
    yield f"{own} and {place.published / 'dvc.yaml'}: numbers for dvc metrics and plots, for git"
    bundle = own / BUNDLE
    left_out = _bundle(of, audited, bundle)
    for path in left_out:
        yield f"{path} is not in the bundle: it lies outside the project"
    yield f"{bundle}: all it is made of. Next: dvc add {bundle}; git add the rest; dvc push"


def _numbers(of: ExperimentFolder, own: Path) -> None:
    """The numbers of the main table, and the learning curves where there are any."""
    schema.write_json(own / METRICS, files.read_json(of.folder / "tables" / "main.json"))
    curves = of.folder / "figures" / f"{CURVES}.csv"
    if curves.is_file():
        schema.write_text(own / curves.name, curves.read_text())


def _declare(published: Path) -> None:
    """published/dvc.yaml: the numbers of every published experiment."""
    names = sorted(path.parent.name for path in published.glob(f"*/{METRICS}"))
    declared: dict[str, Any] = {"metrics": [f"{name}/{METRICS}" for name in names]}
    drawn = [name for name in names if (published / name / f"{CURVES}.csv").is_file()]
    declared["plots"] = [
        {
            f"{name}/{CURVES}.csv": {
                "x": "tokens",
                "y": "mean",
                "title": f"{name}: team reward while training",
                "template": "by_condition",  # .dvc/plots: a colour for each condition
            }
        }
        for name in drawn
    ]
    # JSON is YAML
    schema.write_json(published / "dvc.yaml", declared)


def _bundle(of: ExperimentFolder, audited: Audited, bundle: Path) -> list[Path]:
    """Copies everything that an experiment is made of, at its paths from the project's folder;
    returns what lies outside that.
    """
    top = plain(of.results / "..")
    claims = audited.records.claims
    paths = {claim.path for claim in claims} | {claim.record for claim in claims}
    paths |= {run / lineage.PROVENANCE for _, _, run in of.run_folders()}
    paths |= {files.manifest_of(path) for path in list(paths) if path.is_dir()}
    left_out = []
    with files.new_folder(bundle) as temporary:
        for path in sorted(paths):
            if not plain(path).absolute().is_relative_to(top.absolute()):
                left_out.append(path)
                continue
            target = temporary / plain(path).absolute().relative_to(top.absolute())
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                ignored = shutil.ignore_patterns(".snakemake_timestamp")
                shutil.copytree(path, target, dirs_exist_ok=True, ignore=ignored)
            elif path.is_file():
                shutil.copy2(path, target)
                for patch in path.parent.glob("code-*.patch"):
                    shutil.copy2(patch, target.parent)
    return left_out
