"""What a page says of where it comes from: the code that drew it, the code and packages that made
its runs, whether these differ, the root over all it was made from, and how to audit it.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ccpo import lineage, merkle
from ccpo.manifest import OracleManifest, TrainingManifest
from ccpo.publish import page
from ccpo.source import Source

PLAYED = {"rollouts.parquet": "played", "scores.parquet": "scored"}


@dataclass(frozen=True)
class MadeFrom:
    """An experiment on disk: its experiment.json, read and where it lies, and its runs' folder."""

    planned: TrainingManifest | OracleManifest
    experiment: Path
    runs: Path | None


@dataclass(frozen=True)
class Made:
    """What was done (trained, played, scored) of one run, and by which code."""

    how: str
    run: str
    source: Source


def as_html(made_from: MadeFrom, shown: Sequence[Path], drawn_by: Source) -> str:
    """The part of the page. `shown`: the files that the page shows."""
    root = merkle.root(merkle.reached(shown), made_from.experiment.parent)
    text = (
        f"<p>Drawn by {_named(drawn_by)}. {_packages(drawn_by)}.{_unlocked(drawn_by)}</p>"
        f"<p>Root over all that it was made from: <code>{root}</code></p>"
        "<p>Check this page back to the runs: <code>python -m ccpo audit results/experiments/"
        f"{html.escape(made_from.planned.experiment)}/report.html</code></p>"
    )
    if isinstance(made_from.planned, OracleManifest):
        return text
    ids = [run for condition in made_from.planned.conditions for run in condition.runs.values()]
    listed = page.listed(f"<code>{html.escape(run)}</code>" for run in ids)
    return text + _of_runs(list(_made(made_from)), drawn_by) + page.folded("Runs", listed)


def _made(made_from: MadeFrom) -> Iterator[Made]:
    """What was done of the runs, as their records say."""
    planned = made_from.planned
    if made_from.runs is None or isinstance(planned, OracleManifest):
        return
    for run in (run for condition in planned.conditions for run in condition.runs.values()):
        folder = made_from.runs / run
        if not (folder / lineage.PROVENANCE).is_file():
            continue
        for source in lineage.read_provenance(folder).sources:
            yield Made("trained", run, source)
        for table, how in PLAYED.items():
            for protocol in planned.protocols:
                path = protocol.folder(folder) / table
                if lineage.passport_of(path).is_file():
                    for source in lineage.read_passport(path).sources:
                        yield Made(how, run, source)


def _of_runs(made: Sequence[Made], drawn_by: Source) -> str:
    """One sentence where all is of one code and one environment, the page's; else a table."""
    if not made:
        return ""
    kinds: dict[tuple[str, str, str], set[str]] = {}
    for each in made:
        environment = _packages(each.source) + _unlocked(each.source)
        kinds.setdefault((each.how, _named(each.source), environment), set()).add(each.run)
    codes = {code for _, code, _ in kinds}
    environments = {environment for _, _, environment in kinds}
    runs = len({each.run for each in made})
    own = _packages(drawn_by) + _unlocked(drawn_by)
    if codes == {_named(drawn_by)} and environments == {own}:
        return f"<p>All {runs} runs were trained, played and scored by this code and packages.</p>"
    among = len(codes) > 1 or len(environments) > 1
    digests = {each.source.code for each in made} | {drawn_by.code}
    sentence = (
        "The runs were not all made by one code and with the same packages"
        if among
        else "The runs were made by other code, or with other packages, than drew this page"
    )
    if len(digests) == 1 and None not in digests:
        sentence += " (the package's files were the same ones at all these commits)"
    rows = [
        [how, code, environment, f"{len(ids)}"] for (how, code, environment), ids in kinds.items()
    ]
    return (
        f"<p><b>{sentence}.</b></p>{page.wide(page.table(['', 'code', 'packages', 'runs'], rows))}"
    )


def _named(source: Source) -> str:
    """The code as HTML."""
    if source.commit is None:
        return f"code <code>{source.code or 'unknown'}</code>, which is no commit"
    patch = (
        f" with uncommitted changes (patch <code>{source.dirty[:8]}</code>)" if source.dirty else ""
    )
    return f"commit <code>{source.commit}</code>{patch}"


def _packages(source: Source) -> str:
    versions = ", ".join(f"{k} {v}" for k, v in source.versions.items() if v)
    return html.escape(f"Python {source.python}; {versions}")


def _unlocked(source: Source) -> str:
    """What is not installed as the lock says, as HTML."""
    if not source.unlocked:
        return ""
    return f" <b>Not as locked: {html.escape(', '.join(source.unlocked))}.</b>"
