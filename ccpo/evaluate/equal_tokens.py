"""Every team beside a single agent of its model that may say as many tokens: it answers several
times and takes the most frequent answer (majority@k).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from ccpo.evaluate import marks, metrics, sentences
from ccpo.evaluate.condition import Runs, contrast
from ccpo.evaluate.marks import Marks, Played
from ccpo.publish.metric_statistics import AgainstSingle, EqualTokens, Gap


def equal_tokens(there: Mapping[str, Runs], tolerance: float) -> EqualTokens:
    """The teams among the conditions, each against every single agent of its model (repeats left
    out), on the benchmark of the primary metric. `tolerance`: relative difference of tokens at
    which they count as equal, as of a matched comparison.
    """
    own = {label: of for label, of in there.items() if not of.planned.repeats}
    singles = [of for of in own.values() if of.planned.turns == 1]
    rows: list[AgainstSingle] = []
    lines: list[str] = []
    alone: list[str] = []
    for label, team in own.items():
        if team.planned.turns == 1:
            continue
        fitting = [single for single in singles if _fits(team, single)]
        if not fitting:
            alone.append(label)
        for single in fitting:
            of_pair = list(_against(team, single, tolerance))
            rows += of_pair
            if of_pair:
                lines.append(sentence(of_pair, tolerance))
    if alone:
        lines.append(
            f"No single agent at equal tokens stands beside {', '.join(alone)}: the experiment has "
            "none of the same model, benchmark and seeds that was evaluated alike."
        )
    return EqualTokens(rows=tuple(rows), sentences=tuple(lines))


def _fits(team: Runs, single: Runs) -> bool:
    """Of the same model, trained if the team was, played on the same benchmark and tasks, and of
    common seeds.
    """
    played = Played(team.benchmark, team.planned.primary)
    of_team = next(iter(team.marks.values()))
    of_single = next(iter(single.marks.values()))
    return (
        team.planned.model == single.planned.model
        and (single.planned.credit != "none" or team.planned.credit == "none")
        and team.benchmark == single.benchmark
        and played in of_single
        and np.array_equal(of_team[played].tasks, of_single[played].tasks)
        and bool(set(team.marks) & set(single.marks))
    )


def _against(team: Runs, single: Runs, tolerance: float) -> Iterator[AgainstSingle]:
    """Under each decoding of the single agent that draws several answers."""
    primary = Played(team.benchmark, team.planned.primary)
    both = sorted(set(team.marks) & set(single.marks))
    of_team = {seed: team.marks[seed][primary] for seed in both}
    spent = _tokens(of_team)
    for decoding, temperature in single.planned.decodings.items():
        of_single = {seed: single.marks[seed][Played(single.benchmark, decoding)] for seed in both}
        first = of_single[both[0]]
        if first.values.shape[1] < 2 or first.ballots is None or temperature == 0:
            continue
        each = _tokens(of_single)
        wanted = int(spent * (1 + tolerance) / each + 1e-9) if each else 0
        k = min(max(wanted, 1), first.values.shape[1])
        yours = {seed: marks.values for seed, marks in of_team.items()}
        theirs = {seed: _majority(marks, k) for seed, marks in of_single.items()}
        bases = {seed: f"{team.bases[seed]}, {single.bases[seed]}" for seed in both}
        row = contrast(marks.minus(yours, theirs), bases)
        yield AgainstSingle(
            team=team.planned.label,
            single=single.planned.label,
            benchmark=team.benchmark,
            team_decoding=team.planned.primary,
            decoding=decoding,
            words=sentences.decoded(temperature),
            k=k,
            wanted=wanted,
            drawn=first.values.shape[1],
            team_tokens=spent,
            single_tokens=k * each,
            team_accuracy=_mean(yours),
            single_accuracy=_mean(theirs),
            difference=Gap(**dict(row)),
        )


def _tokens(by_seed: Mapping[int, Marks]) -> float:
    """Generated for an answer: mean over seeds and tasks."""
    means = [of_seed.tokens.mean() for of_seed in by_seed.values() if of_seed.tokens is not None]
    return float(np.mean(means))


def _majority(of_seed: Marks, k: int) -> np.ndarray:
    """[tasks, 1]: the chance that the most frequent of k answers is right."""
    assert of_seed.ballots is not None
    return metrics.majority_at(of_seed.ballots)[:, k - 1 : k]


def _mean(of_seeds: Mapping[int, np.ndarray]) -> float:
    return float(np.mean([values.mean() for values in of_seeds.values()]))


def sentence(rows: list[AgainstSingle], tolerance: float) -> str:
    """What stands beside a team, from its rows against one single agent."""
    first = rows[0]
    parts = [
        f"{sentences.signed(row.difference.mean, row.difference.ci_low, row.difference.ci_high)} "
        f"against {row.k} {'answer' if row.k == 1 else 'answers'} {row.words} "
        f"({row.single_tokens:.0f} tokens)"
        for row in rows
    ]
    text = (
        f"{first.team}, which says {first.team_tokens:.0f} tokens a task, against the most "
        f"frequent answer of the single agent {first.single} at no more tokens (within "
        f"{100 * tolerance:g} %), in points: "
        f"{'; '.join(parts)} (95 % intervals over {first.difference.n} replicates, unadjusted)."
    )
    for row in rows:
        if row.wanted > row.drawn:
            text += (
                f" Tokens do not match {row.words}: they would pay for {row.wanted} answers of the "
                f"single agent, and {row.drawn} were drawn. Remedy: single_samples: {row.wanted} "
                "in the protocol."
            )
        elif row.wanted < 1:
            text += (
                f" Tokens do not match {row.words}: one answer of the single agent takes "
                f"{row.single_tokens:.0f}, more than the team."
            )
    return text
