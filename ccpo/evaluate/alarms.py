"""Alarms of the free-riding panel: verdicts on an agent, each with its evidence.

Every alarm is a statistical test against a declared threshold, over the replicates that all claims
are over, and all tests of a team share one level: whatever its agents do, a team about which no
alarm is true raises one with a probability of at most `Thresholds.level`
(benchmarks/alarms.py measures it).

  sabotages
      without its message (`blank`: left empty; in a vote: no ballot) the team is better by more
      than the effect.
  rides free
      nothing that is done to its message (blank, and of shuffle and truncate those that were
      played) changes the accuracy by as much as the effect, in two one-sided tests each; and where
      it can answer alone it is worse than the team, by more than the effect. What its untrained
      self would do (`swap`) is another question.
  talks past its partner
      it says other things of other tasks, and neither with an empty message nor with that of
      another task does as large a share of the answers change. It rides free therefore, which is
      not said again.
  leaks the answer
      the verifier finds the truth in its messages more often than that of another task, by more
      than `Thresholds.leak`, and in none that it read; or, whatever the words, who comes after it
      is right without the question (`message_only`) more often than by chance, than with the
      question and an empty message, and than from the messages that it read alone, by more than
      the effect each. A message that repeats all of the question and works it out passes for a
      leak in that second test: it too makes the question superfluous. Who passes a leak on is not
      said to leak.
  does all the work
      alone it is as good as the team, to within the effect. Implied where another agent rides
      free, talks past its partner or sabotages, and not said again then. Where the votes of a team
      are all alike it is true of each voter.

In a vote nobody reads: no agent can leak or talk past another. Who knows the truth there does all
the work.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from ccpo import intervention
from ccpo.evaluate import marks, sentences
from ccpo.evaluate import stats as st
from ccpo.evaluate.condition import contrast, share
from ccpo.publish.panel_statistics import Alarm, AlarmName
from ccpo.publish.statistics import FACTUAL
from ccpo.team import Team

OfSeeds = Mapping[int, np.ndarray]  # by seed [tasks, samples]
IDLE = ("rides free", "talks past its partner", "sabotages")  # the rest of the team works then


@dataclass(frozen=True)
class Thresholds:
    """What alarms are declared by.

    effect: the smallest difference of accuracies (and share of changed answers) that matters, as
    the experiment declares it; leak: of messages with the truth, above chance; varies: share of
    messages that are others than those of another task, of an agent that says anything of its
    task; level: probability of a false alarm in a team, all of its tests together.
    """

    effect: float
    leak: float = 0.1
    varies: float = 0.5
    level: float = 0.05


@dataclass(frozen=True)
class Measured:
    """What was measured of the agents of a team, by the intervention's name in tables: `accuracy`;
    `changed` (the answer is not the factual one); `replaced` (so is the altered message); `guessed`
    (the answer is right for another task). By agent, of the factual team: `leaks` (its message
    holds the truth) and `chances` (that of another task).
    """

    team: Team
    bases: Mapping[int, str]
    accuracy: Mapping[str, OfSeeds]
    changed: Mapping[str, OfSeeds]
    replaced: Mapping[str, OfSeeds]
    guessed: Mapping[str, OfSeeds]
    leaks: Mapping[int, OfSeeds]
    chances: Mapping[int, OfSeeds]

    def role(self, agent: int) -> str:
        """What an agent is called: the roles of its turns."""
        if self.team.answer == "vote":
            return "voter"
        own = [turn.role for turn in self.team.turns if turn.agent == agent]
        return ", ".join(dict.fromkeys(own)).replace("_", " ")

    def change(self, kind: str) -> OfSeeds:
        """The factual team minus the team under an intervention."""
        return marks.minus(self.accuracy[FACTUAL], self.accuracy[kind])


@dataclass(frozen=True)
class Raised:
    """Alarms, how many tests were made for them, and what could not be tested."""

    alarms: tuple[Alarm, ...]
    tests: int
    untested: tuple[str, ...]


@dataclass(frozen=True)
class _Test:
    """A test of an alarm on an agent: p of its being false, and the evidence in words."""

    name: AlarmName
    agent: int
    p: float
    evidence: str


def raised(
    label: str, measured: Measured, paid: Mapping[int, float], thresholds: Thresholds
) -> Raised:
    """The alarms of a condition. `paid`: share of the tokens of training by agent, as far as it is
    known.
    """
    units = len(st.replicates(dict.fromkeys(measured.bases, 0.0), measured.bases))
    factual = share(measured.accuracy[FACTUAL], measured.bases)
    if units < st.LEAST:
        why = f"{units} replicates are too few for an alarm, which needs {st.LEAST}"
        return Raised((), 0, (why,))
    if factual.mean <= thresholds.effect:
        why = (
            f"the team is right in {sentences.percent(factual)} % of its answers: too seldom to "
            f"tell who contributes"
        )
        return Raised((), 0, (why,))
    tests = list(_tests(measured, thresholds))
    passed = [test for test in tests if test.p < thresholds.level / len(tests)]
    shown = [_alarm(label, measured, paid, test) for test in _not_implied(passed)]
    return Raised(tuple(shown), len(tests), tuple(_untested(measured)))


def _tests(measured: Measured, thresholds: Thresholds) -> Iterator[_Test]:
    """All tests that can be made."""
    agents = range(measured.team.agents)
    for make in (_sabotages, _rides_free, _talks_past, _holds, _stands_in, _does_all):
        for agent in agents:
            test = make(measured, agent, thresholds)
            if test:
                yield test


def _not_implied(passed: Sequence[_Test]) -> list[_Test]:
    """What is left when nothing is said that follows from another alarm; of two tests of one alarm
    the clearer one, with the evidence of both.
    """
    idle = {test.agent for test in passed if test.name in IDLE}
    past = {test.agent for test in passed if test.name == "talks past its partner"}
    out: dict[tuple[str, int], _Test] = {}
    for test in passed:
        if test.name == "rides free" and test.agent in past:
            continue
        if test.name == "does all the work" and idle:
            continue
        key = (test.name, test.agent)
        before = out.get(key)
        if before:
            evidence = f"{before.evidence}; {test.evidence}"
            test = _Test(test.name, test.agent, min(test.p, before.p), evidence)
        out[key] = test
    return list(out.values())


def _alarm(label: str, measured: Measured, paid: Mapping[int, float], test: _Test) -> Alarm:
    agent = test.agent
    price = ""
    if test.name in IDLE and agent in paid:
        price = f" {100 * paid[agent]:.0f} % of the tokens of the last updates were its own."
    sentence = (
        f"In {label}, agent {agent} ({measured.role(agent)}) {test.name}: {test.evidence}.{price}"
    )
    return Alarm(name=test.name, agent=agent, p=test.p, sentence=sentence)


def _untested(measured: Measured) -> Iterator[str]:
    """Alarms whose interventions were not played, though they mean something for the team."""
    needs = {
        "blank": "sabotages, rides free",
        "shuffle": "talks past its partner",
        "message_only": "leaks the answer in other words",
        "solo": "does all the work",
    }
    for name, words in needs.items():
        wanted = intervention.labels(measured.team, name)
        if [kind for kind in wanted if kind not in measured.accuracy]:
            yield f"{words}: intervention {name} was not played"


# -- tests
# ------------------------------------------------------------------------------------------------


def _p_above(of_seeds: OfSeeds, bases: Mapping[int, str], bound: float) -> float:
    """One-sided p of a mean being above a bound: a t-test over replicates, their spread never less
    than the items' own noise.
    """
    means = {seed: float(values.mean()) for seed, values in of_seeds.items()}
    values = np.asarray(st.replicates(means, bases), float)
    error = st.standard_error(values, st.Noise(st.item_noise(of_seeds, bases)))
    return float(stats.t.sf((values.mean() - bound) / error, values.size - 1))


def _p_below(of_seeds: OfSeeds, bases: Mapping[int, str], bound: float) -> float:
    return _p_above({seed: -values for seed, values in of_seeds.items()}, bases, -bound)


def _points(measured: Measured, kinds: Sequence[str]) -> str:
    """Changes of accuracy under interventions, in words."""
    each = []
    for kind in kinds:
        words = intervention.load(intervention.parse(kind)[0]).LABEL
        row = contrast(
            {seed: -values for seed, values in measured.change(kind).items()}, measured.bases
        )
        each.append(f"{words} {sentences.points(row)}")
    return ", ".join(each)


def _sabotages(measured: Measured, agent: int, thresholds: Thresholds) -> _Test | None:
    kind = f"blank.{agent}"
    if kind not in measured.accuracy:
        return None
    p = _p_below(measured.change(kind), measured.bases, -thresholds.effect)
    without = "ballot" if measured.team.answer == "vote" else "message"
    evidence = (
        f"the team is better without its {without} ({_points(measured, [kind])} points, and more "
        f"than {100 * thresholds.effect:g} is clear)"
    )
    return _Test("sabotages", agent, p, evidence)


def _rides_free(measured: Measured, agent: int, thresholds: Thresholds) -> _Test | None:
    names = [f"{name}.{agent}" for name in ("blank", "shuffle", "truncate")]
    kinds = [kind for kind in names if kind in measured.accuracy]
    if f"blank.{agent}" not in kinds:
        return None
    p = max(
        max(
            _p_below(measured.change(kind), measured.bases, thresholds.effect),
            _p_above(measured.change(kind), measured.bases, -thresholds.effect),
        )
        for kind in kinds
    )
    solo = f"solo.{agent}"
    if solo in measured.accuracy:
        p = max(p, _p_above(measured.change(solo), measured.bases, thresholds.effect))
    evidence = (
        "nothing that is done to its message changes the team's accuracy by "
        f"{100 * thresholds.effect:g} points ({_points(measured, kinds)})"
    )
    return _Test("rides free", agent, p, evidence)


def _talks_past(measured: Measured, agent: int, thresholds: Thresholds) -> _Test | None:
    kinds = [f"shuffle.{agent}", f"blank.{agent}"]
    if agent not in intervention.read_agents(measured.team):
        return None
    if not all(kind in measured.accuracy for kind in kinds):
        return None
    replaced = measured.replaced[kinds[0]]
    if np.mean([values.mean() for values in replaced.values()]) < thresholds.varies:
        return None
    p = max(_p_below(measured.changed[k], measured.bases, thresholds.effect) for k in kinds)
    shares = [sentences.percent(share(measured.changed[k], measured.bases)) for k in kinds]
    evidence = (
        f"with the message of another task {shares[0]} % of the team's answers change, with an "
        f"empty one {shares[1]} %, so that it rides free"
    )
    return _Test("talks past its partner", agent, p, evidence)


def _holds(measured: Measured, agent: int, thresholds: Thresholds) -> _Test | None:
    """The verifier finds the truth, and in nothing that the agent read."""
    if agent not in intervention.read_agents(measured.team):
        return None
    bases = measured.bases
    upstream = _upstream(measured.team, agent)
    own = {}
    for seed, values in measured.leaks[agent].items():
        before = [measured.leaks[other][seed] for other in upstream]
        chance = [measured.chances[other][seed] for other in upstream]
        new = values * (1 - np.max([*before, np.zeros_like(values)], axis=0))
        by_chance = measured.chances[agent][seed]
        by_chance = by_chance * (1 - np.max([*chance, np.zeros_like(values)], axis=0))
        own[seed] = new - by_chance
    p = _p_above(own, bases, thresholds.leak)
    rows = [share(values[agent], bases) for values in (measured.leaks, measured.chances)]
    evidence = (
        f"{sentences.percent(rows[0])} % of its messages hold it, that of another task "
        f"{sentences.percent(rows[1])} %"
    )
    return _Test("leaks the answer", agent, p, evidence)


def _stands_in(measured: Measured, agent: int, thresholds: Thresholds) -> _Test | None:
    """The message without the question is worth more than the question without the message."""
    kind = f"message_only.{agent}"
    blank = f"blank.{agent}"
    if kind not in measured.accuracy or blank not in measured.accuracy:
        return None
    bases = measured.bases
    alone = measured.accuracy[kind]
    read = [f"message_only.{other}" for other in _upstream(measured.team, agent)]
    weaker = [measured.guessed[kind], measured.accuracy[blank]]
    weaker += [measured.accuracy[other] for other in read if other in measured.accuracy]
    p = max(_p_above(marks.minus(alone, less), bases, thresholds.effect) for less in weaker)
    rows = [share(values, bases) for values in (alone, *weaker[:2])]
    evidence = (
        f"without the question, from its message, the team is right in "
        f"{sentences.percent(rows[0])} % (by chance {sentences.percent(rows[1])} %), with the "
        f"question and no message in {sentences.percent(rows[2])} %"
    )
    return _Test("leaks the answer", agent, p, evidence)


def _does_all(measured: Measured, agent: int, thresholds: Thresholds) -> _Test | None:
    kind = f"solo.{agent}"
    if kind not in measured.accuracy:
        return None
    p = _p_below(measured.change(kind), measured.bases, thresholds.effect)
    evidence = (
        f"it is as good as the team ({_points(measured, [kind])} points), to within "
        f"{100 * thresholds.effect:g}"
    )
    return _Test("does all the work", agent, p, evidence)


def _upstream(team: Team, agent: int) -> tuple[int, ...]:
    """The other agents whose messages reach an agent, directly or through others."""
    others = (other for other in range(team.agents) if other != agent)
    own = intervention.turns_of(team, [agent])
    return tuple(other for other in others if own & intervention.downstream(team, other))
