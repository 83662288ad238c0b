"""Say what tying x dropout x weight decay shows: a table of effects, and lines below it."""

from typing import Any

from bench.analysis.factorial import Effect, Factorial
from bench.analysis.groups import Section
from bench.report.markup import Column, Table, tabulate
from bench.report.numbers import NOTHING, bounded, fixed, p_text, places

READING = (
    "How to read the effects: an effect is a difference to the reference on the axes it names, at the reference of the "
    "others; an interaction (x) is what two together do beyond the sum of what each does alone. Runs of one seed are "
    "alike, so that the seed is the unit: an effect is computed within each seed that has all its cells, and its 95 % "
    "Student t interval is over these n seeds, as in the paired table. The readings take each effect by itself: of "
    "twenty that are not there, one is shown by chance; p (Holm) is corrected for all effects of the table. A wide "
    "interval that holds 0 shows little: see what else it holds."
)


def effects_table(factorial: Factorial) -> Table:
    """Make a row per effect: estimate, interval, p and reading."""
    decimals, effects = decimals_of(factorial.effects), factorial.effects
    columns = [
        Column[Effect](
            f"effect on\n{factorial.metric.replace(' (', chr(10) + '(', 1)}",
            lambda effect: fixed(effect.estimate, decimals, sign=True),
        ),
        Column[Effect](
            "95 % interval", lambda effect: interaction_text(effect, decimals).partition(" ")[2] or NOTHING
        ),
        Column[Effect]("n", lambda effect: _seeds(effect)),
        Column[Effect]("p", lambda effect: p_text(effect.p)),
        Column[Effect]("p (Holm)", lambda effect: p_text(effect.p_holm)),
        Column[Effect]("reading", lambda effect: effect.reading, align="l"),
    ]
    return tabulate(["effect"], [[effect.term] for effect in effects], columns, effects)


def factorial_lines(factorial: Factorial) -> list[str]:
    """Say below the table: the main question answered per tying, what is not in the effects, and how to read it."""
    seeds = ", ".join(map(str, factorial.seeds))
    made_of = f"Made of {factorial.n} runs at seeds {seeds}; reference: {factorial.reference}."
    left_out = [f"Not in the effects: {'; '.join(factorial.left_out)}."] if factorial.left_out else []
    return [*(_answer(factorial, tying) for tying in factorial.within), made_of, *left_out, READING]


def _seeds(effect: Effect) -> str:
    """`5`, or `3 of 5` where seeds lack a run in one of its cells."""
    return str(effect.n) if effect.n == effect.asked else f"{effect.n} of {effect.asked}"


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
    return max(2, places([bound for effect in effects for bound in _bounds(effect)], 3))


def _bounds(effect: Effect) -> tuple[float, ...]:
    return (effect.estimate,) if effect.low is None else (effect.low, effect.high)


def csv_rows(section: Section, factorial: Factorial) -> list[dict[str, Any]]:
    """A row per effect, numbers unrounded."""
    about = {
        **section.about,
        "response": factorial.metric,
        "reference": factorial.reference,
        "n_runs": factorial.n,
    }
    keys = ("term", "estimate", "low", "high", "n", "asked", "p", "p_holm", "reading")
    return [about | {key: getattr(effect, key) for key in keys} for effect in factorial.effects]
