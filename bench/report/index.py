"""Write what results/ begins with: README.md, a list for git, and index.html, one page for a browser."""

import hashlib
import json
import re
from pathlib import Path
from typing import NamedTuple

from bench.analysis.archive import FILE
from bench.analysis.groups import grouped
from bench.report.document import data_address, html, template, title_of
from bench.report.markup import MADE_BY
from bench.report.notes import UNSEARCHED

BESIDE = {
    "map/map.md": "when tying pays, over all sweeps (`make map`)",
    "sharing.md": "what should be shared over what, over all sweeps that ask it",
    "claims.md": "what is said about tying, and what was measured (`make claims`)",
    "performance.md": "what training costs here, and against what else (`make perf`)",
}
"""What other commands write beside the sweeps."""
CARD = ".huggingface.yaml"
"""What makes the folder a data set for `datasets.load_dataset(folder, sweep)`: a record a line."""
CROISSANT = "croissant.json"
"""The same in the terms of Croissant, the metadata of machine learning's data sets (MLCommons, version 1.0)."""
TERMS = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "sc": "https://schema.org/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
}
GUIDES = {"How to read a table": "docs/reading-tables.md", "All about it": "README.md"}
"""Pages of the project that the index leads to, as they lie beside results/."""
RATES = {
    False: "Where learning rates were chosen, or several stand side by side",
    True: f"At one learning rate for all, {UNSEARCHED}: hints and no verdicts",
}
"""Headings of sweeps, by whether the page of a sweep says that one learning rate was given."""


class Entry(NamedTuple):
    """A sweep as its summary.md begins: the question that it answers, and the answer; `one_rate`: a key of RATES."""

    name: str
    question: str
    answer: str
    is_shipped: bool
    one_rate: bool

    @property
    def link(self) -> str:
        return f"{self.name}/index.html"


class Beside(NamedTuple):
    """How a page that is no sweep's begins: the lines of its first list, and its first picture, as an address."""

    lines: list[str]
    picture: str
    alt: str


def pages(results: Path, failure: str = "") -> dict[Path, bytes]:
    """Return path -> content of README.md, index.html, and the pages beside the sweeps as html.

    README.md names the sweeps that git holds (`shipped`), index.html all that are there.

    Args:
        failure: why the map's pictures could not be drawn.
    """
    names = shipped(results)
    sweeps = sorted(
        (entry(path, names) for path in results.glob("*/summary.md")), key=lambda s: (s.one_rate, s.name)
    )
    present = [name for name in BESIDE if (results / name).exists()]
    text = template("index.html.j2").render(
        title="The tying bench: questions and answers",
        sweeps=sweeps,
        beside={name: _beside(results / name) for name in present},
        failure=failure,
        guides=[(name, f"../{file}") for name, file in GUIDES.items() if (results.parent / file).exists()],
        records=FILE,
    )
    card = "".join(
        f"- {{config_name: {s.name}, data_files: {s.name}/{FILE}}}\n" for s in sweeps if s.is_shipped
    )
    documents = {
        page.with_suffix(".html"): html(title_of(page), page.read_text(), _pictures(page))
        for page in (results / name for name in present)
    }
    files = documents | {results / "README.md": readme(sweeps, present), results / "index.html": text}
    files[results / CARD] = f"# {MADE_BY}\npretty_name: The tying bench\nconfigs:\n{card}"
    files[results / CROISSANT] = croissant([results / s.name / FILE for s in sweeps if s.is_shipped])
    return {path: content.encode() for path, content in files.items()}


def croissant(archives: list[Path]) -> str:
    """Return the metadata of the records: each sweep's file, with its hash."""
    files = [
        {
            "@type": "cr:FileObject",
            "@id": f"{path.parent.name}/{path.name}",
            "name": f"{path.parent.name}/{path.name}",
            "contentUrl": f"{path.parent.name}/{path.name}",
            "encodingFormat": "application/gzip",
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in archives
        if path.exists()
    ]
    about = {
        "@context": TERMS,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": "tying-bench",
        "description": "Runs of networks with and without tied weights: a file a sweep, a JSON record a line.",
        "distribution": files,
    }
    return json.dumps(about, indent=1) + "\n"


def readme(sweeps: list[Entry], beside: list[str]) -> str:
    """Return the list of what is over all sweeps and of the shipped ones, as markdown."""
    blocks = ["".join(f"- [{Path(file).stem}]({file}): {BESIDE[file]}\n" for file in beside)]
    for one_rate, group in grouped((s for s in sweeps if s.is_shipped), lambda s: s.one_rate).items():
        lines = [f"## {RATES[one_rate]}\n\n"]
        for sweep in group:
            suffix = f" ({sweep.name})" * (sweep.question != sweep.name)
            answer = f": {sweep.answer}" * bool(sweep.answer)
            lines.append(f"- [{sweep.question}]({sweep.name}/summary.md){suffix}{answer}\n")
        blocks.append("".join(lines))
    return f"<!-- {MADE_BY} -->\n# Results\n\n" + "\n".join(filter(None, blocks))


def entry(summary: Path, names: set[str] | None) -> Entry:
    """Return the question and the answer that a summary begins with; no answer where it has none."""
    text = summary.read_text()
    _, heading, _, answer, *_ = [*text.split("\n"), "", "", ""]
    name = summary.parent.name
    answer = "" if answer.startswith(("#", "|", "-")) else answer
    is_shipped = names is None or name in names
    return Entry(name, heading.removeprefix("# "), answer, is_shipped, UNSEARCHED in text)


def shipped(results: Path) -> set[str] | None:
    """Return the sweeps that results/.gitignore lets into git; None where there is no such file: all that are there.

    A sweep of one's own is in no list that git holds, so that it changes no file of the project.
    """
    rules = results / ".gitignore"
    return set(re.findall(r"^!/(\w+)/$", rules.read_text(), re.M)) if rules.exists() else None


def _beside(path: Path) -> Beside:
    """Read the first list of a page, and its first picture."""
    lines = re.search(r"(?:^- .+\n)+", path.read_text(), re.M)
    pictures = list(_pictures(path).items())
    alt, content = pictures[0] if pictures else ("", b"")
    return Beside(
        [line.removeprefix("- ") for line in lines[0].splitlines()] if lines else [],
        data_address(content) if content else "",
        alt.removesuffix(".png"),
    )


def _pictures(page: Path) -> dict[str, bytes]:
    """Return name of a picture in a page -> its content, in their order, of those that are there."""
    names = re.findall(r"!\[[^\]]*\]\(([^)]+\.png)\)", page.read_text())
    return {name: (page.parent / name).read_bytes() for name in names if (page.parent / name).exists()}
