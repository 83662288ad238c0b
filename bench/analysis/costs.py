"""Flatten cost records into columns."""

import re
from typing import Any

from bench.analysis.runs import CostRecord

STATE = ("parameters", "gradients", "optimizer_state")
PEAK = ("total", *STATE, "buffers", "activations", "temporaries", "inputs")
LATENCIES = ("batch", "one", "first_token", "per_token")

PAIRS = (
    ("train_step",),
    *(("latency", f"{what}{caches}") for what in LATENCIES for caches in ("", "_cold")),
)
"""Paths of all that is timed tied against untied."""

PLAIN = {
    "weights_on_disk_bytes": ("memory", "checkpoint_bytes"),
    "largest_batch_train_step": ("memory", "largest_batch", "train_step"),
    "largest_batch_inference": ("memory", "largest_batch", "inference"),
    "largest_batch_limit_bytes": ("memory", "largest_batch", "limit_bytes"),
    "cost_peak_allocated_bytes": ("memory", "peak_allocated_bytes"),
    "cost_peak_reserved_bytes": ("memory", "peak_reserved_bytes"),
    "cost_peak_rss_bytes": ("memory", "peak_rss_bytes"),
    "flop_train_step": ("flops", "train_step"),
    "flop_inference": ("flops", "inference"),
    "flop_per_s": ("flops", "per_s"),
    "flop_peak_per_s": ("flops", "peak_per_s"),
    "flop_share_of_peak": ("flops", "share_of_peak"),
    "energy_train_step_j": ("energy", "train_step_j"),
    "compile_s": ("compile_s",),
    "cost_threads": ("threads",),
}
TEXTS = {
    "cost_status": ("status",),
    "cost_reason": ("reason",),
    "flop_peak_source": ("flops", "peak"),
    "energy_unavailable": ("energy", "unavailable"),
    "memory_meter": ("memory", "meter"),
    "cost_precision": ("precision",),
    "cost_output_precision": ("output_precision",),
    "cost_device": ("device",),
}

DETAIL = re.compile(
    r"^predicted_|^peak_\w+(?<!total)_bytes$|_untied_\w+$|_(p90_s|p99_s|n|turns|batch|window)$|^memory_meter$"
)
"""Columns that a summary does without."""


def cost_columns(cost: CostRecord) -> dict[str, Any]:
    """All of a record, the same columns for every task and for none; `train_step_median_s` is of the tied network."""
    paths = {f"state_{part}_bytes": ("memory", "state", part) for part in STATE}
    paths |= {f"predicted_{part}_bytes": ("memory", "predicted", part) for part in STATE}
    for step in ("train_step", "inference"):
        paths |= {f"peak_{step}_{part}_bytes": ("memory", step, part) for part in PEAK}
    paths |= PLAIN
    for pair in PAIRS:
        paths |= _paired(pair)
    row = {name: cost.number(*path) for name, path in paths.items()}
    row |= {name: cost.value(*path) for name, path in TEXTS.items()}
    return row | {"suspect": "; ".join(cost.suspect)}


def cost_summary(cost: CostRecord) -> dict[str, Any]:
    """What stands beside each run: of a peak its total, of a pair the tied median and the ratio."""
    return {name: value for name, value in cost_columns(cost).items() if not DETAIL.search(name)}


def _paired(pair: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    name = "_".join(pair)
    paths = {
        f"{name}_ratio": (*pair, "ratio"),
        f"{name}_ratio_low": (*pair, "low"),
        f"{name}_ratio_high": (*pair, "high"),
        f"{name}_turns": (*pair, "turns"),
        f"{name}_batch": (*pair, "batch"),
        f"{name}_window": (*pair, "window"),
    }
    for side, prefix in (("tied", name), ("untied", f"{name}_untied")):
        paths |= {f"{prefix}_{key}": (*pair, side, key) for key in ("median_s", "p90_s", "p99_s", "n")}
    return paths
