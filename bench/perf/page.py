"""results/performance.md from the figures that were measured: each part with its table, its terms and its units."""

from collections.abc import Callable, Mapping
from typing import Any

from bench.perf import tables
from bench.report.markup import Table, markdown

MARK = "<!-- made by `make perf`; do not edit -->\n"
PICTURE = "growth"

Figures = Mapping[str, Mapping[str, Any]]


def page(figures: Figures, folder: str) -> str:
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


SECTIONS: dict[str, tuple[str, str, Callable[[Mapping[str, Any]], Table]]] = {
    "floor": (
        "The floor",
        "The least a step can take here: FLOPs below the output layer at the float32 matmul rate, those of the output "
        "layer at the rate of its precision, and {passes} passes over the weights (clipping 3, AdamW 7) at the copy "
        "rate. Measured on this machine: products {rates[float32]:.3g} FLOP/s in float32 and {rates[bfloat16]:.3g} in "
        "bfloat16, copies {rates[copy]:.3g} bytes/s. The step is bare: no trainer, one batch over and over, median of "
        "{rounds}. Between floor and step lie activations, small products and everything that is not a product.",
        tables.floor,
    ),
    "overhead": (
        "Overhead alone",
        "The same network, loss, precision, optimizer and batches, trained by us (as a run of `python -m bench`, "
        "logger=none, its callbacks on, no validations) and in another loop, in turns in one process. A turn is two "
        "whole fits of either side, of fresh copies; the time of a step is that from one asking for a batch to the "
        "next. Nobody logs, saves or draws. `over` is what we take more than the other, which does not grow with the "
        "network: the smallest one tells it best. n is turns x steps of a fit.",
        tables.overhead,
    ),
    "defaults": (
        "Our defaults against theirs",
        "The same network, optimizer and batches again, but each side as it comes: ours with its own output layer at "
        "the task's output precision, theirs with F.cross_entropy of float32 logits, their default logging and "
        "progress. transformers.Trainer saves nothing here; Lightning saves after the last step, which is not timed. "
        "Quality: mean nll on the same part of the validation split after {quality_steps} steps from the same weights. "
        "Peak: exact, of one training step.",
        tables.defaults,
    ),
    "output": (
        "The output layer alone",
        "From what it reads (positions x width) to the loss and back to both gradients, against "
        "the plain form in turns, each turn with fresh copies, as copies differ by where they lie in memory; of the "
        "plain form against itself, so that its ratio is the noise. Peak: exact, weights and gradients included.",
        tables.output,
    ),
    "precision": (
        "Precision",
        "The bare step of a task with trainer.output_precision (of the output layer) and trainer.precision (of what is "
        "below it) against the same in float32 throughout, in turns. The text tasks default to bf16 above 32-true: it "
        "pays wherever the processor multiplies bfloat16, and `make sweep SWEEP=precision` shows what it does to the "
        "metric.",
        tables.precision,
    ),
    "growth": (
        "How cost grows",
        "A training step on random words, window {window}; what does not vary is depth {base[depth]}, width "
        "{base[width]}, vocabulary {base[vocabulary]}, batch {base[batch]}, nothing tied (tied layers: of 16, width "
        "128). Medians of {rounds} rounds over the sizes; peak memory is exact. Exponent b of cost = a x size^b by "
        "least squares of logarithms, ± its standard error: below 1 where fixed costs dominate.",
        tables.growth,
    ),
    "compile": (
        "torch.compile",
        "The bare step with trainer.compile against the one without, in turns. First steps: seconds of the first "
        "{first} with an empty cache, in which it compiles.",
        tables.compiled,
    ),
    "gpu": (
        "On a GPU",
        "Random words; the tied network against its untied twin in turns, by CUDA events. Share of peak: FLOPs "
        "(torch's counter) a second over the data sheet's for bfloat16.",
        tables.gpu,
    ),
}
"""Part -> its title, what its table means, and the table."""


def _provenance(figures: Figures) -> list[str]:
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


def _suspects(found: Mapping[str, Any]) -> list[str]:
    reasons = [row["suspect"] for row in found["rows"] if row.get("suspect")]
    if not reasons:
        return []
    return [f"\n- `?` in {len(reasons)} of {len(found['rows'])} rows, for instance: {reasons[0]}.\n"]
