"""results/performance.md from the figures that were measured: each part with its table, its terms and its units."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator

from bench.report.markup import Table, markdown
from bench.report.numbers import NOTHING, bounded, fixed, short_count

MARK = "<!-- made by `make perf`; do not edit -->\n"
PICTURE = "growth"

PANEL = (2.9, 2.7)
LOOKS = {"GRU": ("#0072B2", "o", "-"), "transformer": ("#D55E00", "s", "--")}
COSTS = {"step_s": ("training step (ms)", 1e3), "peak_bytes": ("peak memory (MiB)", 2**-20)}
"""What grows, with its label and the scale of its unit."""
AXIS_NAMES = {"tied": "tied layers"}
"""Axes that read otherwise than they are called."""

Row = Mapping[str, Any]
Part = Mapping[str, Any]
"""Figures of a part of the page: its `rows`, and what they were measured with."""
Columns = Sequence[tuple[str, Callable[[Row], str]]]
"""Header and text of a row, for each column."""


def _table(part: Part, words: Columns, figures: Columns, left: int | None = None) -> Table:
    """Make a table; a row without figures has its reason in place of the first.

    Args:
        words: columns that every row has.
        left: how many columns are text; None: `words`.
    """
    columns, rows = [*words, *figures], []
    for row in part["rows"]:
        if "reason" in row:
            rows.append([*(text(row) for _, text in words), row["reason"], *[NOTHING] * (len(figures) - 1)])
        else:
            rows.append([text(row) for _, text in columns])
    left = len(words) if left is None else left
    return Table([header for header, _ in columns], "l" * left + "r" * (len(columns) - left), rows)


def _word(key: str) -> Callable[[Row], str]:
    return lambda row: row[key] or NOTHING


def _scaled(key: str, scale: float, decimals: int) -> Callable[[Row], str]:
    return lambda row: fixed(row[key] * scale, decimals)


def _pair(ours: str, theirs: str, ratio_header: str = "ratio") -> Columns:
    """Return columns of milliseconds of either side, and their ratio; the first of a pair is ours."""

    def milliseconds(side: str) -> Callable[[Row], str]:
        return lambda row: fixed(1e3 * row["pair"][side]["median_s"], 2) + _mark(row)

    def ratio_text(row: Row) -> str:
        return bounded(*(row["pair"][key] for key in ("ratio", "low", "high")), 3) + _mark(row)

    return ((ours, milliseconds("tied")), (theirs, milliseconds("untied")), (ratio_header, ratio_text))


def _parameters(row: Row) -> str:
    return f"{short_count(row['num_params'])} / {short_count(row['num_params_untied'])}"


def _mark(row: Row) -> str:
    return "?" if row.get("suspect") else ""


def _over(row: Row) -> str:
    """Return the ratio's excess over 1 in milliseconds of the other side: steadier than a difference of medians."""
    pair = row["pair"]
    theirs = 1e3 * pair["untied"]["median_s"]
    ends = (None if pair[key] is None else (pair[key] - 1) * theirs for key in ("ratio", "low", "high"))
    return bounded(*ends, 2, sign=True)


SUBJECT = ("network", _word("subject"))
AGAINST = ("against", _word("way"))
TURNS = ("turns", lambda row: str(row["pair"]["turns"]))
N = ("n", lambda row: f"{row['pair']['turns']} x {row['steps']}")
MIB = 2**-20


def _of_floor(row: Row) -> float:
    return row["step_s"] / row["floor_s"]


def _times_as_fast(row: Row) -> float:
    return 1 / row["pair"]["ratio"]


def floor(part: Part) -> Table:
    def output_flops(row: Row) -> str:
        flops = row["output_flops"]
        return f"{fixed(flops / 1e9, 2)} in {row['output_precision']}" if flops else NOTHING

    figures = (
        ("GFLOP a step", lambda row: fixed((row["body_flops"] + row["output_flops"]) / 1e9, 2)),
        ("of these in the output layer", output_flops),
        ("MB after backward", _scaled("bytes", 1e-6, 1)),
        ("floor ms", _scaled("floor_s", 1e3, 2)),
        ("step ms", _scaled("step_s", 1e3, 2)),
        ("step / floor", lambda row: fixed(_of_floor(row), 2)),
    )
    return _table(part, [SUBJECT], figures)


def overhead(part: Part) -> Table:
    return _table(part, [SUBJECT, AGAINST], [*_pair("ours ms", "theirs ms"), ("over ms", _over), N])


def defaults(part: Part) -> Table:
    figures = (
        *_pair("ours ms", "theirs ms"),
        ("times as fast", lambda row: fixed(_times_as_fast(row), 2)),
        ("nll ours", _scaled("nll", 1, 4)),
        ("nll theirs", _scaled("nll_of_way", 1, 4)),
        ("peak MiB ours", _scaled("peak_bytes", MIB, 1)),
        ("peak MiB theirs", _scaled("peak_bytes_of_way", MIB, 1)),
        ("ratio of peaks", lambda row: fixed(row["peak_bytes"] / row["peak_bytes_of_way"], 2)),
        N,
    )
    return _table(part, [SUBJECT, AGAINST], figures)


def output(part: Part) -> Table:
    def shape(row: Row) -> str:
        return f"{row['positions']:,} x {row['width']}"

    def vocabulary(row: Row) -> str:
        return f"{row['vocabulary']:,}"

    plain: dict[tuple[str, str], int] = {}
    for row in part["rows"]:
        if "peak_bytes" in row:  # the plain form comes first
            plain.setdefault((shape(row), vocabulary(row)), row["peak_bytes"])
    words = (("positions x width", shape), ("vocabulary", vocabulary), ("form", _word("form")))
    took, _, compared = _pair("ms", "", "ratio to plain")
    figures = (
        took,
        compared,
        ("peak MiB", _scaled("peak_bytes", MIB, 1)),
        ("of plain's peak", lambda row: fixed(row["peak_bytes"] / plain[shape(row), vocabulary(row)], 2)),
        TURNS,
    )
    return _table(part, words, figures)


def precision(part: Part) -> Table:
    words = (
        ("task", _word("subject")),
        ("output layer", _word("output_precision")),
        ("below it", _word("precision")),
    )
    return _table(part, words, [*_pair("step ms", "step ms, float32"), TURNS])


def growth(part: Part) -> Table:
    def exponent(key: str) -> Callable[[Row], str]:
        def text(row: Row) -> str:
            slope, error = row["exponents"][key]
            return fixed(slope, 2) + ("" if error is None else f" ± {fixed(error, 2)}")

        return text

    def costs(key: str) -> Callable[[Row], str]:
        return lambda row: ", ".join(fixed(COSTS[key][1] * value, 1) for value in row[key])

    words = (("network", _word("network")), ("against", lambda row: AXIS_NAMES.get(row["axis"], row["axis"])))
    figures = (
        ("sizes", lambda row: ", ".join(f"{size:,}" for size in row["at"])),
        ("step ms", costs("step_s")),
        ("exponent", exponent("step_s")),
        ("peak MiB", costs("peak_bytes")),
        ("exponent", exponent("peak_bytes")),
    )
    return _table(part, words, figures)


def views(part: Part) -> Table:
    words = (("what is shared", _word("subject")), ("made", _word("form")))
    figures = (("parameters tied / untied", _parameters), *_pair("ms tied", "ms untied"), TURNS)
    return _table(part, words, figures)


def compiled(part: Part) -> Table:
    figures = (*_pair("compiled ms", "plain ms"), ("first steps s", _scaled("first_s", 1, 1)), TURNS)
    return _table(part, [SUBJECT, ("mode", _word("mode"))], figures)


def gpu(part: Part) -> Table:
    def per_second(side: str) -> Callable[[Row], str]:
        return lambda row: fixed(row["tokens"] / row["pair"][side]["median_s"], 0)

    def share_of_peak(side: str) -> Callable[[Row], str]:
        def text(row: Row) -> str:
            seconds, peak = row["pair"][side]["median_s"], row["peak_per_s"]
            return NOTHING if peak is None else f"{100 * row['flops'] / seconds / peak:.1f} %"

        return text

    figures = (
        ("precision", _word("precision")),
        ("parameters tied / untied", _parameters),
        *_pair("ms tied", "ms untied"),
        ("tokens/s tied", per_second("tied")),
        ("tokens/s untied", per_second("untied")),
        ("share of peak tied", share_of_peak("tied")),
        ("untied", share_of_peak("untied")),
    )
    return _table(part, [SUBJECT, ("tying", _word("tying"))], figures, left=3)


def page(figures: Mapping[str, Part], folder: str) -> str:
    """Return the page as markdown.

    Args:
        figures: part -> what was measured and its `provenance`.
        folder: where pictures lie, seen from the page.
    """
    pieces = [
        MARK,
        "# How fast is training here, and against what else?\n",
        *answer(figures),
        *_provenance(figures),
    ]
    for name, (title, terms, table) in SECTIONS.items():
        pieces.append(f"\n## {title}\n\n")
        if name not in figures:
            pieces.append(f"Not measured: `python -m bench.perf --only {name}`.\n")
            continue
        part = figures[name]
        pieces += [terms.format(**part) + "\n\n", markdown(table(part))]
        if reasons := [row["suspect"] for row in part["rows"] if row.get("suspect")]:
            rows = f"{len(reasons)} of {len(part['rows'])} rows"
            pieces.append(f"\n- `?` in {rows}, for instance: {reasons[0]}.\n")
        if name == "growth":
            pieces.append(f"\n![cost against size]({folder}/{PICTURE}.png)\n")
    return "".join(pieces)


def answer(figures: Mapping[str, Part]) -> list[str]:
    """Return a line for each part of ANSWERS that has figures."""
    lines = []
    for name, (ratio, text) in ANSWERS.items():
        ratios = [ratio(row) for row in figures.get(name, {"rows": ()})["rows"] if "reason" not in row]
        if ratios:
            lines.append(f"\n- {text.format(fixed(min(ratios), 2), fixed(max(ratios), 2))}")
    return lines


ANSWERS: dict[str, tuple[Callable[[Row], float], str]] = {
    "floor": (
        _of_floor,
        "A bare step takes {} to {} times the least that this machine allows.",
    ),
    "overhead": (
        lambda row: row["pair"]["ratio"],
        "A step of ours takes {} to {} times as long as another loop's with the same network, precision and batches.",
    ),
    "defaults": (
        _times_as_fast,
        "Each as it comes, a step of ours is {} to {} times as fast as that of transformers.Trainer or Lightning.",
    ),
}
"""Part -> a ratio of its rows, and what the least and the largest of them say."""

SECTIONS: dict[str, tuple[str, str, Callable[[Part], Table]]] = {
    "floor": (
        "The floor",
        "The least a step can take here: FLOPs below the output layer at the float32 matmul rate, those of the output "
        "layer at the rate of its precision, and {passes} passes over the weights (clipping 3, AdamW 7) at the copy "
        "rate. Measured on this machine: products {rates[float32]:.3g} FLOP/s in float32 and {rates[bfloat16]:.3g} in "
        "bfloat16, copies {rates[copy]:.3g} bytes/s. The step is bare: no trainer, one batch over and over, median of "
        "{rounds}. Between floor and step lie activations, small products and everything that is not a product.",
        floor,
    ),
    "overhead": (
        "Overhead alone",
        "The same network, loss, precision, optimizer and batches, trained by us (as a run of `python -m bench`, "
        "logger=none, its callbacks on, no validations) and in another loop, in turns in one process. A turn is two "
        "whole fits of either side, of fresh copies; the time of a step is that from one asking for a batch to the "
        "next. Nobody logs, saves or draws. `over` is what we take more than the other, which does not grow with the "
        "network: the smallest one tells it best. n is turns x steps of a fit.",
        overhead,
    ),
    "defaults": (
        "Our defaults against theirs",
        "The same network, optimizer and batches again, but each side as it comes: ours with its own output layer at "
        "the task's output precision, theirs with F.cross_entropy of float32 logits, their default logging and "
        "progress. transformers.Trainer saves nothing here; Lightning saves after the last step, which is not timed. "
        "Quality: mean nll on the same part of the validation split after {quality_steps} steps from the same weights. "
        "Peak: exact, of one training step.",
        defaults,
    ),
    "output": (
        "The output layer alone",
        "From what it reads (positions x width) to the loss and back to both gradients, against "
        "the plain form in turns, each turn with fresh copies, as copies differ by where they lie in memory; of the "
        "plain form against itself, so that its ratio is the noise. Peak: exact, weights and gradients included.",
        output,
    ),
    "precision": (
        "Precision",
        "The bare step of a task with trainer.output_precision (of the output layer) and trainer.precision (of what is "
        "below it) against the same in float32 throughout, in turns. The text tasks default to bf16 above 32-true: it "
        "pays wherever the processor multiplies bfloat16, and `make sweep SWEEP=precision` shows what it does to the "
        "metric.",
        precision,
    ),
    "growth": (
        "How cost grows",
        "A training step on random words, window {window}; what does not vary is depth {base[depth]}, width "
        "{base[width]}, vocabulary {base[vocabulary]}, batch {base[batch]}, nothing tied (tied layers: of 16, width "
        "128). Medians of {rounds} rounds over the sizes; peak memory is exact. Exponent b of cost = a x size^b by "
        "least squares of logarithms, ± its standard error: below 1 where fixed costs dominate.",
        growth,
    ),
    "views": (
        "What a view costs",
        "A bare training step of a network whose weights are made of what they share, once a step, against its untied "
        "twin, in turns. Lowered: the same network with the smaller modules that compute the same "
        "(`bench.tying.lowering.convolutional`, `bench.tying.attention.grouped_query`).",
        views,
    ),
    "compile": (
        "torch.compile",
        "The bare step with trainer.compile against the one without, in turns. First steps: seconds of the first "
        "{first} with an empty cache, in which it compiles.",
        compiled,
    ),
    "gpu": (
        "On a GPU",
        "Random words; the tied network against its untied twin in turns, by CUDA events. Share of peak: FLOPs "
        "(torch's counter) a second over the data sheet's for bfloat16.",
        gpu,
    ),
}
"""Part -> its title, what its table means, and the table."""


def _provenance(figures: Mapping[str, Part]) -> list[str]:
    """Return a line for each machine and state of the code that figures come from, and how to read ratios."""
    parts_of: dict[str, list[str]] = {}
    for name, part in figures.items():
        parts_of.setdefault(_measured_where(part["provenance"]), []).append(name)
    lines = [
        line if len(parts_of) == 1 else f"{line} Of: {', '.join(names)}." for line, names in parts_of.items()
    ]
    lines.append(
        "Ratios are medians over turns with their 95 % interval; times are medians. "
        "`?`: the processor was shared while this was measured.\n"
    )
    return [f"\n- {line}" for line in lines]


def _measured_where(provenance: Mapping[str, Any]) -> str:
    known = sorted(provenance["versions"].items())
    versions = ", ".join(f"{name} {version}" for name, version in known if version)
    where = f"{provenance['device']}, {provenance['cores']} cores, {provenance['threads']} thread(s) of torch"
    commit = f"{str(provenance['commit'])[:10]}{' (dirty)' if provenance['dirty'] else ''}"
    return f"Measured at commit {commit} on {where}; Python {provenance['python']}, {versions}."


GROWTH = (
    "Cost of a training step against one size at a time; the numbers are the exponents b of cost = a × size^b"
)


def growth_picture(rows: Sequence[Row]) -> Figure:
    """Draw a column of panels per axis, a row per cost, a line per network with its fitted exponent."""
    names = list(dict.fromkeys(row["axis"] for row in rows))
    figure = Figure(figsize=(PANEL[0] * len(names), PANEL[1] * len(COSTS)))
    panels = figure.subplots(len(COSTS), len(names), squeeze=False, sharey="row")
    for line, (cost, (label, scale)) in zip(panels, COSTS.items(), strict=True):
        for axes, name in zip(line, names, strict=True):
            for row in (row for row in rows if row["axis"] == name):
                colour, marker, dash = LOOKS[row["network"]]
                look = {"color": colour, "marker": marker, "linestyle": dash}
                exponent = f"{row['network']}: {fixed(row['exponents'][cost][0], 2)}"
                axes.loglog(row["at"], [scale * value for value in row[cost]], label=exponent, **look)
                axes.xaxis.set_major_locator(FixedLocator(row["at"]))
            axes.xaxis.set_major_formatter(lambda value, _: short_count(value))
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_minor_locator(NullLocator())
            axes.legend(fontsize=9)
            axes.set_xlabel(AXIS_NAMES.get(name, name))
        line[0].set_ylabel(label)
    figure.suptitle(GROWTH, x=0.06, y=0.985, ha="left", fontsize=13)
    figure.subplots_adjust(left=0.06, right=0.99, bottom=0.1, top=0.93, wspace=0.12, hspace=0.35)
    return figure
