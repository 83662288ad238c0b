"""Pictures of sections as png and svg: a module per picture. Importing this package loads nothing heavy."""

import os
from importlib import import_module

from bench.analysis.groups import Section

# Pictures are drawn to files. What a notebook sets for all its children names a module that may not be there, and
# matplotlib then refuses to be imported.
os.environ["MPLBACKEND"] = "agg"

PICTURES = {
    "pareto": "bench.report.plots.pareto:pareto",
    "forest": "bench.report.plots.forest:forest",
    "curves": "bench.report.plots.curves:curves",
    "dropout_x_weight_decay": "bench.report.plots.heat:heat_maps",
    "similarity": "bench.report.plots.similarity:similarity",
    "interactions": "bench.report.plots.interactions:interactions",
    "doses": "bench.report.plots.scaling:doses",
    "pairs": "bench.report.plots.block_pairs:pairs",
}
"""Name in a file's name -> where its function is (list of sections -> Figure, None: nothing to draw), in page order."""


def pictures(sections: list[Section]) -> dict[str, dict[str, bytes]]:
    """Name -> {".png": bytes, ".svg": bytes}, without those that have nothing to draw. The same bytes every time."""
    # Matplotlib takes a third of a second to import: the controller and --help do without it.
    from bench.report.plots.style import draw

    files_of = {}
    for name, place in PICTURES.items():
        module, function = place.split(":")
        if files := draw(getattr(import_module(module), function), sections):
            files_of[name] = files
    return files_of
