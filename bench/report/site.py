"""`python -m bench.site`: gather results/index.html and all that it leads to in a folder for any web server."""

import os
import shutil
import sys
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bench.report.document import html, title_of
from bench.runs import machine
from bench.runs.command_line import add_places, framed, parser
from bench.runs.store import write_bytes_atomic
from bench.tying.errors import BadInput

EXAMPLES = """examples:
  python -m bench.site                             from results/, to site/
  python -m http.server --directory site           then http://localhost:8000 shows it
"""
FIRST = (
    '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>tying bench</title>\n'
    '<meta http-equiv="refresh" content="0; url={0}">\n<a href="{0}">tying bench</a>\n</html>\n'
)


class _Links(HTMLParser):
    """The addresses that a page leads to or shows, in their order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value for name, value in attrs if name in ("href", "src") and value]


def gather(start: Path, folder: Path) -> list[Path]:
    """Copy a page, and all that its links lead to, step by step, into `folder`, as they lie in the project.

    A page of markdown becomes one of html, and links to it follow; where an html page of its name is beside it, that
    one is taken. index.html of the folder leads to `start`.

    Args:
        start: such as results/index.html. Links may leave its folder by one step, as to docs/.

    Returns:
        What was written.

    Raises:
        BadInput: for a link to what is not there, and one that leaves the project.
    """
    root = start.resolve().parents[1]
    left, known = [start.resolve()], {start.resolve()}
    written = [folder / "index.html"]
    write_bytes_atomic(written[0], FIRST.format(left[0].relative_to(root).as_posix()).encode())
    while left:
        path = left.pop()
        copy = folder / path.relative_to(root)
        if path.suffix not in (".html", ".md"):
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
            written.append(copy)
            continue
        text = path.read_text()
        if path.suffix == ".md":
            copy = copy.with_suffix(".html")
            text = html(title_of(path), text)
        targets = _targets(path, text, root)
        for address, target in targets.items():
            if target not in known:
                known.add(target)
                left.append(target)
            if target.suffix == ".md" or address.partition("#")[0].endswith(".md"):
                new = Path(os.path.relpath(target.with_suffix(".html"), path.parent)).as_posix()
                _, mark, anchor = address.partition("#")
                text = text.replace(f'"{address}"', f'"{new}{mark}{anchor}"')
        write_bytes_atomic(copy, text.encode())
        written.append(copy)
    return written


def _targets(page: Path, text: str, root: Path) -> dict[str, Path]:
    """Return address -> the file that it means, without anchors of the same page and addresses of the web."""
    targets = {}
    for address in _Links(text).addresses:
        parts = urlsplit(address)
        if parts.scheme or parts.netloc or not parts.path:
            continue
        target = (page.parent / unquote(parts.path)).resolve()
        if target.suffix == ".md" and target.with_suffix(".html").exists():
            target = target.with_suffix(".html")
        if not target.is_file() or not target.is_relative_to(root):
            tables = machine.command("make tables", "python -m bench.tables")
            raise BadInput(f"{page} leads to {address}, which is not there: {tables} makes all pages first")
        targets[address] = target
    return targets


@framed
def main(arguments: Sequence[str] | None = None) -> None:
    """Gather the site that the command line asks for."""
    options = parser(
        "bench.site", "Gather the pages of results/ as a site that any web server shows.", EXAMPLES
    )
    add_places(options, results="of the pages")
    options.add_argument("--out", default="site", help="folder to write to (default: %(default)s)")
    chosen = options.parse_args(arguments)
    start = Path(chosen.results) / "index.html"
    if not start.exists():
        tables = machine.command("make tables", "python -m bench.tables")
        raise BadInput(f"no index.html in {chosen.results}: run {tables} first, or name another --results")
    written = gather(start, Path(chosen.out))
    size = sum(path.stat().st_size for path in written)
    print(f"{len(written)} files, {size / 1e6:.1f} MB: {chosen.out}/index.html")


if __name__ == "__main__":
    sys.exit(main())
