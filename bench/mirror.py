"""`python -m bench.mirror`: the tables and pictures of results/ as a W&B run per sweep. Nothing reads it back."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.errors import BadInput
from bench.tracking import Mirror

PROJECT = "tying-bench"
EXAMPLES = """examples:
  python -m bench.mirror --sweep quick                      offline, as all of W&B here: `make sync` uploads it
  WANDB_MODE=online python -m bench.mirror --sweep quick    straight to the server
"""


def mirror(folder: Path, runs: Path, timeout_s: float = 20.0) -> None:
    """One W&B run `tables-<sweep>`: each csv as a table, each png as a picture, index.html as it is.

    Made again it goes on under the same id. It lies with the sweeps' manifests, where `make sync` looks.
    BadInput where the folder has no tables.
    """
    tables = sorted(folder.glob("*.csv"))
    if not tables:
        raise BadInput(
            f"no tables in {folder}: run `make sweep` or `make tables` first, or name another --sweep"
        )
    home = runs / "sweeps"
    home.mkdir(parents=True, exist_ok=True)
    name = f"tables-{folder.name}"
    run = Mirror(
        timeout_s, project=PROJECT, id=name, name=name, group=folder.name, job_type="tables", dir=str(home)
    )
    run.log_metrics({path.stem: _table(path) for path in tables})
    run.log_metrics({f"plots/{path.stem}": _picture(path) for path in sorted(folder.glob("*.png"))})
    page = folder / "index.html"
    if page.exists():
        run.log_metrics({"page": _page(page)})
    run.close({"tables": len(tables)})
    print(f"{folder.name}: {len(tables)} tables are in the W&B run {name}, in {home}/wandb/")


def _table(path: Path) -> Any:
    import wandb
    from pandas import read_csv

    # A column of numbers with words for its holes has no one type for W&B: let it have several.
    return wandb.Table(dataframe=read_csv(path), allow_mixed_types=True)


def _picture(path: Path) -> Any:
    import wandb

    return wandb.Image(str(path))


def _page(path: Path) -> Any:
    import wandb

    return wandb.Html(path.read_text(), inject=False)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        "python -m bench.mirror",
        description="Mirror the tables, pictures and page of results/ to W&B, a run per sweep.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--sweep", action="append", metavar="NAME", help="only this sweep; may be given again"
    )
    parser.add_argument("--runs", default="runs", help="folder of the records (default: %(default)s)")
    parser.add_argument("--results", default="results", help="folder of the tables (default: %(default)s)")
    chosen = parser.parse_args(arguments)
    results = Path(chosen.results)
    names = chosen.sweep or sorted(path.parent.name for path in results.glob("*/summary.md"))
    try:
        if not names:
            raise BadInput(f"no tables in {results}: run `make sweep` first, or name another --results")
        for name in names:
            mirror(results / name, Path(chosen.runs))
    except BadInput as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
