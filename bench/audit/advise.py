"""`python -m bench.advise MODEL --tokens 2e8`: what would tying do to this model, and how sure is that?"""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path

from threadpoolctl import threadpool_limits

from bench.analysis.prediction import LEVEL, MATTERS
from bench.audit.advice import Advice, Experiment, Option, advise, as_json
from bench.audit.load import ALLOWED
from bench.audit.sizes import NETWORKS, YOURS, Given, sized
from bench.report.document import html
from bench.report.markup import Column, Table, markdown, plain, tabulate
from bench.report.numbers import NOTHING, bounded, fixed, short_count
from bench.runs.command_line import Parser, add_places, framed, parser
from bench.runs.store import write_bytes_atomic

EXAMPLES = """examples:
  python -m bench.advise ~/models/gpt2 --tokens 2e8 --passes 3         a folder or hub name of transformers
  python -m bench.advise runs/1a2b3c4d5e6f --tokens 3e5                a run
  python -m bench.advise my.package:model --tokens 1e7 --vocab 8000    a function that returns the model
  python -m bench.advise task=text_gru model.width=128 data=wikitext2  a task, by the keys of `python -m bench`
  python -m bench.advise task=text_gru model=mine --config-dir=DIR/conf  the same, with a model of your own
"""
HOW = (
    "A change of perplexity of x % is a change of nll of log(1 + x / 100), per token, or per image. Intervals are "
    f"{100 * LEVEL:.0f} % and conformal: as wide as the errors at measured points that the model of the map had not "
    "seen. Parameters and bytes are counted on the model itself, against the same one with nothing shared; optimizer "
    "state and gradients come on top. Steps and latency: tied / untied at the nearest point where they were timed. "
    "Points: measured ones that a prediction is made from. How predictions fared at places that they had not seen: "
    "map/predictions.md in the folder of results."
)


# Its matrices are small: threads that wait for a busy core cost more than the sums.
@framed
@threadpool_limits.wrap(limits=1)
def main(arguments: Sequence[str] | None = None) -> None:
    """Print what the map says of the model that the command line names."""
    chosen = _options().parse_args(arguments)
    flags = Given(**{flag.name: getattr(chosen, flag.name) for flag in fields(Given)})
    advice = advise(sized(chosen.model, flags, chosen.config_dir), Path(chosen.results))
    if chosen.out is not None:
        write(advice, chosen.out)
    print(json.dumps(as_json(advice), indent=2) if chosen.json else page(advice, plain, ""))


def write(advice: Advice, folder: Path) -> None:
    """Write advice.md, .html and .json into `folder`. BadInput where they cannot be written."""
    text = page(advice, markdown, "#")
    files = {
        ".md": text,
        ".html": html(f"Tying {advice.sized.name}", text),
        ".json": json.dumps(as_json(advice), indent=2),
    }
    for ending, content in files.items():
        write_bytes_atomic(folder / f"advice{ending}", content.encode())


def page(advice: Advice, table_text: Callable[[Table], str], mark: str) -> str:
    """Return the page, its tables as `table_text` writes them, its headings after `mark`."""
    lines = [f"{mark}{mark and ' '}Tying {advice.sized.name}", "", *_first(advice), ""]
    for heading, content in _sections(advice):
        lines += [f"{mark}{mark} {heading}".strip(), ""]
        lines += [table_text(content).rstrip() if isinstance(content, Table) else _listed(content), ""]
    return "\n".join([*lines, HOW, ""])


def _listed(sentences: Sequence[str]) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences)


def _first(advice: Advice) -> list[str]:
    """Say first what a reader who reads nothing else should know."""
    point = advice.sized.point
    words = f"{point.vocabulary:,} words, " if point.vocabulary else ""
    place = (
        f"{point.network}, {words}{point.depth} blocks x {point.width}, {short_count(point.parameters)} parameters "
        f"with nothing shared, {point.tokens:,} {'tokens' if point.is_text else 'examples'} x {point.passes:g}"
        f"{'' if point.corpus == YOURS else f' of {point.corpus}'}."
    )
    own = ["It shares its input and output embedding already."] if advice.sized.ties_itself else []
    if advice.is_outside:
        reasons = _reasons(advice.options)
        return [
            f"Outside of what was measured, so there is no prediction: {'; '.join(reasons)}."
            if reasons
            else "No tying applies to this network.",
            "",
            " ".join([place, *own]),
        ]
    if advice.choice is None:
        answer = f"No tying is sure to be no worse than {MATTERS:g} %."
    else:
        mean, low, high, _ = advice.choice.percent
        answer = (
            f"At no worse than {MATTERS:g} %: take {advice.choice.method}. It saves {_share(advice.choice)} of the "
            f"parameters, and perplexity changes by {_signed(mean)} % [{_signed(low)}, {_signed(high)}]."
        )
    partly = [option for option in advice.options if option.outside]
    left = [
        f"Without a prediction, as outside of what was measured: {', '.join(o.method for o in partly)}."
    ] * bool(partly)
    return [answer, "", " ".join([place, *own, *left])]


def _reasons(options: Sequence[Option]) -> list[str]:
    """Return in what the model is outside of all that was measured, each variable once."""
    by_variable: dict[str, str] = {}
    for option in options:
        for reason in option.outside:
            by_variable.setdefault(reason.partition(", ")[0], reason)
    return list(by_variable.values())


def _signed(value: float | None) -> str:
    return fixed(value, 1, sign=True)


def _share(option: Option) -> str:
    return f"{100 * option.saved / (option.saved + option.parameters):.0f} %"


def _sections(advice: Advice) -> list[tuple[str, Table | list[str]]]:
    sections: list[tuple[str, Table | list[str]]] = [("What each tying would do", _table(advice.options))]
    notes = [
        f"{option.method} does not apply: {option.reason}." for option in advice.options if option.reason
    ]
    notes += [
        f"{option.method} is outside: {'; '.join(option.outside)}."
        for option in advice.options
        if option.outside
    ]
    if notes:
        sections.append(("Left out", notes))
    if based := [line for option in advice.options for line in _basis(option)]:
        sections.append(("Based on", based))
    sections.append(("What would decide", _decides(advice.experiment)))
    return sections


def _table(options: Sequence[Option]) -> Table:
    shown = [option for option in options if not option.reason]

    def change(option: Option, is_nll: bool) -> str:
        if option.predicted is None:
            return NOTHING
        mean, low, high, _ = option.predicted if is_nll else option.percent
        text = bounded(mean, low, high, 3 if is_nll else 1, sign=True)
        return text if low is not None else f"{text} (no interval)"

    columns = [
        Column("nll", lambda option: change(option, True)),
        Column("perplexity %", lambda option: change(option, False)),
        Column("parameters", lambda option: short_count(option.parameters)),
        Column("saved", lambda option: f"{short_count(option.saved)} {_share(option)}"),
        Column("bytes saved", lambda option: f"{option.saved_bytes:,}"),
        Column("step", lambda option: fixed(option.step_ratio, 3)),
        Column("latency", lambda option: fixed(option.latency_ratio, 3)),
        Column("points", lambda option: str(option.predicted.n) if option.predicted else NOTHING),
    ]
    return tabulate(["tying"], [[option.method] for option in shown], columns, shown)


def _basis(option: Option) -> list[str]:
    lines = [
        f"{row.label}, measured: {row.point.title}: {_signed(row.percent)} % (n = {row.n}; {', '.join(row.sweeps)})"
        for row in option.nearest
    ]
    return lines + [f"{option.method}, published: {row.shown}" for row in option.published]


def _decides(experiment: Experiment | None) -> list[str]:
    if experiment is None:
        return ["Nothing that would save more is open."]
    if experiment.seeds is None:
        return [f"{experiment.option}: no number of seeds would tell it from {MATTERS:g} %."]
    minutes = (
        "" if experiment.minutes is None else f", about {max(1, round(experiment.minutes)):,} core-minutes"
    )
    lines = [
        f"{experiment.option}: {experiment.seeds} seeds of it and of none show a difference of {experiment.show:.2g} % "
        f"in four of five such experiments{minutes}.",
        f"`{experiment.command}`",
    ]
    if experiment.is_stand_in:
        lines.append(
            "This trains a network of the bench in place of yours. To train your own, name it in a file "
            "(docs/data.md, A model of your own) and ask with task=... model=mine --config-dir=DIR/conf."
        )
    return lines


def _options() -> Parser:
    options = parser(
        "bench.advise",
        "What tying would do to a model: sizes, predicted losses, and what would decide.",
        EXAMPLES,
    )
    options.add_argument("model", metavar="MODEL", nargs="+", help=f"{ALLOWED}; or keys of a task")
    options.add_argument(
        "--tokens", type=float, help="different training tokens, or images (a task knows its own)"
    )
    options.add_argument(
        "--passes", type=float, help="how often training reads them (default: 1, or the task's)"
    )
    options.add_argument("--vocab", type=int, help="rows of the embedding, where they cannot be read")
    options.add_argument("--depth", type=int, help="blocks, where they cannot be read")
    options.add_argument("--width", type=int, help="units of a block, where they cannot be read")
    options.add_argument("--network", help=f"the kind, where it cannot be read: {', '.join(NETWORKS)}")
    options.add_argument("--dropout", type=float, help="while training (default: as the model has it)")
    options.add_argument("--weight-decay", type=float, help="of AdamW (default: 0)")
    options.add_argument(
        "--config-dir", metavar="DIR", help="further choices for keys of a task, such as DIR/model/mine.yaml"
    )
    add_places(options, results="that holds the map")
    options.add_argument(
        "--out", type=Path, metavar="FOLDER", help="write advice.md, .html and .json there too"
    )
    options.add_argument("--json", action="store_true", help="print JSON")
    return options


if __name__ == "__main__":
    sys.exit(main())
