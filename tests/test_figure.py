"""Every figure keeps the contract: what is in the folder is what the workflow draws and the page
captions.
"""

from __future__ import annotations

import pytest
from conftest import conforming

from ccpo.publish import figure
from ccpo.publish.figure import Contents


@pytest.mark.parametrize("name", figure.names())
def test_every_figure_keeps_the_contract(name: str) -> None:
    """Each complaint says what is missing and how to write it; ccpo/publish/figure/__init__.py is
    the contract.
    """
    module = conforming(figure, name)
    where = f"ccpo/publish/figure/{name}.py"
    assert len(module.CAPTION.split()) >= 4, (
        f"{where} has no CAPTION. Remedy: a sentence that says what is drawn"
    )
    rich = Contents(
        module.KIND,
        trained=True,
        decodings=5,
        interventions=frozenset({"solo.1", "untrained"}),
        compared=True,
        samples=8,
        probed=True,
        crossed=True,
    )
    assert module.applies(rich), (
        f"{where}: applies() is False for an experiment that has everything. Remedy: True where "
        "it can draw"
    )
    assert name in figure.of_contents(rich)


def test_an_experiment_gets_the_figures_it_has_something_for() -> None:
    read = figure.of_contents(Contents("training", trained=False))
    assert read == ["accuracy"]
    taught = figure.of_contents(
        Contents("training", trained=True, decodings=3, interventions=frozenset({"untrained"}))
    )
    assert "temperatures" in taught
    assert not {"solo", "panel"} & set(taught)
    assert not set(figure.of_contents(Contents("oracle"))) & set(taught)
    assert taught[:2] == ["learning_curves", "accuracy"]  # as ORDER says
