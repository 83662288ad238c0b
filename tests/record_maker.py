"""Made-up records of a sweep, in the layout that real ones have: what the tables are tested on."""

import itertools
import math
import re
from pathlib import Path
from typing import Any

from bench.runs.store import cost_folder, manifest_path, run_folder, write_json
from bench.runs.tying_spec import Part, TyingSpec

PERPLEXITY = {"name": "perplexity", "mode": "min"}
ACCURACY = {"name": "accuracy", "mode": "max"}
TYINGS = ("none", "embedding", "cross_layer", "top_k(fraction=0.5)", "soft(strength=0.01)")
NUMBER = re.compile(r"inf|[\d.]+(e[+-]\d+)?")
UNTIED = 1_200_000
MIB = 2**20
SHARES = {"none": 1.0, "embedding": 0.85, "cross_layer": 0.4, "top_k(fraction=0.5)": 0.7}
EFFECTS = {"none": 0.0, "embedding": -0.04, "cross_layer": 0.06, "top_k(fraction=0.5)": 0.02}


def spec_of(label: str) -> TyingSpec:
    """The spec that has this label; one that knows the label alone where no spec has it."""
    text, _, start = label.partition(", start=")
    text, _, control = text.partition(", control=")
    texts = [] if text == "none" else re.split(r"\+(?![^(]*\))", text)
    begun = (("lr", 0.001), ("max_epochs", 1), ("merge", "mean")) if start else None
    spec = TyingSpec(tuple(map(_part, texts)), control or None, begun)
    return spec if spec.label == label else TyingSpec.unknown(label)


def _part(text: str) -> Part:
    name, _, inside = text.rstrip(")").partition("(")
    given = dict(item.split("=", 1) for item in inside.split(", ") if "=" in item)
    keys = {key: float(value) if NUMBER.fullmatch(value) else value for key, value in given.items()}
    keys |= {"form": "decoupled"} if "decoupled" in inside else {}
    return Part(name, tuple(sorted(keys.items())))


def entry(
    tying: str = "none", dropout: float = 0.0, weight_decay: float = 0.0, seed: int = 1, **given
) -> dict:
    """A line of a manifest; any key may be given."""
    task, data = given.get("task", "text_gru"), given.get("data", "pydocs")
    cell = f"{task}-{data}-{tying}-{dropout}-{weight_decay}".replace("/", "_")  # its folder has that name
    metric = ACCURACY if task.startswith("image") else PERPLEXITY
    spec = spec_of(tying).as_record()
    line = {
        "id": f"{cell}-{seed}",
        "task": task,
        "data": data,
        "tying": tying,
        "spec": spec,
        "dropout": dropout,
    }
    line |= {
        "weight_decay": weight_decay,
        "seed": seed,
        "cell": cell,
        "cost": f"{task}-{data}-{tying}".replace("/", "_"),
    }
    return line | {"metric": metric} | given


def record(line: dict, value: float = 100.0, val: float | None = None, **given: Any) -> dict[str, Any]:
    """A finished run's record: its test metric is `value`, its validation metric `val` (the same if None)."""
    name = line["metric"]["name"]
    nll = math.log(value) if name == "perplexity" else 2 - 2 * value
    scores = {"nll": nll, name: value}
    epochs = list(range(8))
    made = {key: line[key] for key in line if key != "metric"} | {
        "schema": 1,
        "results_version": 1,
        "status": "done",
        "reason": None,
        "metric": line["metric"],
        "config": {"optimizer": {"lr": 0.001}, "model": {"depth": 4}, "data": {"folder": "/somewhere/else"}},
        "num_params": round(UNTIED * SHARES.get(line["tying"], 1.0)),
        "num_params_untied": UNTIED,
        "test": scores,
        "val": scores | {name: value if val is None else val},
        "train": scores,
        "best_epoch": 7,
        "epochs": 8,
        "gap": 0.31,
        "spread": {"depth": 0.86, "embedding": None},
        "decay": {"dose": 0.42},
        "curves": {"epoch": epochs, "val_nll": [nll + 3 * math.exp(-2 * epoch) for epoch in epochs]},
        "seconds": {"total": 21.3, "fit": 19.0, "to_first_step": 0.4},
        "data_meta": {
            "fingerprint": "f1a2b3c4d5e6",
            "floors": {"majority_accuracy": 0.101}
            if name == "accuracy"
            else {"unigram_perplexity": 274.0, "trigram_perplexity": 54.0},
            "sizes": {"train": 420_000, "val": 25_000, "test": 23_456},
        },
        "provenance": provenance(),
    }
    return made | given


def unfinished(line: dict, status: str, reason: str | None, **given: Any) -> dict[str, Any]:
    """A record of a run that gave no number."""
    kept = (
        "id",
        "task",
        "data",
        "tying",
        "spec",
        "dropout",
        "weight_decay",
        "seed",
        "cell",
        "cost",
        "config",
    )
    made = record(line)
    return {key: made[key] for key in (*kept, "schema", "data_meta", "provenance")} | {
        "status": status,
        "reason": reason,
        **given,
    }


def provenance(**given: Any) -> dict[str, Any]:
    made = {
        "commit": "abcdef0123456789",
        "dirty": False,
        "versions": {"torch": "2.13.0", "lightning": "2.6.6"},
    }
    return made | {"host": "alpha", "device": "cpu EPYC", "threads": 1, "python": "3.11.7"} | given


def cost(line: dict, **given: Any) -> dict[str, Any]:
    """A measured cost: a tied network's step takes as much less as it has fewer parameters."""
    share = SHARES.get(line["tying"], 1.0)
    held = round(4 * UNTIED * share)
    state = {"parameters": held, "gradients": held, "optimizer_state": 2 * held}
    made = {"schema": 1, "id": line["cost"], "cost": line["cost"], "status": "done", "reason": None}
    made |= {
        "provenance": provenance(),
        "tying": line["tying"],
        "spec": spec_of(line["tying"]).as_record(),
        "num_params": held // 4,
        "num_params_untied": UNTIED,
    }
    made |= {
        "memory": {
            "state": state,
            "predicted": state,
            "train_step": peak(**state, activations=20 * MIB, inputs=8192),
            "inference": peak(parameters=held, activations=3 * MIB, inputs=8192),
            "meter": "MemTracker",
            "checkpoint_bytes": held + 2000,
            "largest_batch": {"limit_bytes": 1024 * MIB, "train_step": 800, "inference": 4000},
            "peak_rss_bytes": 512_000_000,
        },
        "train_step": turns(0.5 + 0.5 * share, 0.0315),
        "latency": {"batch": turns(1.0, 0.0112), "batch_cold": turns(0.7 + 0.3 * share, 0.0131)},
        "flops": {"train_step": 1_500_000_000, "inference": 500_000_000, "per_s": 4e10},
        "energy": {"unavailable": "no GPU"},
        "compile_s": None,
        "precision": "32-true",
        "output_precision": None if line["task"].startswith("image") else "bf16",
        "threads": 1,
        "suspect": [],
        "device": "cpu EPYC",
        "seconds": 12.5,
    }
    made["flops"] |= {"peak_per_s": 6e10, "share_of_peak": 2 / 3, "peak": "measured matmul, float32"}
    made["latency"] |= {"one": turns(1.0, 0.002, batch=1), "one_cold": turns(1.0, 0.003, batch=1)}
    if not line["task"].startswith("image"):
        for name, seconds in (("first_token", 0.004), ("per_token", 0.0009)):
            made["latency"][name] = turns(1.0, seconds, batch=1)
            made["latency"][f"{name}_cold"] = turns(0.5 + 0.5 * share, seconds * 1.5, batch=1)
    return made | given


def uncosted(line: dict, status: str, reason: str) -> dict[str, Any]:
    """The record of a cost that gave no number."""
    kept = ("schema", "id", "tying", "provenance")
    made = cost(line)
    return {key: made[key] for key in kept} | {"status": status, "reason": reason}


def turns(
    ratio: float, untied_s: float, width: float = 0.02, batch: int = 16, **given: Any
) -> dict[str, Any]:
    """A pair: the tied network takes `ratio` of the untied one's time, known to +- half of `width`."""

    def timing(seconds: float) -> dict[str, Any]:
        return {"median_s": seconds, "p90_s": 1.1 * seconds, "p99_s": None, "n": 40}

    made = {"tied": timing(ratio * untied_s), "untied": timing(untied_s), "ratio": ratio, "turns": 40}
    made |= {"low": ratio - width / 2, "high": ratio + width / 2, "batch": batch, "window": 64}
    return made | given


def peak(**parts: int) -> dict[str, int]:
    """Bytes at a peak, in all parts."""
    names = ("parameters", "buffers", "gradients", "optimizer_state", "activations", "temporaries", "inputs")
    return {name: parts.get(name, 0) for name in names} | {"total": sum(parts.values())}


def write_sweep(
    runs: Path, lines: list[dict], records: list[dict], costs=(), name="quick", note=None
) -> None:
    write_json(manifest_path(runs, name), {"schema": 1, "name": name, "runs": lines, "note": note})
    for made in records:
        write_json(run_folder(runs, made["id"]) / "record.json", made)
    for made in costs:
        write_json(cost_folder(runs, made["id"]) / "cost.json", made)


def grid(tasks: dict[str, str], seeds=(1, 2), dropouts=(0.0, 0.2), decays=(0.0, 0.5), tyings=TYINGS) -> tuple:
    """Manifest lines, records and costs of a whole sweep: smooth effects, `embedding` n/a on images."""
    lines, records, costs = [], [], {}
    for (task, data), tying, dropout, decay, seed in itertools.product(
        tasks.items(), tyings, dropouts, decays, seeds
    ):
        line = entry(tying, dropout, decay, seed, task=task, data=data)
        lines.append(line)
        if "embedding" in tying and task.startswith("image"):
            records.append(unfinished(line, "not_applicable", "no input embedding in this network"))
            costs[line["cost"]] = uncosted(line, "not_applicable", "no input embedding in this network")
            continue
        effect = EFFECTS.get(tying, 0.001 * len(tying))
        harm = effect - 0.08 * math.sqrt(dropout) - 0.02 * decay + 0.01 * seed
        value = 0.97 - 0.1 * harm if task.startswith("image") else 96.0 * (1 + harm)
        records.append(record(line, value, value * 1.01))
        costs[line["cost"]] = cost(line)
    return lines, records, list(costs.values())


def pair(*values: float, tying: str = "none", first_seed: int = 1, **given) -> tuple[list, list]:
    """Manifest lines and records of one cell, a value per seed."""
    lines = [entry(tying, seed=first_seed + at, **given) for at in range(len(values))]
    return lines, [record(line, value) for line, value in zip(lines, values, strict=True)]


SEARCHED = {"0.001": 5.0, "0.002": 5.5}
"""What a search for the learning rate found, as a record has it."""


def searched(cell: tuple[list, list]) -> tuple[list, list]:
    """The cell at a learning rate that a search chose."""
    lines, records = cell
    return lines, [item | {"lr_search": SEARCHED} for item in records]


PAIRS = list(itertools.combinations(range(4), 2))


def write_pairs(runs, seeds=(1, 2, 3), pairs=PAIRS, task="text_gru", cost=lambda at, seed: float(at)) -> None:
    """Write runs that tied one pair of blocks each: the pair at place `at` costs `cost`.

    A pair is the less alike the later it stands. Everything says the same, but for CKA, which says the contrary,
    and alignment, which does not apply.
    """
    lines, records = [], []
    for seed in seeds:
        untied, sign = (0.5, -0.01) if task.startswith("image") else (90.0 + seed, 1)
        lines.append(entry("none, start=untied", seed=seed, task=task))
        records.append(record(lines[-1], untied))
        for at, (one, other) in enumerate(pairs):
            grouping = "/".join(
                str(one if block == other else block) for block in range(1 + max(map(max, pairs)))
            )
            cosine = 0.9 - 0.1 * at
            likeness = {"blocks": [[one, other]], "cosine": cosine, "distance": 2 - cosine, "aligned": None}
            likeness |= {"cka": 1 - cosine, "influence": 1 - cosine}
            lines.append(entry(f"grouped(grouping={grouping}), start=untied", seed=seed, task=task))
            start = {"run": "x", "likeness": likeness}
            records.append(record(lines[-1], untied + sign * cost(at, seed), start=start))
    write_sweep(runs, lines, records, name="pairs")


def every_setting(page: str) -> str:
    """Return the part of a sweep's page that has each setting, with tests and costs."""
    return page.split("\n# Every setting of ")[1]
