"""`python -m bench.mirror`: the tables and pictures of results/ as a W&B run per sweep. Nothing reads it back."""

import sys
from collections.abc import Sequence
from pathlib import Path

from bench.runs import machine
from bench.runs.command_line import add_places, add_sweep, framed, parser
from bench.runs.loggers import OfflineWandbLogger
from bench.tying.errors import BadInput

PROJECT = "tying-bench"
EXAMPLES = """examples:
  python -m bench.mirror --sweep quick                      offline, as all of W&B here: `make sync` uploads it
  WANDB_MODE=online python -m bench.mirror --sweep quick    straight to the server
"""


def mirror(folder: Path, runs: Path, timeout_s: float = 20.0) -> None:
    """Write one W&B run `tables-<sweep>`: each csv as a table, each png as a picture, index.html as it is.

    Made again it goes on under the same id. It lies with the sweeps' manifests, where `make sync` looks.
    BadInput where the folder has no tables.
    """
    import wandb
    from pandas import read_csv

    tables = sorted(folder.glob("*.csv"))
    if not tables:
        raise BadInput(
            f"no tables in {folder}: run {machine.command('make sweep', 'tying-bench -m sweep=quick')} or "
            f"{machine.command('make tables', 'python -m bench.tables')} first, or name another --sweep"
        )
    home = runs / "sweeps"
    home.mkdir(parents=True, exist_ok=True)
    name = f"tables-{folder.name}"
    run = OfflineWandbLogger(
        timeout_s, project=PROJECT, id=name, name=name, group=folder.name, job_type="tables", dir=str(home)
    )
    # A column of numbers with words for its holes has no one type for W&B: let it have several.
    frames = {path.stem: wandb.Table(dataframe=read_csv(path), allow_mixed_types=True) for path in tables}
    run.log_metrics(frames)
    pictures = sorted(folder.glob("*.png"))
    run.log_metrics({f"plots/{path.stem}": wandb.Image(str(path)) for path in pictures})
    page = folder / "index.html"
    if page.exists():
        run.log_metrics({"page": wandb.Html(page.read_text(), inject=False)})
    run.close({"tables": len(tables)})
    print(f"{folder.name}: {len(tables)} tables are in the W&B run {name}, in {home}/wandb/")


@framed
def main(arguments: Sequence[str] | None = None) -> None:
    """Mirror the sweeps that the command line asks for."""
    options = parser(
        "bench.mirror", "Mirror the tables, pictures and page of results/ to W&B, a run per sweep.", EXAMPLES
    )
    add_places(options, runs="of the records", results="of the tables")
    add_sweep(options, "only this sweep; may be given again")
    chosen = options.parse_args(arguments)
    results = Path(chosen.results)
    names = chosen.sweep or sorted(path.parent.name for path in results.glob("*/summary.md"))
    if not names:
        sweep = machine.command("make sweep", "tying-bench -m sweep=quick")
        raise BadInput(f"no tables in {results}: run {sweep} first, or name another --results")
    for name in names:
        mirror(results / name, Path(chosen.runs))


if __name__ == "__main__":
    sys.exit(main())
