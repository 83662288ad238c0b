"""Say what the fit of tying x dropout x weight decay shows: a table, and lines below it."""

from typing import Any

from bench.analysis.factorial import Effect, Factorial
from bench.analysis.groups import Section
from bench.report.markup import Column, Table, tabulate
from bench.report.numbers import bounded, fixed, p_text, places

READING = (
    "How to read the effects: an effect is a difference to the reference on the axes it names, at the reference of the "
    "others; an interaction (x) is what two together do beyond the sum of what each does alone. The model is ordinary "
    "least squares on all the runs with seeds as blocks: given its seed, each run counts as independent of the "
    "others, and all cells as spread alike. Intervals are 95 %, each for itself: of twenty effects that are not "
    "there, one is shown by chance. A wide interval that holds 0 shows little: see what else it holds."
)


def effects_table(factorial: Factorial) -> Table:
    """Make a row per effect: estimate, interval, p and reading."""
    decimals, effects = decimals_of(factorial.effects), factorial.effects
    columns = [
        Column[Effect](
            f"effect on\n{factorial.metric.replace(' (', chr(10) + '(', 1)}",
            lambda effect: fixed(effect.estimate, decimals, sign=True),
        ),
        Column[Effect]("95 % interval", lambda effect: interaction_text(effect, decimals).partition(" ")[2]),
        Column[Effect]("p", lambda effect: p_text(effect.p)),
        Column[Effect]("reading", lambda effect: effect.reading, align="l"),
    ]
    return tabulate(["effect"], [[effect.term] for effect in effects], columns, effects)


def factorial_lines(factorial: Factorial) -> list[str]:
    """Say below the table: the main question answered per tying, what is not in the fit, and how to read it."""
    fitted = (
        f"Fitted to {factorial.n} runs with {factorial.df} residual degrees of freedom; reference: "
        f"{factorial.reference}."
    )
    left_out = [f"Not in the fit: {'; '.join(factorial.left_out)}."] if factorial.left_out else []
    return [*(_answer(factorial, tying) for tying in factorial.within), fitted, *left_out, READING]


def _answer(factorial: Factorial, tying: str) -> str:
    """What each regulariser does to the response under `none` and under the tying, and how far these differ."""
    alone = [effect for effect in factorial.effects if len(effect.parts) == 1 and effect.tying is None]
    within, by_parts = factorial.within[tying], {effect.parts: effect for effect in factorial.effects}
    both = [by_parts[effect.parts] for effect in within]
    decimals = decimals_of([*alone, *within, *both])
    sentences = [
        f"{main.term}: {pair.reading}; it moves {factorial.metric} by {interaction_text(main, decimals)} under none "
        f"and by {interaction_text(under, decimals)} under {tying}, a difference of "
        f"{interaction_text(pair, decimals)}"
        for main, under, pair in zip(alone, within, both, strict=True)
    ]
    regularisers = list(dict.fromkeys(main.term.rpartition(" ")[0] for main in alone))
    them = "it" if len(regularisers) == 1 else "them"
    return f"Does {tying} replace {' and '.join(regularisers)}, or add to {them}? {'. '.join(sentences)}."


def interaction_text(effect: Effect, decimals: int) -> str:
    """`+1.20 [+0.80, +1.60]`"""
    return bounded(effect.estimate, effect.low, effect.high, decimals, sign=True)


def decimals_of(effects: list[Effect]) -> int:
    """Decimals at which the median bound of an interval has three digits, two at least."""
    return max(2, places([bound for effect in effects for bound in (effect.low, effect.high)], 3))


def csv_rows(section: Section, factorial: Factorial) -> list[dict[str, Any]]:
    """A row per effect, numbers unrounded."""
    about = {
        **section.about,
        "response": factorial.metric,
        "reference": factorial.reference,
        "n_runs": factorial.n,
        "residual_df": factorial.df,
    }
    keys = ("term", "estimate", "low", "high", "p", "reading")
    return [about | {key: getattr(effect, key) for key in keys} for effect in factorial.effects]
