"""Say what tying x dropout x weight decay shows: a table of effects, and lines below it."""

from dataclasses import replace
from typing import Any

from bench.analysis.factorial import Effect, Factorial
from bench.analysis.groups import Section
from bench.analysis.power import change_of, scale_of
from bench.analysis.runs import converted
from bench.report.markup import Column, Table, tabulate
from bench.report.numbers import NOTHING, bounded, fixed, p_text, places

READING = (
    "How to read the effects: an effect is a difference to the reference on the axes it names, at the reference of the "
    "others; an interaction (x) is what two together do beyond the sum of what each does alone. Runs of one seed are "
    "alike, so that the seed is the unit: an effect is computed within each seed that has all its cells, and its 95 % "
    "Student t interval is over these n seeds, as in the paired table. p (Holm) and "
    "the readings are corrected for all effects of the table, so that an interval may leave out 0 where nothing is "
    "shown; a tying alone has the verdict of the differences to none. A wide interval that holds 0 shows little: see "
    "what else it holds."
)
IN_PERCENT = (
    "Computed on the logarithm of perplexity and shown in percent: where effects add up, factors multiply."
)


def as_read(fit: Factorial) -> Factorial:
    """Return the effects as people read them: those on the logarithm of a perplexity as a change of it in percent."""
    if scale_of(fit.metric) == fit.metric.name:
        return fit

    def in_percent(effect: Effect) -> Effect:
        return converted(effect, lambda end: change_of(end, fit.metric), "estimate", "low", "high")

    return replace(
        fit,
        response=f"test {fit.metric.name} (change in %)",
        effects=[in_percent(effect) for effect in fit.effects],
        within={tying: [in_percent(effect) for effect in effects] for tying, effects in fit.within.items()},
    )


def effects_table(factorial: Factorial) -> Table:
    """Make a row per effect: estimate, interval, p and reading."""
    factorial = as_read(factorial)
    decimals, effects = decimals_of(factorial.effects), factorial.effects
    columns = [
        Column[Effect](
            f"effect on\n{factorial.response.replace(' (', chr(10) + '(', 1)}",
            lambda effect: fixed(effect.estimate, decimals, sign=True),
        ),
        Column[Effect](
            "95 % interval", lambda effect: interaction_text(effect, decimals).partition(" ")[2] or NOTHING
        ),
        Column[Effect]("n", _seeds),
        Column[Effect]("p", lambda effect: p_text(effect.p)),
        Column[Effect]("p (Holm)", lambda effect: p_text(effect.p_holm)),
        Column[Effect]("reading", lambda effect: effect.reading, align="l"),
    ]
    return tabulate(["effect"], [[effect.term] for effect in effects], columns, effects)


def factorial_lines(factorial: Factorial) -> list[str]:
    """Say below the table: the main question answered per tying, what is not in the effects, and how to read it."""
    read = as_read(factorial)
    seeds = ", ".join(map(str, factorial.seeds))
    made_of = f"Made of {factorial.n} runs at seeds {seeds}; reference: {factorial.reference}."
    left_out = [f"Not in the effects: {'; '.join(factorial.left_out)}."] if factorial.left_out else []
    in_percent = [] if read is factorial else [IN_PERCENT]
    return [*(_answer(read, tying) for tying in read.within), made_of, *left_out, *in_percent, READING]


def _seeds(effect: Effect) -> str:
    """`5`, or `3 of 5` where seeds lack a run in one of its cells."""
    return str(effect.n) if effect.n == effect.asked else f"{effect.n} of {effect.asked}"


def _answer(factorial: Factorial, tying: str) -> str:
    """Say what each regulariser does to the response under `none` and under the tying, and how far these differ."""
    alone = [effect for effect in factorial.effects if len(effect.parts) == 1 and effect.tying is None]
    within, by_parts = factorial.within[tying], {effect.parts: effect for effect in factorial.effects}
    both = [by_parts[effect.parts] for effect in within]
    decimals = decimals_of([*alone, *within, *both])
    sentences = [
        f"{main.term}: {pair.reading}; it moves {factorial.response} by {interaction_text(main, decimals)} under none "
        f"and by {interaction_text(under, decimals)} under {tying}, a difference of "
        f"{interaction_text(pair, decimals)}"
        for main, under, pair in zip(alone, within, both, strict=True)
    ]
    regularisers = list(dict.fromkeys(main.term.rpartition(" ")[0] for main in alone))
    pronoun = "it" if len(regularisers) == 1 else "them"
    return f"Does {tying} replace {' and '.join(regularisers)}, or add to {pronoun}? {'. '.join(sentences)}."


def interaction_text(effect: Effect, decimals: int) -> str:
    """`+1.20 [+0.80, +1.60]`"""
    return bounded(effect.estimate, effect.low, effect.high, decimals, sign=True)


def decimals_of(effects: list[Effect]) -> int:
    """Return the decimals at which the median bound of an interval has three digits, two at least."""
    return max(2, places([bound for effect in effects for bound in _bounds(effect)], 3))


def _bounds(effect: Effect) -> tuple[float, ...]:
    return (effect.estimate,) if effect.low is None else (effect.low, effect.high)


def csv_rows(section: Section, factorial: Factorial) -> list[dict[str, Any]]:
    """Return a row per effect, numbers unrounded."""
    about = {
        **section.about,
        "response": factorial.response,
        "reference": factorial.reference,
        "n_runs": factorial.n,
    }
    keys = ("term", "estimate", "low", "high", "n", "asked", "p", "p_holm", "reading")
    return [about | {key: getattr(effect, key) for key in keys} for effect in factorial.effects]
