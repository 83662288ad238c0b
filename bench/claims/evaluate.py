"""From a claim and the records to its row: what was measured in each part, and the verdict by its own rule."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.claims.claim import Claim, id_of, read
from bench.claims.parts import Part
from bench.claims.records import Evidence
from bench.claims.rule import CONTRADICTED, SUPPORTED, verdict
from bench.runs.store import Status
from bench.tying.errors import BadInput

if TYPE_CHECKING:
    from pandas import DataFrame


NOT_RUN, NOT_TESTABLE, NOT_EVALUATED = "not yet run", "not testable here", "not evaluated"
FEW = 5
"""Seeds below which a verdict says that they are too few."""
TOO_FEW = "too few seeds"


@dataclass(frozen=True)
class Row:
    """`judged`: each part with its verdict, None where it decides nothing. `claim` is None where no file was read."""

    id: str
    claim: Claim | None
    verdict: str
    judged: tuple[tuple[Part, str | None], ...] = ()
    why: str = ""

    @property
    def is_bad(self) -> bool:
        return self.verdict == NOT_EVALUATED


def row(path: Path, evidence: Evidence) -> Row:
    """The row of a claim file. What is wrong with the file or its records is a row that says so."""
    try:
        claim = read(path)
    except BadInput as error:
        return Row(id_of(path), None, NOT_EVALUATED, why=str(error))
    try:
        return _row(claim, evidence)
    except BadInput as error:
        return Row(claim.id, claim, NOT_EVALUATED, why=f"claim file {path.name}: {error}")


def _row(claim: Claim, evidence: Evidence) -> Row:
    if claim.resource:
        return Row(claim.id, claim, f"{NOT_TESTABLE}: missing {claim.resource}")
    if claim.test is None:
        return Row(claim.id, claim, NOT_RUN, why=f"waits for {claim.waits_for}")
    if not claim.sweeps:
        return _judged(claim, _called(claim))
    frame = evidence.frame(claim.sweeps)
    if frame is None or not (frame["status"] == Status.DONE).any():
        return Row(claim.id, claim, NOT_RUN, why=_state(claim, frame))
    return _judged(claim, _called(claim, frame), _state(claim, frame))


def _called(claim: Claim, *given: Any) -> list[Part]:
    """What the claim's test hands back. BadInput where there is no such function or it takes no such arguments."""
    from hydra.utils import get_method

    name = claim.test["_target_"]
    arguments = {key: value for key, value in claim.test.items() if key != "_target_"}
    try:
        function: Callable[..., list[Part]] = get_method(name)
    except (ImportError, ValueError) as error:
        raise BadInput(f"no function {name} in the bench") from error
    try:
        inspect.signature(function).bind(*given, **arguments)
    except TypeError as error:
        raise BadInput(f"{name}: {error}") from error
    return function(*given, **arguments)


def _judged(claim: Claim, parts: list[Part], why: str = "") -> Row:
    together = sum(part.decides and part.is_measured for part in parts)
    judged = tuple((part, _of_part(claim, part, together)) for part in parts)
    said = [(part, found) for part, found in judged if part.decides]
    run = [(part, found) for part, found in said if found != NOT_RUN]
    if not run:
        return Row(claim.id, claim, NOT_RUN, judged, why)
    counts = {name: sum(found.startswith(name) for _, found in run) for name in (SUPPORTED, CONTRADICTED)}
    whole = verdict(claim.overall, {**counts, "parts": len(run)})
    seeds = min((part.seeds for part, _ in run if part.seeds is not None), default=None)
    if seeds == 1:
        whole = TOO_FEW
    elif seeds is not None and seeds < FEW:
        whole = f"{whole} ({TOO_FEW})"
    holes = f"{len(said) - len(run)} of {len(said)} parts not yet run" if len(run) < len(said) else ""
    return Row(claim.id, claim, f"{whole}; {holes}" if holes else whole, judged, why)


def _of_part(claim: Claim, part: Part, together: int) -> str | None:
    if not part.decides:
        return None
    if not part.is_measured:
        return NOT_RUN
    found, seeds = verdict(claim.rule, part.numbers(together)), part.seeds
    if seeds == 1:
        return TOO_FEW
    if found is None:
        return NOT_RUN
    return f"{found} ({TOO_FEW})" if seeds is not None and seeds < FEW else found


def _state(claim: Claim, frame: "DataFrame | None") -> str:
    """`48 of 60 runs done: not run yet 12`; nothing where all are."""
    from bench.analysis.groups import SAID

    if frame is None:
        return f"no records of {', '.join(claim.sweeps)}"
    counts = frame["status"].value_counts()
    done = int(counts.get(Status.DONE, 0))
    rest = [f"{SAID.get(name, name)} {counts[name]}" for name in sorted(counts.index) if name != Status.DONE]
    return f"{done} of {len(frame)} runs done: {', '.join(rest)}" if rest else ""
