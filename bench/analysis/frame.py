"""Flatten records into rows, and cost records into columns: what claims are tested on."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.analysis.archive import chosen_names, load
from bench.analysis.groups import flat
from bench.analysis.runs import CostRecord, RunRecord, device, is_finite, training_size
from bench.analysis.runs import rows as records

if TYPE_CHECKING:
    from pandas import DataFrame


STATE = ("parameters", "gradients", "optimizer_state")
PEAK = ("total", *STATE, "buffers", "activations", "temporaries", "inputs")
LATENCIES = ("batch", "one", "first_token", "per_token")

PAIRS = (
    ("train_step",),
    *(("latency", f"{latency}{caches}") for latency in LATENCIES for caches in ("", "_cold")),
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


def rows(runs: list[RunRecord]) -> list[dict[str, Any]]:
    """Return a row per run that was asked for, holes included, sorted; configs without file system paths."""
    order = sorted(runs, key=lambda r: (r.task, r.data, r.tying, r.dropout, r.weight_decay, r.seed, r.id))
    costs = {key: cost_summary(cost) for key, cost in {run.cost_id: run.cost for run in order}.items()}
    sparse = [_row(run, costs[run.cost_id]) for run in order]
    columns = list({key: None for row in sparse for key in row if not key.startswith("config.")})
    configs = sorted({key for row in sparse for key in row if key.startswith("config.")})
    return [{key: row.get(key) for key in columns + configs} for row in sparse]


def load_results(sweep: str, results: Path | str = "results", runs: Path | str = "runs") -> "DataFrame":
    """Return a sweep as a DataFrame, a row for each run with its config, figures and cost.

    Records are those that its tables are made of: of `runs`, and what is not there of results/<sweep>/records.jsonl.gz.

    Raises:
        BadInput: for a sweep that is in neither folder, and for a torn file.
    """
    (name,) = chosen_names([sweep], Path(runs), Path(results))
    return frame(records(load(Path(runs), Path(results), name)))


def frame(runs: list[RunRecord]) -> "DataFrame":
    """Return `rows` as a DataFrame, its columns of the types of their values; a list in a config is its text."""
    from pandas import DataFrame

    return DataFrame(
        [{key: str(v) if isinstance(v, list) else v for key, v in row.items()} for row in rows(runs)]
    )


def _row(run: RunRecord, cost: dict[str, Any]) -> dict[str, Any]:
    fields = ("id", "task", "data", "fingerprint", "tying", "dropout", "weight_decay", "seed", "cell")
    row: dict[str, Any] = {field: getattr(run, field) for field in fields} | {
        "cost": run.cost_id,
        "status": run.status.value,
        "reason": run.reason,
        "metric": run.metric.name,
        "metric_mode": run.metric.mode,
    }
    counts = ("num_params", "num_params_untied", "effective_params", "effective_params_by_use")
    for key in (*counts, "best_epoch", "epochs", "steps"):
        row[key] = run.number(key)
    row["training_size"] = training_size(run.record)
    if run.number("control"):
        row |= {f"control_{key}": run.number("control", key) for key in ("ratio", "width", "feed_forward")}
    for key, value in (run.number("start", "likeness") or {}).items():
        row[f"start_{key}"] = ";".join(f"{a}-{b}" for a, b in value) if key == "blocks" else value
    for split in ("test", "val", "train"):
        row |= {f"{split}_{key}": value for key, value in sorted((run.number(split) or {}).items())}
    if int8 := run.number("int8"):
        row |= {f"int8_test_{key}": value for key, value in sorted(int8["test"].items())}
        row |= {f"int8_{key}": int8[key] for key in ("bytes", "bytes_float")}
    row |= {
        "gap_nats": run.number("gap"),
        "last_gap_nats": run.number("last", "gap"),
        "spread_depth": run.number("spread", "depth"),
        "spread_embedding": run.number("spread", "embedding"),
        "decay_dose": run.number("decay", "dose"),
        "clipped_share": run.number("clipped_share"),
        "checkpoint_bytes": run.number("checkpoint_bytes"),
        "total_s": run.number("seconds", "total"),
        "fit_s": run.number("seconds", "fit"),
        "to_first_step_s": run.number("seconds", "to_first_step"),
        "throughput_per_s": run.number("throughput", "value"),
        "throughput_unit": run.number("throughput", "unit"),
        "peak_rss_bytes": run.number("peak_rss_bytes"),
        "curve_val_nll": _curve(run),
    }
    row |= cost | {key: run.number("provenance", key) for key in ("commit", "dirty", "threads", "python")}
    row |= {f"tree_{name}": tree for name, tree in (run.number("provenance", "trees") or {}).items()}
    row |= {f"rule.{claim}": digest for claim, digest in (run.number("rules") or {}).items()}
    row |= {"device": device(run.record), "results_version": run.number("results_version")}
    row |= {
        f"version_{name}": version
        for name, version in sorted((run.number("provenance", "versions") or {}).items())
    }
    return row | {f"config.{key}": value for key, value in flat(run.record.get("config") or {}).items()}


def _curve(run: RunRecord) -> str | None:
    """Return `step:nll;...` of each validation, at six digits; None where none is recorded."""
    steps, losses = (run.number("curves", key) or [] for key in ("step", "val_nll"))
    points = [f"{s}:{v:.6g}" for s, v in zip(steps, losses, strict=False) if is_finite(s) and is_finite(v)]
    return ";".join(points) or None


def cost_columns(cost: CostRecord) -> dict[str, Any]:
    """Return all columns, the same for every task and an empty record; `train_step_median_s` is of the tied network."""
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
    """Return the columns beside each run: of a peak its total, of a pair the tied median and the ratio."""
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
