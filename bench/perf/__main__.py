"""How fast training is here, against its floor and against what one would use instead. `make perf`.

Every part but `sweeps`, which prints, goes into results/performance.md; parts that are not asked for keep the figures
that are there.
"""

import logging
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.perf import sweeps
from bench.perf.page import PICTURE, SECTIONS, growth_picture, page
from bench.runs import machine
from bench.runs.command_line import framed, parser
from bench.runs.store import read_json, write_bytes_atomic, write_json
from bench.tying.errors import BadInput

FIGURES = "figures.json"


@framed
def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the parts that the command line asks for."""
    options = parser("bench.perf", __doc__)
    options.add_argument(
        "--only",
        nargs="+",
        choices=("sweeps", *SECTIONS),
        metavar="PART",
        help=f"of sweeps, {', '.join(SECTIONS)}",
    )
    options.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="where the page goes (default: results; with --quick a temporary folder)",
    )
    options.add_argument("--quick", action="store_true", help="tiny networks, two turns: to see that it runs")
    chosen = options.parse_args(arguments)
    if chosen.only and "gpu" in chosen.only and not machine.gpus():
        raise BadInput("--only gpu: there is no GPU here; without --only its rows are left as holes")
    parts = chosen.only or ["sweeps", *SECTIONS]
    if "sweeps" in parts:
        with tempfile.TemporaryDirectory() as scratch:
            sweeps.report(Path(scratch))
    if set(parts) != {"sweeps"}:
        results = machine.moved_places().get("results", "results")
        out = chosen.out or Path(tempfile.mkdtemp() if chosen.quick else results)
        _measure([part for part in SECTIONS if part in parts], out, chosen.quick)


def _measure(parts: list[str], out: Path, quick: bool) -> None:
    # Not before the sweeps: the memory of a command counts what its parent had when it was started.
    import torch

    from bench.perf.parts import measure
    from bench.perf.timing import FULL, QUICK
    from bench.report.markup import plain
    from bench.report.plots.style import draw

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    folder = out / "performance"
    folder.mkdir(parents=True, exist_ok=True)
    kept = read_json(folder / FIGURES) if (folder / FIGURES).exists() else {}
    for part in parts:
        if part == "gpu" and part in kept and not machine.gpus():
            continue  # what was measured where there is one stays
        with machine.alone():
            kept[part] = measure(part, QUICK if quick else FULL)
        figures = {name: kept[name] for name in SECTIONS if name in kept}
        write_json(folder / FIGURES, figures)
        print(f"{SECTIONS[part][0]}\n\n{plain(SECTIONS[part][2](figures[part]))}", flush=True)
        if part == "growth":
            for kind, content in draw(growth_picture, figures[part]["rows"]).items():
                write_bytes_atomic(folder / f"{PICTURE}{kind}", content)
        write_bytes_atomic(out / "performance.md", page(figures, folder.name).encode())
    print((out / "performance.md").resolve())


if __name__ == "__main__":
    sys.exit(main())
