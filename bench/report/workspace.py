"""Lay out the W&B project of the runs: Quality, Curves, Memory, Latency. Needs the extra `workspace`."""

from typing import TYPE_CHECKING

from bench.runs.store import STEP

if TYPE_CHECKING:
    from wandb_workspaces.workspaces import Workspace

BARS = {
    "Quality": ("best/val/nll", "test/nll", "test/accuracy", "test/perplexity", "gap", "num_params"),
    "Memory": ("cost/memory/train_step/total_mib", "cost/memory/inference/total_mib", "peak_rss_mib"),
    "Latency": ("cost/latency/one/tied/median_s", "cost/latency/batch/tied/median_s"),
}
"""Figures of a run's summary, a bar for each kind of tying."""
LINES = ("train/loss", "train/nll", "val/nll", "train/lr", "spread/depth")


def workspace(entity: str, project: str = "tying-bench") -> "Workspace":
    """Return the workspace, grouped by tying. Its `save()` puts it on the server, where the runs are uploaded."""
    from wandb_workspaces.reports.v2 import BarPlot, LinePlot
    from wandb_workspaces.workspaces import Section, Workspace

    sections = {
        name: [BarPlot(title=figure, metrics=[figure], groupby="tying") for figure in figures]
        for name, figures in BARS.items()
    }
    curves = [LinePlot(title=figure, x=STEP, y=[figure]) for figure in LINES]
    names = ("Quality", "Curves", "Memory", "Latency")
    return Workspace(
        entity=entity,
        project=project,
        name="Tying",
        sections=[Section(name=name, panels=sections.get(name, curves), is_open=True) for name in names],
    )
