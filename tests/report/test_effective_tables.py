"""What tables say of the effective number of parameters: a column where a soft tying stands, and nothing elsewhere."""

import csv
from pathlib import Path

import pytest
import record_maker as made

from bench.analysis.frame import rows
from bench.analysis.runs import read_sweep
from bench.report.tables import build


def built(folder: Path, *pairs) -> Path:
    lines, records = ([each for pair in pairs for each in pair[part]] for part in (0, 1))
    made.write_sweep(folder / "runs", lines, records)
    return build(folder / "runs", folder / "results", out=lambda text: None)[0]


def sized(tying, *sizes, num_params=made.UNTIED):
    """A cell of which each seed has this effective size; None: its record is from before there was one."""
    lines, records = made.pair(*[100.0 + at for at in range(len(sizes))], tying=tying)
    known = [{"effective_params": size} if size is not None else {} for size in sizes]
    return lines, [
        record | {"num_params": num_params} | more for record, more in zip(records, known, strict=True)
    ]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


NONE = sized("none", made.UNTIED, made.UNTIED)
SOFT = sized("soft(strength=0.01)", 900_000.4, 960_000.4)
TOP = sized("top_k(k=2)", 930_000, 930_000, num_params=930_000)


@pytest.mark.parametrize("cells", [(NONE,), (NONE, TOP), (sized("none", None, None), TOP)])
def test_without_a_soft_tying_there_is_no_such_column(tmp_path, cells):
    folder = built(tmp_path, *cells)
    for name in ("summary.md", "index.html"):
        assert "ffective" not in (folder / name).read_text(), name


def test_beside_a_soft_tying_every_row_has_its_size_as_a_mean_over_seeds(tmp_path):
    """900,000.4 and 960,000.4 are 930,000 together: 77.5 % of the 1,200,000, as of what ties hard."""
    folder = built(tmp_path, NONE, TOP, SOFT)
    text = (folder / "summary.md").read_text().replace("**", "")
    page = made.every_setting(text)
    summary = text.removesuffix(page)
    assert "effective<br>parameters" in page and page.count("| 930,000 | 77.5 | 930,000 |") == 1
    assert page.count("| 1,200,000 | 100.0 | 930,000 |") == 1 and "Effective parameters:" in page
    lines = {line.split(" | ")[0]: line for line in summary.splitlines()}
    assert "| 930k (78 %) |" in lines["| top_k(k=2)"]  # what it shares by is what it has
    assert "| 1.2M (100 %), effective 930k (78 %) |" in lines["| soft(strength=0.01)"]
    assert "Effective parameters:" in summary and "effective" in (folder / "index.html").read_text()
    for name in ("text_gru.csv", "summary.csv"):
        found = {row["tying"]: float(row["effective_params_mean"]) for row in rows_of(folder / name)}
        assert found == pytest.approx(
            {"none": 1.2e6, "top_k(k=2)": 930_000, "soft(strength=0.01)": 930_000.4}
        )


def test_a_record_from_before_there_was_a_size_is_a_dash_in_the_page_and_nothing_in_the_rows(tmp_path):
    folder = built(tmp_path, sized("none", None, None), SOFT)
    assert "| 1,200,000 | 100.0 | — |" in made.every_setting((folder / "summary.md").read_text())
    values = [row["effective_params"] for row in rows(read_sweep(tmp_path / "runs", "quick")[0])]
    assert values == [None, None, 900000.4, 960000.4]
