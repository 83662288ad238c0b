"""The page of a claim's sweep says the claim, its verdict and why, as the ledger beside it does."""

import json
from pathlib import Path

import pytest
import record_maker as made

from bench.analysis import archive
from bench.report.tables import build
from bench.tying.errors import BadInput

RESULTS = Path(__file__).parents[2] / "results"
CLAIM = {
    "id": "C8",
    "statement": "Ties win.",
    "source": "somebody",
    "sweeps": ["quick"],
    "verdict": "mixed by condition",
    "detail": "supported for a. refuted for b",
    "too_few_seeds": True,
    "parts": [],
}


def built(folder, ledger):
    made.write_sweep(folder / "runs", *made.pair(100.0, 104.0))
    results = folder / "results"
    results.mkdir()
    (results / "claims.json").write_text(ledger if isinstance(ledger, str) else json.dumps(ledger))
    build(folder / "runs", results, out=lambda text: None)
    return [(results / name).read_text() for name in ("README.md", "quick/summary.md", "quick/index.html")]


def test_a_page_begins_with_the_verdict_on_its_claim_and_why(tmp_path):
    index, summary, page = built(tmp_path, [CLAIM, CLAIM | {"id": "C9", "sweeps": ["main"]}])
    verdict = "mixed by condition (too few seeds)"
    answer, line = (part for part in summary.split("\n\n") if "C8" in part)
    assert answer.startswith(f"Claim C8: {verdict}. ") and f": Claim C8: {verdict}. " in index
    assert '"Ties win."' in line and f"Verdict: {verdict} (supported for a. refuted for b). " in line
    assert line.endswith("Source: somebody.") and "C9" not in index + summary + page
    assert f"<b>{verdict}</b> (supported for a. refuted for b)" in page


def test_without_a_detail_the_parts_are_the_reason_as_far_as_a_line_holds_them(tmp_path):
    parts = [{"name": f"p{i}", "verdict": v} for i, v in enumerate(["good", None, *["bad"] * 99])]
    _, summary, _ = built(tmp_path, [CLAIM | {"detail": "", "parts": parts}])
    assert (
        "(p0: good; p2: bad; " in summary
        and " ... and more in the ledger)" in summary
        and "p99" not in summary
    )


def test_the_verdict_is_not_said_again_for_each_part(tmp_path):
    parts = [{"name": "p", "verdict": "inconclusive: could have shown 2 points"}]
    _, summary, _ = built(tmp_path, [CLAIM | {"verdict": "inconclusive", "detail": "", "parts": parts}])
    assert "inconclusive (too few seeds) (p: could have shown 2 points)" in summary


@pytest.mark.parametrize("ledger", ['[{"torn', "[1]", [{"sweeps": ["quick"]}]])
def test_a_torn_ledger_is_one_line(tmp_path, ledger):
    with pytest.raises(BadInput, match=r"claims\.json is not a ledger .* `make claims`$"):
        built(tmp_path, ledger)


def test_committed_pages_say_what_the_committed_ledger_says():
    for claim in json.loads((RESULTS / "claims.json").read_text()):
        for name in claim["sweeps"]:
            if archive.path_of(RESULTS, name).exists():
                assert (
                    f"Claim {claim['id']}: {claim['verdict']}" in (RESULTS / name / "summary.md").read_text()
                )
