"""From a claim and the records to its row: what was measured in each part, and the verdict by its own rule."""

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.analysis.statistics import ENOUGH, TOO_FEW
from bench.claims.claim import Claim, id_of, read
from bench.claims.parts import Part
from bench.claims.records import Evidence, without_number
from bench.claims.rule import CONTRADICTED, SUPPORTED, verdict
from bench.runs.store import Status
from bench.tying.errors import BadInput

if TYPE_CHECKING:
    from pandas import DataFrame


NOT_RUN, NOT_TESTABLE, NOT_EVALUATED = "not yet run", "not testable here", "not evaluated"


@dataclass(frozen=True)
class Row:
    """What the ledger says of a claim.

    `judged`: each part with its verdict, None where it decides nothing. `claim`: None where its file was not read.
    """

    id: str
    claim: Claim | None
    verdict: str
    judged: tuple[tuple[Part, str | None], ...] = ()
    why: str = ""

    @property
    def is_bad(self) -> bool:
        return self.verdict == NOT_EVALUATED


def row(path: Path, evidence: Evidence) -> Row:
    """Evaluate a claim file. What is wrong with the file or its records is said in the row."""
    claim = None
    try:
        claim = read(path)
        return _evaluated(claim, evidence)
    except BadInput as error:
        if claim is None:
            return Row(id_of(path), None, NOT_EVALUATED, why=str(error))
        return Row(claim.id, claim, NOT_EVALUATED, why=f"claim file {path.name}: {error}")


def _evaluated(claim: Claim, evidence: Evidence) -> Row:
    if claim.resource:
        return Row(claim.id, claim, f"{NOT_TESTABLE}: missing {claim.resource}")
    if claim.test is None:
        return Row(claim.id, claim, NOT_RUN, why=f"waits for {claim.waits_for}")
    if not claim.sweeps:
        return _judged(claim, _checked(claim), "")
    frame = evidence.frame(claim.sweeps)
    if frame is None:
        return Row(claim.id, claim, NOT_RUN, why=f"no records of {', '.join(claim.sweeps)}")
    done = int((frame["status"] == Status.DONE).sum())
    others = ", ".join(f"{text} {count}" for text, count in without_number(frame).items())
    why = f"{done} of {len(frame)} runs done: {others}" if others else ""
    return _judged(claim, _checked(claim, frame), why) if done else Row(claim.id, claim, NOT_RUN, why=why)


def _checked(claim: Claim, *frames: "DataFrame") -> list[Part]:
    """Call the check that the claim names. BadInput where there is none, or it takes no such arguments."""
    from hydra.utils import get_method

    arguments = dict(claim.test)
    name = arguments.pop("_target_")
    try:
        check = get_method(name)
    except (ImportError, ValueError) as error:
        raise BadInput(f"no function {name} in the bench") from error
    try:
        inspect.signature(check).bind(*frames, **arguments)
    except TypeError as error:
        raise BadInput(f"{name}: {error}") from error
    return check(*frames, **arguments)


def _judged(claim: Claim, parts: list[Part], why: str) -> Row:
    deciding = [part for part in parts if part.decides]
    together = sum(part.is_measured for part in deciding)
    judged = [(part, _of_part(claim, part, together) if part.decides else None) for part in parts]
    run = [(part, outcome) for part, outcome in judged if part.decides and outcome != NOT_RUN]
    whole = NOT_RUN
    if run:
        counts = {name: sum(outcome.startswith(name) for _, outcome in run) for name in (SUPPORTED, CONTRADICTED)}
        seeds = [part.seeds for part, _ in run if part.seeds is not None]
        whole = _marked(verdict(claim.overall, {**counts, "parts": len(run)}), min(seeds, default=None))
        if len(run) < len(deciding):
            whole += f"; {len(deciding) - len(run)} of {len(deciding)} parts not yet run"
    return Row(claim.id, claim, whole, tuple(judged), why)


def _of_part(claim: Claim, part: Part, together: int) -> str:
    if not part.is_measured:
        return NOT_RUN
    return _marked(verdict(claim.rule, part.numbers(together)) or NOT_RUN, part.seeds)


def _marked(outcome: str, seeds: int | None) -> str:
    """Return the verdict, with a word beside or instead of it where the seeds are too few."""
    if seeds == 1:
        return TOO_FEW
    return f"{outcome} ({TOO_FEW})" if outcome != NOT_RUN and seeds is not None and seeds < ENOUGH else outcome
