"""The training loop, read from top to bottom: play, credit, advantage, update, record, save.

Interrupted and resumed equals uninterrupted, bit for bit on a CPU: every random stream is named and
derived from (seed, update), and a checkpoint holds weights, optimisers, tables and counts. SIGTERM
and SIGUSR1 finish the update, save, and exit with code 75. One process at a time trains a run
(ccpo/lease.py); one that lost its folder to another writes nothing more.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ccpo import lease, lineage, schema
from ccpo.benchmark import Task
from ccpo.config import RunConfig, read_run
from ccpo.data.tables import read_tasks
from ccpo.learn import canary, kept
from ccpo.learn.assign import Assigned, assign, fit_critic
from ccpo.learn.interrupt import Interrupted, Stop, Stopped
from ccpo.learn.progress import Tell, progress
from ccpo.learn.record import Update, record
from ccpo.learn.starts import started
from ccpo.learn.state import TABLES, State
from ccpo.learn.update import Lessons, UpdateStats, update_policy
from ccpo.play import room
from ccpo.play.rollout import play, stream
from ccpo.play.types import COUNTS, Ledger, PlayingTeam, ScoredTree
from ccpo.ranks import UNSHARDED, Sharding, join
from ccpo.source import Source
from ccpo.team import Team

log = logging.getLogger("ccpo")

# updates between checkpoints, and between the updates whose messages are kept in credit.parquet
# (and the last)
EVERY = 10
# seconds after which a checkpoint is due whatever the number of updates: what a killed process can
# lose
SAVED = 300.0
# verdicts that may be late before a training is stopped: so many, and so large a share of all
LATE_FREE = 5
LATE_SHARE = 0.01


@dataclass(frozen=True)
class Options:
    """How a run is trained, beside its configuration and inputs.

    left_out  ids of training items that are left out, since they are test items
    held_out  the file that says so
    keep      shares of the training whose weights are kept, for probes
    ranks     processes that train the run together, all of which call `train`
    sharding  what these do not all hold in full
    """

    left_out: Collection[str] = ()
    held_out: Path | None = None
    keep: tuple[float, ...] = ()
    ranks: int = 1
    sharding: Sharding = UNSHARDED


def train(
    *,
    config: Path,
    tasks: Path,
    model: Path | Sequence[Path],
    scratch: Path,
    out: Path,
    options: Options = Options(),
) -> None:
    """Trains one run and writes {out}/model, train, credit, ledger, seconds (Parquet) and
    provenance.json. `model`: the folder that all agents start from, or one for each; then the
    critic's own, if it has one.

    Raises:
        ValueError: bad input, before any update; or a canary stopped the run.
        Interrupted: after a signal, when the state is saved.
    """
    stop = Stop()
    run = read_run(config)
    _check_sharding(run, options.sharding)
    begun = _begin(config, tasks, model, options)
    pool = _pool(run, tasks, options.left_out)
    _repeatable()
    ranks = join(options.ranks)
    with (
        lease.hold(scratch, "train") if ranks.first else nullcontext() as held,
        progress(run, held) as tell,
    ):
        ranks.wait()  # nobody reads a checkpoint before the first holds the folder
        if ranks.first:
            earlier = started(scratch, begun, config)
        state = State(run, model, ranks, options.sharding)
        if state.resume(scratch):
            log.info("resumed at update %d", state.step)
        kept.refuse_missed(scratch, options.keep, _done(run, state))
        if ranks.first:
            room.check(_playing(run, state), pool)
        tell(state)
        _loop(_Session(run, pool, state, scratch, held, options.keep), stop, tell)
        # the last checkpoint stays until the run is scored: of a job that fails afterwards, outputs
        # are deleted
        with state.gathered():
            if held:
                held.check()
                trained = _trained(run, state, options, held.status.starts)
                folders = kept.publish(scratch, options.keep, out)
                _finish(state, out, _Origin(begun, earlier, trained), folders)


def _begin(
    config: Path, tasks: Path, model: Path | Sequence[Path], options: Options
) -> lineage.Begun:
    """The inputs of a training, compared with what made them, before anything is loaded."""
    folders = [model] if isinstance(model, Path) else list(dict.fromkeys(model))
    held_out = [options.held_out] if options.held_out else []
    return lineage.begin([config, tasks, *held_out, *folders])


def _repeatable() -> None:
    """Makes torch compute the same again, as far as it can."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    torch.use_deterministic_algorithms(True, warn_only=True)


def _check_sharding(run: RunConfig, sharding: Sharding) -> None:
    """Refuses stage 3 for several adapters."""
    if run.lora and run.build_team().agents > 1 and sharding.stage == 3:
        raise ValueError(
            "ZeRO stage 3 shards a model for one optimiser, and policy lora has one for each "
            "adapter. Remedy: --zero 2 or below."
        )


def _pool(run: RunConfig, tasks: Path, left_out: Collection[str]) -> list[Task]:
    """The tasks that a run learns from.

    Raises:
        ValueError: they are too few for an update.
    """
    if not run.train.steps:
        return []
    pool = [task for task in read_tasks(tasks, "train") if task.task_id not in left_out]
    if len(pool) < run.train.tasks:
        without = f" ({len(left_out)} are left out as test items)" if left_out else ""
        raise ValueError(
            f"{tasks} has {len(pool)} train tasks{without}, an update needs "
            f"train.tasks={run.train.tasks}"
        )
    return pool


@dataclass(frozen=True)
class UpdateCost:
    """What one update took: tokens generated and read, verifier's calls, seconds."""

    generated: float
    prompt: float
    calls: float
    seconds: float


def pilot(
    run: RunConfig, tasks: Path, model: Path | Sequence[Path], updates: int
) -> tuple[list[UpdateCost], State]:
    """Plays a run's first updates, keeps nothing. The cost of each, and the state after."""
    pool = read_tasks(tasks, "train") if run.train.steps else []
    state = State(run, model)
    team = run.build_team()
    room.check(_playing(run, state), pool)
    costs = []
    for _ in range(min(updates, run.train.steps)):
        start = time.perf_counter()
        ledger = update(run, team, pool, state)
        costs.append(
            UpdateCost(
                generated=float(ledger.total("generated_tokens")),
                prompt=float(ledger.total("prompt_tokens")),
                calls=float(ledger.total("evaluator_calls")),
                seconds=time.perf_counter() - start,
            )
        )
    return costs, state


@dataclass(frozen=True)
class _Session:
    """A training under way; `held`: the lease of its folder, where this rank is the first."""

    run: RunConfig
    pool: list[Task]
    state: State
    scratch: Path
    held: lease.Lease | None
    keep: tuple[float, ...] = ()

    def keep_weights(self, before: float) -> None:
        """Keeps the weights of a share of the training that an update has reached. Before the
        checkpoint that follows, so that a training that is killed between goes on before the share.
        """
        now = _done(self.run, self.state)
        for share in kept.reached(self.keep, before, now):
            with self.state.gathered():
                if self.held:
                    self.held.check()
                    kept.write(self.scratch, share, self.state)

    def save(self, ledger: Ledger) -> None:
        """Writes a checkpoint."""
        start = time.perf_counter()
        if self.held:
            self.held.check()
        self.state.save(self.scratch)
        ledger.timed("save", start)


def _loop(session: _Session, stop: Stop, tell: Tell) -> None:
    """Updates until the run is done or a signal came to any rank, with checkpoints."""
    run = session.run
    state = session.state
    team = run.build_team()
    saved = time.monotonic()
    first = state.step
    while not _finished(run, state):
        start = time.perf_counter()
        before = _done(run, state)
        try:
            # ranks that wait for each other cannot leave a batch one by one
            ledger = update(
                run,
                team,
                session.pool,
                state,
                stop.at_once if state.ranks.world == 1 else nullcontext,
            )
        except Stopped:  # nothing has changed since the update before
            ledger = Ledger()
        session.keep_weights(before)
        due = state.step % EVERY == 0 or time.monotonic() - saved > SAVED
        asked, due = (votes > 0 for votes in state.ranks.total([stop.asked, due]))
        if asked or due or _finished(run, state):
            session.save(ledger)
            saved = time.monotonic()
        state.rows["seconds"] += [
            {"step": state.step, "part": p, "seconds": s} for p, s in ledger.seconds.items()
        ]
        tell(state, time.perf_counter() - start)
        if asked and not _finished(run, state):
            log.info("stopped by a signal after update %d; saved, run again to go on", state.step)
            raise Interrupted(
                f"stopped by a signal after update {state.step}; saved",
                state.step - first,
                state.ranks.first,
            )


def _done(run: RunConfig, state: State) -> float:
    """Share of a training that is done: of its updates, or of its tokens where they end it."""
    by_updates = state.step / run.train.steps if run.train.steps else 1.0
    by_tokens = state.generated / run.train.tokens if run.train.tokens else 0.0
    return max(by_updates, by_tokens)


def _finished(run: RunConfig, state: State) -> bool:
    spent = run.train.tokens is not None and state.generated >= run.train.tokens
    return state.step >= run.train.steps or spent


def update(
    run: RunConfig,
    team: Team,
    pool: list[Task],
    state: State,
    interruptible: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Ledger:
    """One update: plays a batch of tasks, assigns credit, improves the active policies, and records
    what happened.

    `interruptible` makes the context in which the batch is played: until that ends, the state is as
    it was.
    """
    step = state.step
    ledger = Ledger()
    batch = _batch(run, pool, step)
    with interruptible(), state.gathered():
        scored = _play(run, batch, state, ledger)
    refuse_late(state.late + ledger.late, state.evaluated + ledger.total("evaluator_calls"), step)
    for engine in state.engines:
        engine.sleep()
    start = time.perf_counter()
    learner = np.array([state.policy_of(int(a)) for a in scored.tree.agent])
    assigned = assign(run, state, scored, learner)
    if not np.isfinite(assigned.credit).all():
        bad = int(np.flatnonzero(~np.isfinite(assigned.credit))[0])
        raise ValueError(f"update {step}: credit {run.credit.name} is not finite for message {bad}")
    ledger.timed("credit", start)
    active = _active(run, team, step)
    stats = _learn(run, state, scored, assigned, active, ledger)
    _refresh(run, state, scored, stats, ledger)
    state.step += 1
    state.generated += ledger.total("generated_tokens")
    state.evaluated += ledger.total("evaluator_calls")
    state.late += ledger.late
    keep_messages = state.step % EVERY == 1 or _finished(run, state)
    record(team, state, Update(batch, scored, assigned, active, stats, ledger), keep_messages)
    return ledger


def _playing(run: RunConfig, state: State) -> PlayingTeam:
    """The run's team, as it plays while it trains."""
    return PlayingTeam(
        run.build_team(),
        state.endpoints,
        run.sampling.temperature,
        run.sampling.max_tokens,
        run.sampling.rating_tokens,
    )


def _play(run: RunConfig, batch: Sequence[Task], state: State, ledger: Ledger) -> ScoredTree:
    """The scored tree of an update."""
    seed = stream("rollout", run.seed, state.step)
    scored = play(run.plan(), batch, _playing(run, state), seed, ledger)
    if scored.rejections:
        reasons = [f"{reason} ({n})" for reason, n in scored.rejections.most_common()]
        log.info("ratings rejected: %s", ", ".join(reasons))
    return scored


def _learn(
    run: RunConfig,
    state: State,
    scored: ScoredTree,
    assigned: Assigned,
    active: Sequence[int],
    ledger: Ledger,
) -> dict[int, UpdateStats]:
    """Fits the critic and updates the active policies; what the update of each did."""
    start = time.perf_counter()
    if state.critic:
        fit_critic(state, state.critic, scored, assigned, ledger)
    stats = {}
    agents = scored.tree.agent
    policies = np.array([state.policy_of(int(a)) for a in agents])
    for index in sorted({state.policy_of(a) for a in active}):
        chosen = np.flatnonzero((assigned.group >= 0) & (policies == index))
        lessons = Lessons(scored.messages, assigned.advantage, chosen)
        learner = state.learner(index, run)
        stats[index] = update_policy(run, learner, lessons, state.step, state.ranks)
        if run.objective.kl_target is not None:
            state.steer(run.objective, learner, stats[index].divergence, len(chosen))
        for agent in np.unique(agents[chosen]):
            moving = chosen[(agents[chosen] == agent) & (assigned.advantage[chosen] != 0)]
            trained = run.train.epochs * sum(lessons.tokens(moving))
            ledger.add(int(agent), "update", trained_tokens=trained)
    ledger.timed("update", start)
    return stats


def _refresh(
    run: RunConfig,
    state: State,
    scored: ScoredTree,
    stats: dict[int, UpdateStats],
    ledger: Ledger,
) -> None:
    """Shows the engines the weights of the policies that were updated, and asks whether they
    generate with them.
    """
    start = time.perf_counter()
    agents = scored.tree.agent
    policies = np.array([state.policy_of(int(a)) for a in agents])
    tolerance = canary.Tolerance(run.sampling.temperature, run.train.dtype)
    with state.gathered():
        for index in stats:
            own = np.flatnonzero(policies == index)
            engine = state.engines[index]
            probe = state.prompt_probes[index]
            engine.refresh()
            where = f"update {state.step}, policy {index}"
            gap = canary.check(where, state.activate(index), engine, probe, tolerance)
            ledger.add(int(agents[own[0]]), "canary", prompt_tokens=probe.tokens)
            sample = [scored.messages[i] for i in own[:: max(1, len(own) // canary.RETOKENIZED)]]
            drift = canary.drift(sample, state.tokenizers[index])
            rows = canary.rows(state.step + 1, index, gap, drift, stats[index].ratios)
            state.rows["canary"] += [dict(row) for row in rows]
    ledger.timed("refresh", start)


def _active(run: RunConfig, team: Team, step: int) -> list[int]:
    """The agents whose policies learn in an update: all, or one where policies of their own take
    turns; none while a critic warms up.
    """
    if run.critic and step < run.critic.warmup:
        return []
    if run.policy == "shared" or run.train.order == "simultaneous":
        return list(range(team.agents))
    return [(step // run.train.period + run.train.start) % team.agents]


def _batch(run: RunConfig, pool: list[Task], step: int) -> list[Task]:
    """The tasks of an update: epochs of the pool, each in its own order, paired across conditions
    by the seed.
    """
    per_epoch = len(pool) // run.train.tasks
    order = np.random.default_rng(stream("order", run.seed, step // per_epoch)).permutation(
        len(pool)
    )
    first = (step % per_epoch) * run.train.tasks
    return [pool[i] for i in order[first : first + run.train.tasks]]


def refuse_late(late: int, verdicts: int, step: int) -> None:
    """Stops a training of which too many verdicts were not reached: they count as wrong, and so
    would move what is learnt. A few are borne: LATE_FREE, and LATE_SHARE of all.

    Raises:
        ValueError: there are more.
    """
    if late > LATE_FREE + LATE_SHARE * verdicts:
        raise ValueError(
            f"update {step}: {late:,} of {verdicts:,} verdicts were not reached, more than "
            f"{LATE_FREE} and {LATE_SHARE:.0%} of all. The answers of this model take the algebra "
            "too long, or the machine ends its workers for want of memory. Remedy: see what "
            "`ccpo verify` says of answers in the table `credit`; give the job more memory."
        )


def _trained(run: RunConfig, state: State, options: Options, starts: int) -> lineage.Trained:
    """What provenance says of a training."""
    sharding = options.sharding
    return lineage.Trained(
        run=run.id,
        updates=state.step,
        starts=starts,
        ledger={c: sum(row[c] for row in state.rows["ledger"]) for c in COUNTS},
        left_out=tuple(sorted(options.left_out)),
        streams={
            "rollout": "crc32('rollout'), seed, update, branch, turn",
            "order": "crc32('order'), seed, epoch",
            "minibatch": "crc32('minibatch'), seed, update, policy",
            "adapter": "crc32('adapter'), seed, policy",
        },
        determinism="bitwise on a CPU with one thread and these versions"
        if not torch.cuda.is_available()
        else "same in distribution",
        threads=torch.get_num_threads(),
        ranks=lineage.RanksUsed(
            world=state.ranks.world, zero=sharding.stage, offload=sharding.offload
        ),
    )


@dataclass(frozen=True)
class _Origin:
    """What provenance says: the inputs and the code, the code of earlier processes where it was
    another, and what the training reports.
    """

    begun: lineage.Begun
    earlier: Sequence[Source]
    trained: lineage.Trained


def _finish(state: State, out: Path, origin: _Origin, folders: Sequence[Path] = ()) -> None:
    """Writes the run's artefacts beside the `folders` of kept weights; provenance comes last: where
    it stands, everything stands.
    """
    out.mkdir(parents=True, exist_ok=True)
    state.write(out / "model")
    schema.write_manifest(out / "model")
    for name in TABLES:
        schema.write_table(out / f"{name}.parquet", schema.rows_to_table(name, state.rows[name]))
    outputs = [out / name for name in ("model", *(f"{table}.parquet" for table in TABLES))]
    written = [*outputs, *folders]
    lineage.write_provenance(out, origin.begun, written, origin.trained, origin.earlier)
