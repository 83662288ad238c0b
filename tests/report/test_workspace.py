"""The workspace for W&B: it is made without a server, of figures that runs have."""

import pytest


def test_the_workspace_has_the_four_sections() -> None:
    pytest.importorskip("wandb_workspaces")
    from bench.report.workspace import workspace

    made = workspace("me")
    assert [section.name for section in made.sections] == ["Quality", "Curves", "Memory", "Latency"]
    assert all(section.panels for section in made.sections)


def test_curves_are_drawn_over_the_steps_that_are_logged() -> None:
    from bench.report import workspace
    from bench.runs import loggers

    assert workspace.STEP == loggers.STEP
