"""What an experiment's probes say over its seeds, in stats.json, on the page and in the figure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import run_data
from scipy import stats

from ccpo.config import Experiment, Probe, RunConfig
from ccpo.evaluate.probing import over_seeds
from ccpo.manifest import TrainingManifest
from ccpo.publish import probes as section
from ccpo.publish.figure import mechanism
from ccpo.publish.probe_statistics import (
    Bin,
    Influence,
    LeftOut,
    MethodProbe,
    PublishedProbe,
    RunProbe,
    TurnProbe,
)
from ccpo.publish.statistics import TrainingStatistics

SEEDS = (0, 1, 2, 3)


def planned(**over: object) -> TrainingManifest:
    runs = {seed: RunConfig.model_validate(run_data(seed=seed)) for seed in SEEDS}
    experiment = Experiment.model_validate(
        {
            "name": "asked",
            "question": "What is credit worth?",
            "primary_metric": "accuracy",
            "runs": {"taught": runs},
            "protocols": ({"name": "test"},),
            "probes": Probe(at=(0.0, 1.0)),
            **over,
        }
    )
    return experiment.manifest()


def turn(seed: int, fidelity: float | None) -> TurnProbe:
    method = MethodProbe(
        method="shared",
        calls=4,
        correlation=0.3,
        fidelity=fidelity,
        floor=None if fidelity is None else 0.2,
        p=0.01,
        variance=2.0,
        slope=0.5,
        bins=(Bin(n=10, credit=-1.0, target=-0.2), Bin(n=30, credit=1.0, target=0.1 * seed)),
    )
    influence = Influence(
        value=0.1 * seed, error=0.02, plug_in=0.3, null=0.2, floor=0.05, p=0.01, entropy=0.9
    )
    published = (PublishedProbe(definition="fidelity, all_candidates", method="c3", value=1.0),)
    left_out = (LeftOut(method="mappo", reason="it needs a critic, and none is kept"),)
    return TurnProbe(
        turn=0,
        agent=0,
        contexts=32,
        candidates=8,
        replays=8,
        reward=0.6,
        mixed=0.75,
        late=0,
        reliability=0.5,
        signal=0.05,
        influence=influence,
        methods=(method,),
        published=published,
        left_out=left_out,
    )


def written(folder: Path, manifest: TrainingManifest, values: dict[int, float | None]) -> None:
    assert manifest.probe is not None
    (condition,) = manifest.conditions
    for seed, value in values.items():
        run = condition.runs[seed]
        name = f"{manifest.probe.stem(1.0)}.diagnostics.json"
        path = folder / run / "probe" / name
        path.parent.mkdir(parents=True)
        RunProbe(run=run, turns=(turn(seed, value),)).write(path)


def test_intervals_are_over_seeds_and_what_cannot_tell_is_counted(tmp_path: Path) -> None:
    manifest = planned()
    written(tmp_path, manifest, {0: 0.4, 1: 0.6, 2: None})
    out = over_seeds.of_experiment(manifest, tmp_path)
    assert out is not None
    (fidelity,) = out.of("fidelity")
    assert fidelity.by_seed == {0: 0.4, 1: 0.6}
    assert (fidelity.n, fidelity.mean) == (2, pytest.approx(0.5))
    half = stats.t.ppf(0.975, 1) * np.std([0.4, 0.6], ddof=1) / np.sqrt(2)
    assert fidelity.ci_high == pytest.approx(0.5 + half)
    (influence,) = out.of("influence")
    assert influence.by_seed == pytest.approx({0: 0.0, 1: 0.1, 2: 0.2})
    assert out.missing == ("taught at 0%: seeds 0, 1, 2, 3", "taught at 100%: seeds 3")
    assert [row.method for row in out.left_out] == ["mappo"]
    (calibration,) = out.calibration
    assert sum(each.n for each in calibration.bins) == 3 * 40
    total = sum(each.n * each.target for each in calibration.bins)
    assert total == pytest.approx(3 * 10 * -0.2 + 30 * (0.0 + 0.1 + 0.2))
    assert len(over_seeds.files(manifest, tmp_path)) == 3


def test_an_untrained_condition_is_probed_at_its_start_alone() -> None:
    run = RunConfig.model_validate(run_data(credit="none", train={"steps": 0}))
    manifest = planned(runs={"taught": {0: run}})
    assert manifest.probe is not None
    assert over_seeds.shares(manifest.probe, manifest.conditions[0]) == (0.0,)
    assert over_seeds.of_experiment(planned(probes=None), Path("nowhere")) is None


def test_page_and_figure_show_ours_beside_the_published(tmp_path: Path) -> None:
    manifest = planned()
    written(tmp_path, manifest, dict.fromkeys(SEEDS, 0.5))
    out = over_seeds.of_experiment(manifest, tmp_path)
    assert out is not None
    page = section.part(out)
    assert "0.500" in page
    assert "mappo in taught: it needs a critic" in page
    assert "told from shuffled messages in 4 of 4 seeds" in page
    frame = mechanism.collect(TrainingStatistics.model_construct(probes=out))
    kinds = {(panel, kind) for panel, kind in zip(frame.panel, frame.kind, strict=True)}
    assert {kind for panel, kind in kinds if panel.startswith("fidelity")} == {
        *("ours", "published", "floor")
    }
    assert set(frame.condition) == {"taught"}
