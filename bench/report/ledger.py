"""Read what the ledger of claims says of a sweep: results/claims.json, which `make claims` writes."""

import json
import textwrap
from pathlib import Path
from typing import Any, NamedTuple

from bench.tying.errors import BadInput

FILE = "claims.json"
LONGEST = 400
"""Characters of the reason of a verdict; the ledger has all of it."""


class Judged(NamedTuple):
    """A claim that a sweep is the test of. why: the conditions of the verdict, or what each part shows."""

    id: str
    statement: str
    source: str
    verdict: str
    why: str

    @property
    def short(self) -> str:
        return f"Claim {self.id}: {self.verdict}."

    @property
    def line(self) -> str:
        """Return the claim, its verdict and why, and its source, as one line of a page."""
        why = f" ({self.why})" if self.why else ""
        return (
            f'[{self.id}](../claims.md#{self.id.lower()}): "{self.statement}" Verdict: {self.verdict}{why}. '
            f"Source: {self.source}."
        )


def judged(results: Path, sweep: str) -> tuple[Judged, ...]:
    """Return what the ledger in `results` says of the claims that name this sweep; () where there is no ledger.

    Raises:
        BadInput: For a ledger that is torn or of another form.
    """
    path = results / FILE
    if not path.exists():
        return ()
    try:
        claims = json.loads(path.read_text())
        return tuple(_judged(claim) for claim in claims if sweep in claim.get("sweeps", ()))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadInput(f"{path} is not a ledger of claims: make it anew with `make claims`") from error


def _judged(claim: dict[str, Any]) -> Judged:
    few = " (too few seeds)" if claim["too_few_seeds"] else ""
    parts = (f"{part['name']}: {part['verdict']}" for part in claim["parts"] if part["verdict"])
    why = textwrap.shorten(
        claim["detail"] or "; ".join(parts), LONGEST, placeholder=" ... and more in the ledger"
    )
    return Judged(claim["id"], claim["statement"], claim["source"], f"{claim['verdict']}{few}", why)
