"""The fitted factorial of a section as a table, as csv rows, and the lines below it."""

from typing import Any

from bench.report.cells import Section
from bench.report.columns import Column, tabulate
from bench.report.factorial import Factorial
from bench.report.interplay import Effect, interval
from bench.report.markup import Table
from bench.report.numbers import fixed, p_text, places

READING = (
    "How to read the effects: an effect is a difference to the reference on the axes it names, at the reference of the "
    "others; an interaction (x) is what two together do beyond the sum of what each does alone. The model is ordinary "
    "least squares on all the runs with seeds as blocks: given its seed, each run counts as independent of the "
    "others, and all cells as spread alike. Intervals are 95 %, each for itself: of twenty effects that are not "
    "there, one is shown by chance. A wide interval that holds 0 shows little: see what else it holds."
)


def effects_table(factorial: Factorial) -> Table:
    """A row per effect: estimate, interval, p and reading."""
    decimals = decimals_of(factorial)
    columns = [
        Column[Effect](
            f"effect on\n{factorial.metric.replace(' (', chr(10) + '(', 1)}",
            lambda effect: fixed(effect.estimate, decimals, sign=True),
        ),
        Column[Effect]("95 % interval", lambda effect: interval(effect, decimals).partition(" ")[2]),
        Column[Effect]("p", lambda effect: p_text(effect.p)),
        Column[Effect]("reading", lambda effect: effect.reading, align="l"),
    ]
    effects = factorial.effects
    return tabulate(["effect"], [[effect.term] for effect in effects], columns, effects)


def reading(factorial: Factorial) -> list[str]:
    """Lines below the table: the main question answered per tying, what is not in the fit, and how to read it."""
    fitted = (
        f"Fitted to {factorial.n} runs with {factorial.df} residual degrees of freedom; reference: "
        f"{factorial.reference}."
    )
    left_out = [f"Not in the fit: {'; '.join(factorial.left_out)}."] if factorial.left_out else []
    return [*factorial.answers, fitted, *left_out, READING]


def csv_rows(section: Section, factorial: Factorial) -> list[dict[str, Any]]:
    """A row per effect, numbers unrounded."""
    about = {
        "task": section.task,
        "data": section.data,
        "fingerprint": section.fingerprint,
        "variant": section.variant,
        "response": factorial.metric,
        "reference": factorial.reference,
        "n_runs": factorial.n,
        "residual_df": factorial.df,
    }
    keys = ("term", "estimate", "low", "high", "p", "reading")
    return [about | {key: getattr(effect, key) for key in keys} for effect in factorial.effects]


def decimals_of(factorial: Factorial) -> int:
    """Decimals at which the median bound of an interval has three digits, two at least."""
    sizes = [size for effect in factorial.effects for size in (effect.low, effect.high)]
    return max(2, places(sizes, 3))
