import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import record_maker as made
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.analysis.groups import sections
from bench.analysis.runs import read_sweep
from bench.report import html as webpage
from bench.report.html import NOT_RECORDED, ONE_SEED, html_table, inlined, number, sentences
from bench.report.markup import Table
from bench.report.numbers import fixed
from bench.report.pages import sweep_report
from bench.report.tables import build

TASKS = {"image_cnn": "digits", "text_gru": "pydocs"}
HOSTILE = """</script><script>alert(1)</script><img src=x onerror=alert(2)> "'&` {{ 7*7 }}"""
SVG = b"""<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd">
<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="72pt" viewBox="0 0 72 36">
 <metadata><a href="http://example.org"/></metadata>
 <defs><path id="mark" d="M 0 0.123456 &#10;L 1 1"/><clipPath id="cut"><rect width="9" height="9"/></clipPath></defs>
 <g clip-path="url(#cut)" onclick="alert(1)"><title>none: 97.1 &lt;b&gt;</title><use xlink:href="#mark" x="3"/></g>
 <image xlink:href="http://example.org/x.png"/><image xlink:href="data:image/png;base64,iVBO"/><g style="fill: url('http://example.org/#a')"/>
 <script>alert(1)</script><style>* {color: red}</style><text>a label</text>
</svg>"""


class Reader(HTMLParser):
    """Tags with their attributes, and the text of each table row."""

    def __init__(self, html: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.inside = False
        self.feed(html.decode())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th") and self.rows:
            self.rows[-1].append("")
            self.inside = True

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.rows[-1][-1] += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def sweep(folder: Path, lines: list, records: list, costs: list | tuple = (), **given):
    made.write_sweep(folder / "runs", lines, records, costs, **given)
    asked, note = read_sweep(folder / "runs", "quick")
    return sections(asked), note


def page(folder: Path, lines: list, records: list, costs=(), pictures=None, **given) -> bytes:
    found, note = sweep(folder, lines, records, costs, **given)
    return webpage.page(sweep_report("quick", found, note), pictures or {})


def seeds(tying: str, *values: float) -> tuple[list, list]:
    return made.pair(*values, tying=tying)


def said(folder: Path, *cells: tuple[list, list]) -> str:
    lines, records = ([x for cell in cells for x in cell[at]] for at in (0, 1))
    (section,), _ = sweep(folder, lines, records)
    return " ".join(sentences(section))


def test_nothing_is_fetched_from_anywhere(tmp_path):
    html = page(tmp_path, *made.grid(TASKS), pictures={"image_cnn_pareto.svg": SVG})
    reader = Reader(html)
    for name, attributes in reader.tags:
        assert not {"src", "srcset", "data", "action"} & attributes.keys() and name not in (
            "iframe",
            "object",
        )
    beside = {"summary.md", "records.jsonl.gz", "image_cnn.csv", "text_gru.csv"}
    links = {attributes["href"] for _, attributes in reader.tags if attributes.get("href")}
    ids = {attributes.get("id") for _, attributes in reader.tags}
    inside = {"data:,"} | {f"#{name}" for name in ids}
    assert {link for link in links - beside if not link.startswith("data:image/")} <= inside
    assert b"http://" not in html and b"https://" not in html and b"@import" not in html
    (policy,) = [a["content"] for a in reader.named("meta") if a.get("http-equiv")]
    assert policy.startswith("default-src 'none';") and "http" not in policy


def test_hostile_text_stays_text(tmp_path):
    lines = [made.entry(tying, seed=seed) for tying in ("none", HOSTILE) for seed in (1, 2)]
    records = [made.record(line) for line in lines[:3]] + [made.unfinished(lines[3], "failed", HOSTILE)]
    html = page(tmp_path, lines, records, note=HOSTILE)
    reader = Reader(html)
    assert len(reader.named("script")) == 1 and not reader.named("img")
    assert b"alert(1)</script>" not in html and b"{{ 7*7 }}" in html and b">49<" not in html
    assert any(row[0] == HOSTILE for row in reader.rows) and any(HOSTILE in row[8:] for row in reader.rows)


def test_every_run_has_a_row_with_what_became_of_it(tmp_path):
    lines, records = made.pair(27.4, 31.25)
    lines += [made.entry("soft", seed=1), made.entry("soft", seed=2)]
    records.append(made.unfinished(lines[2], "diverged", "loss is nan at step 7"))
    rows = Reader(page(tmp_path, lines, records)).rows
    row = {(r[0], r[3]): r[4:] for r in rows if len(r) == 10 and r[0] != "tying"}
    assert row["none", "2"][:2] == ["done", "31.25"] and row["none", "2"][-1] == NOT_RECORDED
    assert row["soft", "1"][0] == "diverged" and "loss is nan at step 7" in row["soft", "1"]
    assert row["soft", "2"][0] == "not run yet" and len(row) == 4


def test_too_many_runs_have_no_rows_but_a_file(tmp_path, monkeypatch):
    made_up = made.grid(TASKS)
    monkeypatch.setattr(webpage, "MANY_RUNS", len(made_up[0]))
    assert b"and the command of each" in page(tmp_path / "a", *made_up)
    monkeypatch.setattr(webpage, "MANY_RUNS", len(made_up[0]) - 1)
    html = page(tmp_path / "b", *made_up)
    assert b"and the command of each" not in html and b'they are in <a href="records.jsonl.gz">' in html


def test_headings_captions_and_columns_are_named(tmp_path):
    reader = Reader(page(tmp_path, *made.grid(TASKS)))
    assert reader.named("html") == [{"lang": "en"}] and len(reader.named("h1")) == 1
    assert len(reader.named("caption")) == len(reader.named("table")) > 4
    assert all(attributes.get("scope") in ("col", "row") for attributes in reader.named("th"))
    ids = [attributes["id"] for _, attributes in reader.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_pictures_stand_with_their_task_and_never_share_a_name(tmp_path):
    files = {"text_gru_curves.svg": SVG, "image_cnn_heat_map.svg": SVG, "image_cnn.md": b"# no picture"}
    html = page(tmp_path, *made.grid(TASKS), pictures=files).decode()
    image, text = html.index('aria-label="heat map"'), html.index('aria-label="curves"')
    assert html.index("image_cnn on digits</h2>") < image < html.index("text_gru on pydocs</h2>") < text
    ids = re.findall(r'\bid="([^"]*)"', html)
    assert len(ids) == len(set(ids)) and html.count("mark") > 2


@pytest.mark.parametrize(("asked", "first"), [(None, "forest"), ("curves", "curves"), ("doses", "curves")])
def test_a_task_begins_with_the_deciding_picture_and_its_narrow_table_and_folds_the_rest(
    tmp_path, asked, first
):
    found, note = sweep(tmp_path, *made.grid({"image_cnn": "digits"}))
    files = {f"image_cnn_{name}.svg": SVG for name in ("curves", "forest", "pareto")}
    html = webpage.page(sweep_report("quick", found, note, picture=asked), files).decode()
    task = html[html.index('<section id="g1">') : html.index('<section id="reading">')]
    seen, *folds = task.split("<details>")
    assert re.findall('role="group" aria-label="([^"]*)"', seen) == [first]
    assert seen.index("<svg") < seen.index("<table") and seen.count("<table") == 1
    assert [fold.partition("<summary>")[2].partition("<")[0] for fold in folds][:3] == [
        "In words",
        "More pictures (2)",
        "Every setting, its tests, costs and runs",
    ]


def test_an_svg_keeps_its_shapes_and_titles_and_nothing_else():
    picture = inlined(SVG, "p1-", "a picture")
    svg = picture.svg
    assert picture.width == 96 and svg.startswith("<svg viewBox=") and 'aria-label="a picture"' in svg
    assert 'id="p1-mark"' in svg and 'href="#p1-mark"' in svg and "url(#p1-cut)" in svg
    assert "<title>none: 97.1 &lt;b&gt;</title>" in svg and ">a label</text>" in svg
    assert 'd="M 0 0.12 L 1 1"' in svg and svg.count("<image") == 2
    assert svg.count("<image href=") == 1 and '"data:image/png;base64,iVBO"' in svg
    for gone in ("http", "DOCTYPE", "onclick", "script", "<style", "metadata", "xlink", "ns0:"):
        assert gone not in svg


def test_the_same_records_give_the_same_page_and_tables_write_it(tmp_path):
    made_up = made.grid({"image_cnn": "digits"}, seeds=(1,), decays=(0.0,), tyings=("none", "cross_layer"))
    made.write_sweep(tmp_path / "runs", *made_up)
    (folder,) = build(tmp_path / "runs", tmp_path / "results", out=lambda text: None)
    html = (folder / "index.html").read_bytes()
    assert html.count(b"<figure") >= 2 and b"<summary>In words</summary>" in html
    pictures = {path.name: path.read_bytes() for path in sorted(folder.glob("*.svg"))}
    assert page(tmp_path / "other", *made_up, pictures=pictures) == page(
        tmp_path / "a" / "b", *made_up, pictures=pictures
    )


def test_no_runs_and_no_numbers_have_a_page_that_says_so(tmp_path):
    assert b"The sweep asked for no run." in webpage.page(sweep_report("empty", []), {})
    lines = [made.entry(tying) for tying in made.TYINGS]
    records = [made.unfinished(line, "failed", "no memory") for line in lines]
    html = page(tmp_path, lines, records)
    assert b"No tying has a number here. No number from 5 failed of 5 runs." in html
    assert b"No picture: no run has finished." in html and html.count(b"no memory") >= 5


def test_one_seed_is_a_hint_and_has_no_verdict(tmp_path):
    text = said(tmp_path, seeds("none", 100.0), seeds("cross_layer", 90.0))
    assert "−10.0 % against `none`" in text and "(n = 1)" in text and text.count(ONE_SEED) == 1
    assert not re.search(r"\b(better|worse|equivalent)\b(?!\))", text) and "interval" not in text


def test_the_judgement_is_the_verdict_and_the_interval_stands_beside_it(tmp_path):
    none = seeds("none", 100.0, 101.0, 102.0, 101.0, 100.0)
    less = seeds("cross_layer", 90.1, 91.0, 92.0, 90.9, 90.0)
    noise = seeds("soft", 95.0, 106.0, 97.0, 107.0, 99.0)
    clear = said(tmp_path / "a", none, less, noise)
    assert "Of 2 tyings validation prefers `cross_layer`, with 40 % of the untied" in clear
    assert (
        "95 % interval −10.0 % to −9.8 %, n = 5 seeds, p (Holm) < 0.001" in clear
        and "Verdict: better at this rate, a hint;" in clear
    )
    assert "Verdict: not enough to tell (±1 % needs about 220 seeds)" in said(tmp_path / "b", none, noise)
    few = said(tmp_path / "c", seeds("none", 100.0, 101.0), seeds("cross_layer", 90.0, 91.1))
    assert "Verdict: better at this rate, a hint (too few seeds);" in few


def test_without_an_untied_run_nothing_is_compared(tmp_path):
    text = said(tmp_path, seeds("cross_layer", 90.0, 91.0))
    assert "there is no `none` to compare it with" in text and "Verdict" not in text


def test_a_control_is_no_tying(tmp_path):
    control = seeds("cross_layer, control=params", 50.0)
    text = said(tmp_path, seeds("none", 100.0), seeds("cross_layer", 90.0), control)
    assert "`cross_layer`" in text and "control" not in text


@settings(deadline=None)
@given(st.floats(-1e9, 1e9), st.integers(0, 6))
def test_a_column_sorts_by_the_number_that_it_shows(value, decimals):
    text = fixed(value, decimals, sign=True)
    assert number(text) == pytest.approx(round(value, decimals), abs=10.0**-decimals)
    assert number(f"{text} [0.1, 0.3] (n=2)") == number(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [("269k 45%", 269_000), ("1.24M", 1_240_000), ("< 0.001", 0.001), ("2 (1 failed)", 2), ("11.88 ?", 11.88)]
    + [("−2.0 ± 1.4", -2), ("1e-05", 1e-5), ("2nd", None), ("n/a", None), ("", None), ("k=3", None)],
)
def test_the_number_a_cell_begins_with(text, value):
    assert number(text) == value


@pytest.mark.parametrize(
    ("tying", "is_searched", "is_said"),
    [
        ("cross_layer", True, True),
        ("cross_layer", False, False),  # at a rate that was given nothing is a verdict
        ("soft(strength=0.01)", True, False),
    ],
)
def test_the_smallest_that_is_as_good_is_smaller_than_the_untied(tmp_path, tying, is_searched, is_said):
    """Best on validation is `other`, and as good as `none` is a tying with 40 or with 100 % of its parameters."""
    untied = [100.0, 101.0, 99.0, 100.5, 99.5]
    alike, better = (
        [share * value + noise for value, noise in zip(untied, (0.01, 0.0, 0.02, 0.01, 0.0), strict=True)]
        for share in (1.0001, 0.5)
    )
    cells = seeds("none", *untied), seeds("other", *better), seeds(tying, *alike)
    text = said(tmp_path, *(map(made.searched, cells) if is_searched else cells))
    assert (f"better or equivalent is `{tying}`: 40 % of the untied" in text) == is_said
    assert ("smallest network" in text) == is_said


def test_a_column_of_numbers_may_have_holes_and_no_words():
    table = Table(["tying", "a", "b"], "lrr", [["none", "1.5", "1"], ["soft", "—", "all"], ["x", "n/a", "2"]])
    made_grid = html_table("t", table)
    assert [column.is_number for column in made_grid.columns] == [False, True, False]
    assert [row[1].sort for row in made_grid.rows] == ["1.5", "", ""]
    assert [row[2].sort for row in made_grid.rows] == ["1", "all", "2"]
