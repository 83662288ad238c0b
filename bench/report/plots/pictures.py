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


def pictures(sections: list[Section], failures: dict[str, str] | None = None) -> dict[str, dict[str, bytes]]:
    """Draw every picture of the sections; the same bytes every time.

    Args:
        failures: takes name -> why, for each picture that cannot be drawn; None lets its error through.

    Returns:
        Name -> {".png": bytes, ".svg": bytes}, without those that have nothing to draw.
    """
    # Matplotlib takes a third of a second to import: the controller and --help do without it.
    from bench.report.plots.style import draw

    drawn = {}
    for name, place in PICTURES.items():
        module, function = place.split(":")
        try:
            files = draw(getattr(import_module(module), function), sections)
        except Exception as error:  # whatever went wrong, the tables and the other pictures are sound
            if failures is None:
                raise
            failures[name] = " ".join(f"{type(error).__name__}: {error}".split())
            continue
        if files:
            drawn[name] = files
    return drawn
