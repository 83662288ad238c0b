"""results/index.html and the site made of it: what it begins with, and that each of its links leads somewhere."""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
import record_maker as made

from bench.report import index
from bench.report.document import anchor
from bench.report.site import gather, main
from bench.report.tables import build
from bench.tying.errors import BadInput

HOSTILE = "</script><img src=x onerror=alert(1)>"


class Page(HTMLParser):
    """The ids of a page, and the addresses that it leads to or shows."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.feed(path.read_text())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            elif name in ("href", "src"):
                self.addresses.append(value or "")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A project of two sweeps, a map, claims and a guide; git holds one of the sweeps."""
    folder = tmp_path / "project" / "results"
    (folder / "map").mkdir(parents=True)
    (folder / ".gitignore").write_text("/*/\n!/quick/\n!/map/\n")
    (folder / "map" / "map.md").write_text(
        "# When?\n\n- **embedding** pays at `k`\n- more\n\n![it](embedding.png)\n"
    )
    (folder / "map" / "embedding.png").write_bytes(b"\x89PNG")
    (folder / "claims.md").write_text(
        "# Claims\n\n- supported: C1 (1)\n\n| [C1](#c1) |\n| --- |\n\n## C1\n\n- part\n"
    )
    (folder.parent / "docs").mkdir()
    (folder.parent / "docs" / "reading-tables.md").write_text(
        "# How\n\n## At once: what?\n\n[here](#at-once-what) [there](../results/quick/summary.md) "
        "[c](../results/claims.md#c1)\n"
    )
    lines, records = made.pair(100.0)
    for name in ("quick", "mine"):
        made.write_sweep(tmp_path / "runs", lines, records, name=name)
    build(tmp_path / "runs", folder, out=lambda text: None)
    return folder


def test_every_link_and_anchor_of_the_site_is_there(results, tmp_path):
    written = gather(results / "index.html", tmp_path / "site")
    pages = {path.resolve(): Page(path) for path in written if path.suffix == ".html"}
    names = {path.relative_to((tmp_path / "site").resolve()).as_posix() for path in pages}
    assert names >= {"index.html", "results/index.html", "results/mine/index.html", "results/map/map.html"}
    assert names >= {"results/quick/summary.html", "docs/reading-tables.html", "results/claims.html"}
    links = 0
    for path, page in pages.items():
        assert len(page.ids) == len(set(page.ids))
        for address in page.addresses:
            if address.startswith("data:"):
                continue
            file, _, mark = address.partition("#")
            target = (path.parent / unquote(file)).resolve() if file else path
            assert target.is_file() and target.suffix != ".md", f"{path} leads to {address}"
            assert not mark or mark in pages[target].ids, f"{path} leads to {address}"
            links += 1
    assert links > 20


def test_the_index_has_the_map_the_advisor_the_claims_and_each_sweep_and_says_which_is_ones_own(results):
    page = Page(results / "index.html")
    text = (results / "index.html").read_text()
    assert "<strong>embedding</strong> pays at <code>k</code>" in text and "more</p>" not in text
    assert (
        "python -m bench.advise MODEL" in text
        and "<li>supported: C1 (1)</li>" in text
        and "<li>part" not in text
    )
    assert {"quick/index.html", "mine/index.html", "map/map.html", "claims.html"} <= set(page.addresses)
    assert "mine (yours)" in text and "quick (yours)" not in text
    assert page.tags.count("img") == page.addresses.count("data:image/png;base64,iVBORw==") == 1


def test_a_sweep_of_ones_own_is_in_no_list_that_git_holds(results, tmp_path):
    before = (results / "README.md").read_bytes()
    assert b"quick/summary.md" in before and b"mine/summary.md" not in before
    made.write_sweep(tmp_path / "runs", *made.pair(90.0), name="another")
    build(tmp_path / "runs", results, ["another"], out=lambda text: None)
    assert (results / "README.md").read_bytes() == before
    assert "another/index.html" in Page(results / "index.html").addresses


def test_the_metadata_of_the_data_set_is_valid_croissant(results):
    croissant = pytest.importorskip("mlcroissant")
    (file,) = croissant.Dataset(str(results / index.CROISSANT)).metadata.distribution
    assert file.content_url == "quick/records.jsonl.gz"


def test_git_holds_what_the_list_of_results_names():
    folder = Path(__file__).parents[2] / "results"
    listed = set(re.findall(r"\]\((\w+)/summary\.md\)", (folder / "README.md").read_text()))
    assert listed == index.shipped(folder) - {"performance", "zoo", "gpu"} and len(listed) > 20


def test_the_committed_list_and_metadata_are_of_the_committed_records():
    folder = Path(__file__).parents[2] / "results"
    made_again = index.pages(folder)
    stale = [
        name
        for name in ("README.md", index.CARD, index.CROISSANT)
        if (folder / name).read_bytes() != made_again[folder / name]
    ]
    assert stale == []


def test_hostile_text_stays_text(results):
    (results / "quick" / "summary.md").write_text(f"<!-- -->\n# {HOSTILE}\n\n`{HOSTILE}`\n")
    (results / "claims.md").write_text(f"# Claims\n\n- **{HOSTILE}**\n")
    for path, content in index.pages(results).items():
        path.write_bytes(content)
    for name in ("index.html", "claims.html"):
        page = Page(results / name)
        assert page.tags.count("script") == 1 and page.tags.count("img") == (name == "index.html")


def test_a_link_to_nothing_is_refused_in_one_line(results, tmp_path, capsys):
    (results / "map" / "map.html").unlink()
    (results / "map" / "map.md").unlink()
    assert main(["--results", str(results), "--out", str(tmp_path / "site")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "map/map.html, which is not there" in said
    with pytest.raises(BadInput, match="no index.html"):
        main.__wrapped__(["--results", str(tmp_path / "nowhere")])


def test_a_map_that_cannot_be_drawn_costs_nothing_else(results, tmp_path, monkeypatch):
    (results / "map" / "points.csv").write_text("no,points\n1,2\n")
    (results / "map" / "embedding.png").unlink()
    said = []
    build(tmp_path / "runs", results, out=said.append)
    assert [line for line in said if line.startswith("no picture of the map: ")]
    assert "The picture could not be drawn: " in (results / "index.html").read_text()


@pytest.mark.parametrize(
    ("heading", "name"), [("C7: what?", "c7-what"), ("`x_y` & z", "x_y--z"), ("The methods", "the-methods")]
)
def test_anchors_are_those_of_github(heading, name):
    assert anchor(heading) == name
