"""The workspace for W&B: it is made without a server, of figures that runs have."""

import pytest


def test_the_workspace_has_the_four_sections() -> None:
    pytest.importorskip("wandb_workspaces")
    from bench.report.workspace import workspace

    made = workspace("me")
    assert [section.name for section in made.sections] == ["Quality", "Curves", "Memory", "Latency"]
    assert all(section.panels for section in made.sections)
