"""The training loop, read from top to bottom: play, credit, advantage, update, record, save.

Interrupted and resumed equals uninterrupted, bit for bit on a CPU: every random stream is named and
derived from (seed, update), and a checkpoint holds weights, optimisers, tables and counts. SIGTERM
and SIGUSR1 finish the update, save, and exit with code 75. One process at a time trains a run
(ccpo/lease.py); one that lost its folder to another writes nothing more.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ccpo import lease, lineage, schema
from ccpo.advantage import role_information
from ccpo.benchmark import Task
from ccpo.config import RunConfig, read_run
from ccpo.data.tables import read_tasks
from ccpo.grade import leakage
from ccpo.learn import canary
from ccpo.learn.assign import Assigned, assign, teach
from ccpo.learn.improve import improve
from ccpo.learn.state import TABLES, State
from ccpo.play.rollout import COUNTS, Ledger, Played, play, stream
from ccpo.ranks import WHOLE, Sharding, join
from ccpo.team import Team

log = logging.getLogger("ccpo")

INTERRUPTED = 75  # EX_TEMPFAIL: saved, start again
# updates between checkpoints, and between the updates whose messages are kept in credit.parquet
# (and the last)
EVERY = 10
# seconds after which a checkpoint is due whatever the number of updates: what a killed process can
# lose
SAVED = 300.0
# verdicts that may be late before a training is stopped: so many, and so large a share of all
LATE_FREE = 5
LATE_SHARE = 0.01


class Interrupted(SystemExit):
    """A signal came, the state is saved: exit code 75, start again to go on.

    `progress`: updates since this process began; `first`: whether it is the rank that writes.
    """

    def __init__(self, why: str, progress: int, first: bool) -> None:
        super().__init__(INTERRUPTED)
        self.why = why
        self.progress = progress
        self.first = first

    def __str__(self) -> str:
        return self.why


def train(
    *,
    config: Path,
    tasks: Path,
    model: Path | Sequence[Path],
    scratch: Path,
    out: Path,
    without: Collection[str] = (),
    held_out: Path | None = None,
    ranks: int = 1,
    sharding: Sharding = WHOLE,
) -> None:
    """Trains one run and writes {out}/model, train, credit, ledger, seconds (Parquet) and
    provenance.json.

    `model`: the folder that all agents start from, or one for each. `without`: ids of training
    items that are left out, since `held_out` says that they are test items. `ranks`: processes that
    train it together, all of which call this; the first one writes. `sharding`: what they do not
    all hold whole.

    Raises:
        ValueError: bad input, before any update; or a canary stopped the run.
        Interrupted: after a signal, when the state is saved.
    """
    stop = _Stop()
    run = read_run(config)
    if run.lora and run.build_team().agents > 1 and sharding.stage == 3:
        raise ValueError(
            "ZeRO stage 3 shards a model for one optimiser, and policy lora has one for each "
            "adapter. Remedy: --zero 2 or below."
        )
    pool = (
        [task for task in read_tasks(tasks, "train") if task.task_id not in without]
        if run.train.steps
        else []
    )
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    torch.use_deterministic_algorithms(True, warn_only=True)
    if run.train.steps and len(pool) < run.train.tasks:
        left = f" ({len(without)} are left out as test items)" if without else ""
        raise ValueError(
            f"{tasks} has {len(pool)} train tasks{left}, an update needs "
            f"train.tasks={run.train.tasks}"
        )
    here = join(ranks)
    with (
        lease.hold(scratch, "train") if here.first else nullcontext() as held,
        _progress(run, held) as tell,
    ):
        here.wait()  # nobody reads a checkpoint before the first holds the folder
        state = State(run, model, here, sharding)
        if state.resume(scratch):
            log.info("resumed at update %d", state.step)
        tell(state)
        _loop(run, pool, state, scratch, stop, held, tell)
        with state.whole():
            if held is None:
                return
            held.check()
            # the last checkpoint stays until the run is scored: a job that fails behind our back
            # has its outputs deleted
            _finish(
                run,
                state,
                out,
                [config, tasks, *([held_out] if held_out else []), *state.folders],
                sorted(without),
                held.status.starts,
                sharding,
            )


def pilot(
    run: RunConfig, tasks: Path, model: Path | Sequence[Path], updates: int
) -> tuple[list[dict[str, float]], State]:
    """Plays a run's first updates, keeps nothing. Of each: tokens generated and read, verifier's
    calls, seconds; and the state after.
    """
    pool = read_tasks(tasks, "train") if run.train.steps else []
    state = State(run, model)
    team = run.build_team()
    rows = []
    for _ in range(min(updates, run.train.steps)):
        start = time.perf_counter()
        ledger = update(run, team, pool, state)
        names = {
            "generated": "generated_tokens",
            "prompt": "prompt_tokens",
            "calls": "evaluator_calls",
        }
        rows.append(
            {
                **{k: float(ledger.total(v)) for k, v in names.items()},
                "seconds": time.perf_counter() - start,
            }
        )
    return rows, state


def _loop(
    run: RunConfig,
    pool: list[Task],
    state: State,
    scratch: Path,
    stop: _Stop,
    held: lease.Lease | None,
    tell: Tell,
) -> None:
    """Updates until the run is done or a signal came to any rank, with checkpoints."""
    team = run.build_team()
    saved = time.monotonic()
    first = state.step
    while not _finished(run, state):
        start = time.perf_counter()
        try:
            # ranks that wait for each other cannot leave a batch one by one
            ledger = update(
                run, team, pool, state, stop.at_once if state.ranks.world == 1 else nullcontext
            )
        except _Stopped:  # nothing has changed since the update before
            ledger = Ledger()
        due = state.step % EVERY == 0 or time.monotonic() - saved > SAVED
        asked, due = (votes > 0 for votes in state.ranks.total([stop.asked, due]))
        if asked or due or _finished(run, state):
            saving = time.perf_counter()
            if held:
                held.check()
            state.save(scratch)
            ledger.timed("save", saving)
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


def _finished(run: RunConfig, state: State) -> bool:
    spent = run.train.tokens is not None and state.generated >= run.train.tokens
    return state.step >= run.train.steps or spent


def update(
    run: RunConfig,
    team: Team,
    pool: list[Task],
    state: State,
    playing: Callable[[], Any] = nullcontext,
) -> Ledger:
    """One update: plays a batch of tasks, assigns credit, improves the active policies, and records
    what happened.

    `playing` makes the context in which the batch is played: until that ends, the state is as it
    was.
    """
    step = state.step
    ledger = Ledger()
    batch = _batch(run, pool, step)
    with playing(), state.whole():
        played = play(
            run.plan(),
            team,
            batch,
            state.speakers,
            temperature=run.sampling.temperature,
            max_tokens=run.sampling.max_tokens,
            rating_tokens=run.sampling.rating_tokens,
            seed=stream("rollout", run.seed, step),
            ledger=ledger,
        )
    refuse_late(state.late + ledger.late, state.evaluated + ledger.total("evaluator_calls"), step)
    if played.rejections:
        log.info(
            "ratings rejected: %s",
            ", ".join(f"{reason} ({n})" for reason, n in played.rejections.most_common()),
        )
    for engine in state.engines:
        engine.rest()
    start = time.perf_counter()
    learner = np.array([state.policy_of(int(a)) for a in played.tree.agent])
    given = assign(run, state, played, learner)
    if not np.isfinite(given.credit).all():
        bad = int(np.flatnonzero(~np.isfinite(given.credit))[0])
        raise ValueError(f"update {step}: credit {run.credit.name} is not finite for message {bad}")
    ledger.timed("credit", start)
    start = time.perf_counter()
    if state.critic:
        teach(state.critic, played, given, ledger)
    active = _active(run, team, step)
    learnt = {}
    ratios = {}
    for index in sorted({state.policy_of(a) for a in active}):
        chosen = np.flatnonzero((given.group >= 0) & (learner == index))
        learnt[index], ratios[index] = improve(
            run,
            index,
            state.live(index),
            state.optimisers[index],
            state.references[index],
            played,
            given.advantage,
            chosen,
            step,
            state.ranks,
        )
        for agent in np.unique(played.tree.agent[chosen]):
            mine = chosen[(played.tree.agent[chosen] == agent) & (given.advantage[chosen] != 0)]
            ledger.add(
                int(agent),
                "update",
                trained_tokens=sum(len(played.messages[i].completion.ids) for i in mine),
            )
    ledger.timed("update", start)
    start = time.perf_counter()
    with state.whole():
        for index in learnt:
            state.rows["canary"] += _sing(run, state, index, played, learner, ratios[index], ledger)
    ledger.timed("refresh", start)
    state.step += 1
    state.generated += ledger.total("generated_tokens")
    state.evaluated += ledger.total("evaluator_calls")
    state.late += ledger.late
    _record(run, team, state, batch, played, given, active, learnt, ledger)
    return ledger


def _sing(
    run: RunConfig,
    state: State,
    index: int,
    played: Played,
    learner: np.ndarray,
    ratios: list[float],
    ledger: Ledger,
) -> list[dict[str, Any]]:
    """Shows the engine a policy's new weights and asks whether it speaks with them; rows of the
    table `canary`.
    """
    heard = state.songs[index]
    engine = state.engines[index]
    mine = np.flatnonzero(learner == index)
    engine.refresh()
    where = f"update {state.step}, policy {index}"
    gap = canary.check(
        where, state.live(index), engine, heard, run.sampling.temperature, run.train.dtype
    )
    ledger.add(
        int(played.tree.agent[mine[0]]),
        "canary",
        prompt_tokens=sum(map(len, heard.prompts + heard.completions)),
    )
    some = [played.messages[i] for i in mine[:: max(1, len(mine) // canary.SOME)]]
    return canary.rows(
        state.step + 1, index, gap, canary.drift(some, state.tokenizers[index]), ratios
    )


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


def _record(
    run: RunConfig,
    team: Team,
    state: State,
    batch: Sequence[Task],
    played: Played,
    given: Assigned,
    active: list[int],
    learnt: dict[int, dict[str, float]],
    ledger: Ledger,
) -> None:
    """Appends this update's rows to the tables."""
    tree = played.tree
    messages = played.messages
    group = given.group
    # role_information takes every group's mean and scale out by itself
    shared = np.where(tree.factual, 2 * tree.reward - 1, 0.0)
    nothing = dict.fromkeys(("loss", "grad_norm", "clip_fraction", "entropy", "logprob_gap"), 0.0)
    for agent in range(team.agents):
        mine = np.flatnonzero((tree.agent == agent) & (group >= 0))
        answering = team.role(int(tree.turn[mine[0]]), range(len(team.turns))).answers
        state.rows["train"].append(
            {
                "step": state.step,
                "agent": agent,
                "active": agent in active,
                "reward": float(tree.reward[mine].mean()),
                "credit": float(given.credit[mine].mean()),
                "advantage_sd": float(given.advantage[mine].std()),
                "role_information": role_information(
                    given.advantage[mine],
                    shared[mine],
                    np.unique(group[mine], return_inverse=True)[1],
                ),
                "rating_valid": float(np.mean(~np.isnan(tree.rating[mine, 0]))),
                "critic_error": float(
                    np.sqrt(np.mean((given.estimate[mine] - given.target[mine]) ** 2))
                )
                if state.critic
                else 0.0,
                **(learnt[state.policy_of(agent)] if agent in active else nothing),
                "message_tokens": float(np.mean([len(messages[i].completion.ids) for i in mine])),
                "truncated": float(
                    np.mean([messages[i].completion.finish_reason == "length" for i in mine])
                ),
                "leakage": 0.0 if answering else _leakage(played, mine, batch),
                "generated_tokens": state.generated,
                "evaluator_calls": state.evaluated,
                "late": state.late,
            }
        )
    state.rows["ledger"] += [
        {"step": state.step, "agent": a, "purpose": p, **{c: numbers[c] for c in COUNTS}}
        for (a, p), numbers in ledger.counts.items()
    ]
    if state.step % EVERY == 1 or _finished(run, state):
        state.rows["credit"] += [
            {
                "step": state.step,
                "task_id": batch[tree.task[i]].task_id,
                "message": i,
                **{c: int(getattr(tree, c)[i]) for c in ("parent", "turn", "agent", "removed")},
                "reward": float(tree.reward[i]),
                "credit": float(given.credit[i]),
                "advantage": float(given.advantage[i]),
                "answer": played.answers[i],
                "text": messages[i].text,
            }
            for i in range(len(tree))
        ]


def _leakage(played: Played, messages: np.ndarray, batch: Sequence[Task]) -> float:
    """The share of these messages that hold the true answer."""
    tasks = [batch[task] for task in played.tree.task[messages]]
    items = (
        (played.messages[i].text, task.truth, task.kind, task.tolerance)
        for i, task in zip(messages, tasks, strict=True)
    )
    return float(np.mean(list(leakage.leaks_many(items))))


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


def _finish(
    run: RunConfig,
    state: State,
    out: Path,
    inputs: list[Path],
    without: list[str],
    starts: int,
    sharding: Sharding,
) -> None:
    """Writes the run's artefacts; provenance comes last: where it stands, everything stands."""
    out.mkdir(parents=True, exist_ok=True)
    state.write(out / "model")
    schema.write_manifest(out / "model")
    for name in TABLES:
        schema.write_table(out / f"{name}.parquet", schema.rows_to_table(name, state.rows[name]))
    totals = {c: sum(r[c] for r in state.rows["ledger"]) for c in COUNTS}
    trained = lineage.Trained(
        run=run.id,
        updates=state.step,
        starts=starts,
        ledger=totals,
        left_out=tuple(without),
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
    outputs = [out / name for name in ("model", *(f"{table}.parquet" for table in TABLES))]
    lineage.write_provenance(out, inputs, outputs, trained)


class _Stopped(Exception):
    """A signal came while nothing had changed yet."""


class _Stop:
    """Remembers that SIGTERM or SIGUSR1 came; inside `at_once` it raises _Stopped: long rollouts
    would outlive a cluster's patience.
    """

    def __init__(self) -> None:
        self.asked = False
        self._raise = False
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, self._ask)

    def _ask(self, number: int, frame: object) -> None:
        self.asked = True
        if self._raise:
            self._raise = False
            raise _Stopped

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """What runs inside may be dropped."""
        try:
            self._raise = True
            if self.asked:
                raise _Stopped
            yield
        finally:
            self._raise = False


Tell = Callable[..., None]  # of the state, and where there was an update its seconds


@contextmanager
def _progress(run: RunConfig, held: lease.Lease | None) -> Iterator[Tell]:
    """Tells how far the run is: a bar on a terminal, one line for each update in a log, and a word
    in the lease. Without one, nothing.
    """
    if held is None:
        yield lambda *_: None
        return
    total = run.train.tokens or run.train.steps
    with terminal(run.id, total) as bar:

        def tell(state: State, seconds: float | None = None) -> None:
            done = state.generated if run.train.tokens else state.step
            if not state.step:
                return held.tell(done, total)
            newest = state.rows["train"][-len(state.speakers) :]
            information, gap = (
                max(row[key] for row in newest) for key in ("role_information", "logprob_gap")
            )
            note = (
                f"update {state.step}  reward {newest[-1]['reward']:.3f}  {state.generated:,} "
                "tokens"
            )
            held.tell(done, total, note)
            if bar:
                bar(done, note)
            elif seconds is not None:
                log.info(
                    "%s  role information %.3g  gap %.1e  %.2f s", note, information, gap, seconds
                )

        yield tell
    # the bar has gone: this line stays, on a terminal too
    log.info("%s is trained: %s", run.id, held.status.note or "no update was asked for")


@contextmanager
def terminal(title: str, total: float) -> Iterator[Callable[[float, str], None] | None]:
    """A bar where there is a terminal to draw it on, else None."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, transient=True) as bar:
        task = bar.add_task(title, total=total, note="")
        yield lambda done, note: bar.update(task, completed=done, note=note)
