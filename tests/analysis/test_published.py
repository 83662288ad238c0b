"""Published numbers: every row of conf/published.csv, and what is refused."""

import pytest

from bench.analysis import published
from bench.claims import claim
from bench.tying.errors import BadInput

HEAD = ",".join(published.Published.__dataclass_fields__)
GOOD = "a,S,,n,embedding,d,,10,,100,90,perplexity,lower,source"


def written(folder, *lines):
    path = folder / "published.csv"
    path.write_text("\n".join([HEAD, *lines]) + "\n")
    return path


def test_the_committed_rows_are_read_and_claims_name_only_such():
    rows = published.read()
    whole, skipped = published.complete(rows)
    assert len(whole) + len(skipped) == len(rows) and len(whole) >= 20
    assert any(line.startswith("mobilellm (MobileLLM") for line in skipped)
    named = [
        name
        for path in claim.files(claim.FOLDER)
        for name in (claim.read(path).published or {"rows": []})["rows"]
    ]
    assert named and set(named) <= {row.id for row in rows}


def test_a_gain_is_above_0_where_the_tied_network_is_better(tmp_path):
    error = "b,S,,n,t,d,,,,5,6,test error,lower,list"
    accuracy = "c,S,,n,t,d,,,,94,96,accuracy,higher,list"
    gains = [row.gain for row in published.read(written(tmp_path, GOOD, error, accuracy))]
    assert gains == pytest.approx([10.536, -1, 2], abs=1e-3)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([GOOD, GOOD], "a stands twice"),
        ([GOOD.replace("100", "many")], "line 2, untied: 'many' is no number"),
        ([GOOD.replace("100", "-1")], "'-1' is no number above 0"),
        ([GOOD.replace("lower", "down")], "allowed are lower, higher"),
        (["a,b"], "not as many cells"),
    ],
)
def test_a_bad_row_is_one_line(tmp_path, lines, said):
    with pytest.raises(BadInput, match=said) as caught:
        published.read(written(tmp_path, *lines))
    assert "\n" not in str(caught.value)
