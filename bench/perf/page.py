"""results/performance.md from the figures that were measured: each part with its table, its terms and its units."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator

from bench.report.markup import Table, markdown
from bench.report.numbers import NOTHING, fixed, ratio, short_count

MARK = "<!-- made by `make perf`; do not edit -->\n"
PICTURE = "growth"

PANEL = (2.9, 2.7)
LOOKS = {"GRU": ("#0072B2", "o", "-"), "transformer": ("#D55E00", "s", "--")}
COSTS = {"step_s": ("training step (ms)", 1e3), "peak_bytes": ("peak memory (MiB)", 2**-20)}
"""What grows, with its label and the scale of its unit."""

Row = Mapping[str, Any]
Part = Mapping[str, Any]
"""Figures of a part of the page: its `rows`, and what they were measured with."""


def floor(part: Part) -> Table:
    header = ["network", "GFLOP a step", "of these in the output layer", "MB after backward"]
    header += ["floor ms", "step ms", "step / floor"]
    rows = [
        [
            row["subject"],
            fixed((row["body_flops"] + row["output_flops"]) / 1e9, 2),
            f"{fixed(row['output_flops'] / 1e9, 2)} in {row['output_precision']}"
            if row["output_flops"]
            else NOTHING,
            fixed(row["bytes"] / 1e6, 1),
            fixed(row["floor_s"] * 1e3, 2),
            fixed(row["step_s"] * 1e3, 2),
            fixed(row["step_s"] / row["floor_s"], 2),
        ]
        for row in part["rows"]
    ]
    return _table(header, rows)


def overhead(part: Part) -> Table:
    header = ["network", "against", "ours ms", "theirs ms", "ratio", "over ms", "n"]
    return _table(
        header, [[row["subject"], row["way"], *_pair(row), _over(row), _n(row)] for row in part["rows"]], 2
    )


def defaults(part: Part) -> Table:
    header = ["network", "against", "ours ms", "theirs ms", "ratio", "times as fast"]
    header += ["nll ours", "nll theirs", "peak MiB ours", "peak MiB theirs", "ratio of peaks", "n"]
    rows = [
        [
            row["subject"],
            row["way"],
            *_pair(row),
            fixed(1 / row["pair"]["ratio"], 2),
            fixed(row["nll"], 4),
            fixed(row["nll_of_way"], 4),
            _mib(row["peak_bytes"]),
            _mib(row["peak_bytes_of_way"]),
            fixed(row["peak_bytes"] / row["peak_bytes_of_way"], 2),
            _n(row),
        ]
        for row in part["rows"]
    ]
    return _table(header, rows, 2)


def output(part: Part) -> Table:
    header = [
        "positions x width",
        "vocabulary",
        "form",
        "ms",
        "ratio to plain",
        "peak MiB",
        "of plain's peak",
    ]
    header.append("turns")
    rows = []
    plain = {}
    for row in part["rows"]:
        words = [f"{row['positions']:,} x {row['width']}", f"{row['vocabulary']:,}", row["form"]]
        if "reason" in row:
            rows.append([*words, row["reason"], *[NOTHING] * 4])
            continue
        plain.setdefault(tuple(words[:2]), row["peak_bytes"])  # the plain form comes first
        took, _, compared = _pair(row)
        share = fixed(row["peak_bytes"] / plain[tuple(words[:2])], 2)
        rows.append([*words, took, compared, _mib(row["peak_bytes"]), share, str(row["pair"]["turns"])])
    return _table(header, rows, 3)


def precision(part: Part) -> Table:
    header = ["task", "output layer", "below it", "step ms", "step ms, float32", "ratio", "turns"]
    rows = [
        [
            row["subject"],
            row["output_precision"] or NOTHING,
            row["precision"],
            *_pair(row),
            str(row["pair"]["turns"]),
        ]
        for row in part["rows"]
    ]
    return _table(header, rows, 3)


def growth(part: Part) -> Table:
    header = ["network", "against", "sizes", "step ms", "exponent", "peak MiB", "exponent"]
    rows = []
    for row in part["rows"]:
        texts = []
        for key, (_, scale) in COSTS.items():
            slope, error = row["exponents"][key]
            spread = "" if error is None else f" ± {fixed(error, 2)}"
            texts += [", ".join(fixed(scale * value, 1) for value in row[key]), fixed(slope, 2) + spread]
        name = "tied layers" if row["axis"] == "tied" else row["axis"]
        rows.append([row["network"], name, ", ".join(f"{at:,}" for at in row["at"]), *texts])
    return _table(header, rows, 2)


def compiled(part: Part) -> Table:
    header = ["network", "mode", "compiled ms", "plain ms", "ratio", "first steps s", "turns"]
    rows = [
        [row["subject"], row["mode"], row["reason"], *[NOTHING] * 4]
        if "reason" in row
        else [row["subject"], row["mode"], *_pair(row), fixed(row["first_s"], 1), str(row["pair"]["turns"])]
        for row in part["rows"]
    ]
    return _table(header, rows, 2)


def gpu(part: Part) -> Table:
    header = ["network", "tying", "precision", "parameters tied / untied", "ms tied", "ms untied", "ratio"]
    header += ["tokens/s tied", "tokens/s untied", "share of peak tied", "untied"]
    return _table(header, [_gpu_row(row) for row in part["rows"]], 3)


def _gpu_row(row: Row) -> list[str]:
    first = [row["subject"], row["tying"]]
    if "reason" in row:
        return [*first, row["reason"], *[NOTHING] * 8]
    seconds = [row["pair"][side]["median_s"] for side in ("tied", "untied")]
    peak = row["peak_per_s"]
    shares = [NOTHING if peak is None else f"{100 * row['flops'] / one / peak:.1f} %" for one in seconds]
    counts = f"{short_count(row['num_params'])} / {short_count(row['num_params_untied'])}"
    per_s = [fixed(row["tokens"] / one, 0) for one in seconds]
    return [*first, row["precision"], counts, *_pair(row), *per_s, *shares]


def _pair(row: Row) -> list[str]:
    """Milliseconds of either side, and their ratio; the first of a pair is ours."""
    pair = row["pair"]
    mark = "?" if row.get("suspect") else ""
    times = [fixed(1e3 * pair[side]["median_s"], 2) + mark for side in ("tied", "untied")]
    return [*times, ratio(pair["ratio"], pair["low"], pair["high"]) + mark]


def _over(row: Row) -> str:
    """The ratio's excess over 1, in milliseconds of the other side: steadier than a difference of medians."""
    pair = row["pair"]
    theirs = 1e3 * pair["untied"]["median_s"]
    at, low, high = (
        None if r is None else fixed((r - 1) * theirs, 2, sign=True)
        for r in (pair["ratio"], pair["low"], pair["high"])
    )
    return at if low is None else f"{at} [{low}, {high}]"


def _n(row: Row) -> str:
    return f"{row['pair']['turns']} x {row['steps']}"


def _mib(count: int) -> str:
    return fixed(count / 2**20, 1)


def _table(header: list[str], rows: Sequence[list[str]], words: int = 1) -> Table:
    """The first `words` columns are text."""
    return Table(header, "l" * words + "r" * (len(header) - words), list(rows))


def page(figures: Mapping[str, Part], folder: str) -> str:
    """Markdown. figures: part -> what was measured and `provenance`; `folder` is where pictures lie, seen from it."""
    told = [MARK, "# Performance\n", *_provenance(figures)]
    for part, (title, terms, table) in SECTIONS.items():
        told.append(f"\n## {title}\n\n")
        if part not in figures:
            told.append(f"Not measured: `python -m bench.perf --only {part}`.\n")
            continue
        found = figures[part]
        told += [terms.format(**found) + "\n\n", markdown(table(found)), *_suspects(found)]
        if part == "growth":
            told.append(f"\n![cost against size]({folder}/{PICTURE}.png)\n")
    return "".join(told)


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
    """A line for each machine and state of the code that figures come from."""
    lines: dict[str, list[str]] = {}
    for part, found in figures.items():
        lines.setdefault(_spoken(found["provenance"]), []).append(part)
    alone = len(lines) == 1
    return [
        f"\n- {line}{'' if alone else ' Of: ' + ', '.join(parts) + '.'}" for line, parts in lines.items()
    ] + [
        "\n- Ratios are medians over turns with their 95 % interval; times are medians. "
        "`?`: the processor was shared while this was measured.\n"
    ]


def _spoken(provenance: Mapping[str, Any]) -> str:
    dirty = " (dirty)" if provenance["dirty"] else ""
    versions = ", ".join(
        f"{name} {version}" for name, version in sorted(provenance["versions"].items()) if version
    )
    where = f"{provenance['device']}, {provenance['cores']} cores, {provenance['threads']} thread(s) of torch"
    commit = f"{str(provenance['commit'])[:10]}{dirty}"
    return f"Measured at commit {commit} on {where}; Python {provenance['python']}, {versions}."


def _suspects(part: Part) -> list[str]:
    reasons = [row["suspect"] for row in part["rows"] if row.get("suspect")]
    if not reasons:
        return []
    return [f"\n- `?` in {len(reasons)} of {len(part['rows'])} rows, for instance: {reasons[0]}.\n"]


def growth_picture(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """A column of panels per axis, a row per cost, a line per network with its fitted exponent."""
    axes_names = list(dict.fromkeys(row["axis"] for row in rows))
    made = Figure(figsize=(PANEL[0] * len(axes_names), PANEL[1] * len(COSTS)))
    panels = made.subplots(len(COSTS), len(axes_names), squeeze=False, sharey="row")
    for line, (cost, (label, scale)) in zip(panels, COSTS.items(), strict=True):
        for axes, name in zip(line, axes_names, strict=True):
            for row in (row for row in rows if row["axis"] == name):
                _draw(axes, row, cost, scale)
            axes.set_xlabel("tied layers" if name == "tied" else name)
        line[0].set_ylabel(label)
    made.subplots_adjust(left=0.06, right=0.99, bottom=0.1, top=0.98, wspace=0.12, hspace=0.35)
    return made


def _draw(axes: Axes, row: Mapping[str, Any], cost: str, scale: float) -> None:
    colour, marker, dash = LOOKS[row["network"]]
    look = {"color": colour, "marker": marker, "linestyle": dash}
    label = f"{row['network']}: {row['exponents'][cost][0]:.2f}"
    axes.loglog(row["at"], [scale * value for value in row[cost]], label=label, **look)
    axes.xaxis.set_major_locator(FixedLocator(row["at"]))
    axes.xaxis.set_major_formatter(lambda value, _: short_count(value))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_locator(NullLocator())
    axes.legend(fontsize=9)
