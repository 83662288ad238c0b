"""Turn records into results/: tables (md, csv, tex), plots, pages, an index, and the records themselves. No torch."""

import contextlib
import gc
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from textwrap import fill

from bench.analysis import archive, points
from bench.report import html, index, sharing
from bench.report.comparison import in_blocks
from bench.report.markup import WIDTH, plain
from bench.report.notes import floors
from bench.report.pages import MARK, SUMMARY, TEX_MARK, SweepReport, TaskReport, recorded_report, texts
from bench.report.plots.pictures import PICTURES, pictures
from bench.runs import sources
from bench.runs.command_line import add_places, add_sweep, framed, parser
from bench.runs.store import manifest_path, write_bytes_atomic
from bench.tying.errors import BadInput

TEXTS = (".csv", ".tex", "_effects.csv", "_curves.csv", "_pairs.csv")
SUFFIXES = (".png", ".svg")
COLLECT = (50_000, 50, 100)
"""Python's default looks for cycles so often that it takes a seventh of the time of 10,000 records."""

EXAMPLES = """examples:
  python -m bench.tables                          every sweep in runs/sweeps or results/, to results/
  python -m bench.tables --sweep quick            one sweep
  python -m bench.tables --state-untraced         first write into each records.jsonl.gz which code git no longer has
  python -m bench.tables --runs old/runs --results old/results --sweep quick --sweep main
"""


def build(
    runs: Path | str,
    results: Path | str,
    names: Sequence[str] | None = None,
    out: Callable[[str], object] = print,
) -> list[Path]:
    """Write results/<name>/ for each named sweep (None: every one) and say the headline through `out`.

    A sweep is read as `archive.load` says: from `runs`, and what is not there from results/<name>/records.jsonl.gz.
    The same records give the same bytes.

    Beside them it writes what results/ begins with, the page over all sweeps of what is shared over what where it made
    one of them, and with every sweep the pictures of the map.

    Returns:
        The folders.

    Raises:
        BadInput: for an unknown sweep, a torn manifest or archive, a record of a newer schema and a folder that cannot
            be written.
    """
    runs, results = Path(runs), Path(results)
    folders = [_build_sweep(runs, results, name, out) for name in archive.chosen_names(names, runs, results)]
    if (names is None or any(map(sharing.asks, names))) and (ties := sharing.ties_of(results)):
        _write(results / sharing.PAGE, sharing.page(ties).encode())
    failure = _draw_map(results / points.FOLDER, out) if names is None else ""
    for path, content in index.pages(results, failure).items():
        _write(path, content)
    return folders


def _draw_map(folder: Path, out: Callable[[str], object]) -> str:
    """Draw the pictures of the map where its page is there; return why that failed, empty where it did not."""
    if not (folder / "map.md").exists() or not (folder / points.FILE).exists():
        return ""
    from bench.report.map import pictures as map_pictures  # scipy's optimizers, which no sweep needs

    try:
        drawn = map_pictures(folder)
    except Exception as error:  # whatever went wrong, the tables are sound
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        out(f"no picture of the map: {reason}. The tables do not need it; please report this")
        return reason
    for name, content in drawn.items():
        _write(folder / name, content)
    return ""


def _build_sweep(runs: Path, results: Path, name: str, out: Callable[[str], object]) -> Path:
    sweep, folder = archive.load(runs, results, name), results / name
    report = recorded_report(sweep, results)
    files = {file: text.encode() for file, text in texts(report).items()}
    failures: dict[str, str] = {}
    for task in report.tasks:
        files |= _pictures(task, failures)
    files["index.html"] = html.page(report, files, failures)
    if manifest_path(runs, name).exists():
        files[archive.FILE] = archive.content(sweep)
    stale = _made_before(folder) - files.keys()
    for file in sorted(files):
        _write(folder / file, files[file])
    for file in sorted(stale):
        (folder / file).unlink(missing_ok=True)
    _say(report, folder, out)
    for picture, reason in failures.items():
        out(
            f"no picture {picture}: {reason}. The tables do not need it; please report this with {archive.FILE}"
        )
    if sweep.left_out:
        out(
            f"{len(sweep.left_out)} runs of the {archive.FILE} that was in {folder} are not among those the sweep in "
            f"{runs} asks for, and are in its tables no longer: keep a copy from git if you need them"
        )
    return folder


def state_untraced(results: Path, names: Sequence[str] | None = None) -> None:
    """Write into each records.jsonl.gz which sources of its records this checkout's history does not hold.

    BadInput where the history is not whole: of an installed package, and of a shallow clone.
    """
    history = sources.history()
    if history is None:
        raise BadInput("the history of the suite is not here: use a clone that is not shallow")
    for name in names or archive.archived_names(results):
        path = archive.path_of(results, name)
        _write(path, archive.content(archive.stated(archive.read(path), history)))


def _pictures(task: TaskReport, failures: dict[str, str]) -> dict[str, bytes]:
    """Return file name -> content; add `<stem>_<picture>` -> why to `failures` for each that cannot be drawn."""
    if not task.is_drawn:
        return {}
    reasons: dict[str, str] = {}
    drawn = pictures(task.sections, reasons)
    failures |= {f"{task.stem}_{name}": reason for name, reason in reasons.items()}
    return {
        f"{task.stem}_{name}{suffix}": data for name, files in drawn.items() for suffix, data in files.items()
    }


def _say(report: SweepReport, folder: Path, out: Callable[[str], object]) -> None:
    """Say the headline table in plain text, and where the rest is."""
    out(
        f"{report.name}: test metric where validation is best (versus none, paired by seed); * is best of a column\n"
    )
    for table in in_blocks(report.sections):
        out(plain(table))
    for section in report.sections:
        if text := floors(section):
            out(fill(f"floors, {section.title}: {text}", WIDTH, subsequent_indent="  "))
    counts = html.counted([run for section in report.sections for run in section.runs])
    out(f"{counts}; tables, plots and records: {folder}/")


def _made_before(folder: Path) -> set[str]:
    """Return the names of files an earlier build may have left: those that carry our mark and what lies beside them."""
    pages = {path.name for path in folder.glob("*.md") if path.read_bytes().startswith(MARK.encode())}
    stems = [path.stem for path in folder.glob("*.tex") if path.read_bytes().startswith(TEX_MARK.encode())]
    texts = {f"{stem}{end}" for stem in stems for end in TEXTS}
    beside = {"across.csv", "index.html", "records.csv"} if SUMMARY in pages else set()
    drawn = {f"{stem}_{kind}{suffix}" for stem in stems for kind in PICTURES for suffix in SUFFIXES}
    return pages | texts | beside | drawn


def _write(path: Path, content: bytes) -> None:
    """Write a file, unless it has this content already."""
    with contextlib.suppress(OSError):
        if path.read_bytes() == content:
            return
    write_bytes_atomic(path, content)


@framed
def main(arguments: Sequence[str] | None = None) -> None:
    """Write the tables and plots that the command line asks for."""
    options = parser(
        "bench.tables",
        "Make the tables and plots of recorded sweeps. The same records give the same bytes.",
        EXAMPLES,
    )
    add_places(options, runs="of the records", results="to write to")
    add_sweep(options, "only this sweep; may be given again")
    options.add_argument(
        "--state-untraced",
        action="store_true",
        help="state first, in the records, which of them are of code that the git history does not hold",
    )
    chosen = options.parse_args(arguments)
    gc.set_threshold(*COLLECT)
    if chosen.state_untraced:
        state_untraced(Path(chosen.results), chosen.sweep)
    build(chosen.runs, chosen.results, chosen.sweep)


if __name__ == "__main__":
    sys.exit(main())
