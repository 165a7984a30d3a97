"""The diagnostics of C3 as they are published, for comparison with ours: what a definition makes of
the same messages.

Fidelity (official `c3/analysis/metrics.py`): Spearman's correlation of a credit with R_j - mean(R),
both from the same draws, over candidate 0 of each context (`real_only`, the paper's figure) or all
(`all_candidates`); 0 where one side is constant. Every method that centres rewards is an affine
function of the other side inside a context, so that it is 1 or near it whatever the method is
worth.
Variance: population variance (ddof 0) of the credit inside a context, mean over contexts. It is 0
in every context whose outcomes are all the same: saturation, not quality.
Influence, code: I(J; Y) with Y the whole text of the next message by its hash, the 64 most frequent
of all contexts and "other", p(y | j) smoothed by 0.01 a symbol, natural logarithms, at least 0, no
correction. Influence, arXiv 2603.06859v2, appendix A.4: Y is the outcome; it states a bias of
(n - 1) / (2 C) for n candidates and C outcomes in all, 3/16 at the paper's setting, beside a
reported influence of 0.187.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
from scipy import stats

from ccpo.evaluate.probing.influence import entropy
from ccpo.publish.probe_statistics import PublishedProbe

SYMBOLS = 64
SMOOTHING = 0.01


def diagnostics(reward: np.ndarray, next_text: np.ndarray) -> Iterator[PublishedProbe]:
    """All of them, of rewards [C, n, m] and texts [C, n, m] of the next message ("": none)."""
    credits = {"c3": c3_loo(reward), "magrpo": magrpo_mean(reward)}
    target = magrpo_mean(reward)
    for method, credit in credits.items():
        for definition, value in (
            ("fidelity, real_only", spearman(credit[:, 0], target[:, 0])),
            ("fidelity, all_candidates", spearman(credit, target)),
            ("variance, ddof 0", float(credit.var(axis=1).mean())),
        ):
            yield PublishedProbe(definition=definition, method=method, value=value)
    if (next_text != "").all():
        yield PublishedProbe(
            definition="influence, texts", method="", value=influence_of_texts(next_text)
        )
        yield PublishedProbe(
            definition="influence, outcomes", method="", value=influence_of_outcomes(reward)
        )
        yield PublishedProbe(
            definition="influence, stated bias", method="", value=stated_bias(reward.shape)
        )


def c3_loo(reward: np.ndarray) -> np.ndarray:
    """Mean reward of a candidate less that of the others, [C, n]; equal numbers of replays."""
    mean = reward.mean(axis=2)
    n = mean.shape[1]
    return np.asarray((mean - mean.mean(axis=1, keepdims=True)) * n / (n - 1))


def magrpo_mean(reward: np.ndarray) -> np.ndarray:
    """Mean reward of a candidate less that of all, [C, n]."""
    mean = reward.mean(axis=2)
    return np.asarray(mean - mean.mean(axis=1, keepdims=True))


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's correlation of all values, mean ranks for ties; 0 where one side is constant."""
    x = a.reshape(-1)
    y = b.reshape(-1)
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    return float(stats.spearmanr(x, y).statistic)


def influence_of_texts(texts: np.ndarray) -> float:
    """The code's influence, of texts [C, n, m]."""
    frequent = [text for text, _ in Counter(texts.reshape(-1).tolist()).most_common(SYMBOLS)]
    index = {text: i for i, text in enumerate(frequent)}
    other = len(frequent)
    symbols = np.array([index.get(text, other) for text in texts.reshape(-1).tolist()])
    symbols = symbols.reshape(texts.shape)
    total = 0.0
    for own in symbols:
        counts = np.stack([np.bincount(row, minlength=other + 1) for row in own]) + SMOOTHING
        by_candidate = counts / counts.sum(axis=1, keepdims=True)
        total += max(0.0, float(entropy(by_candidate.mean(axis=0)) - entropy(by_candidate).mean()))
    return total / len(symbols)


def influence_of_outcomes(reward: np.ndarray) -> float:
    """Appendix A.4's influence: entropy of the mean outcome less the mean entropy of each
    candidate's.
    """
    q = reward.mean(axis=2)
    whole = q.mean(axis=1)
    of_each = entropy(np.stack([q, 1 - q], axis=-1)).mean(axis=1)
    return float((entropy(np.stack([whole, 1 - whole], axis=-1)) - of_each).mean())


def stated_bias(shape: tuple[int, ...]) -> float:
    """The bias that appendix A.4 states of its influence, for rewards [C, n, m]."""
    _, n, m = shape
    return (n - 1) / (2 * n * m)
