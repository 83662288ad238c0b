"""One run from its frozen config to its record, in a process of its own as the command line starts it."""

import pytest
import torch
from grid import COUNTS, TASKS, applies, build, kind, step

from bench.runs import store
from bench.runs.identity import RESULTS_VERSION
from bench.runs.store import read_json
from bench.sweep.launchers.local import Joblib
from bench.sweep.run_or_load import ensure_run
from bench.sweep.sweep import run_sweep
from bench.training.build import measured_ties
from bench.training.optimizer import schedule

# A penalty, both kinds of hard tie, a decoupled pull; dropout, decay, clipping and two validations an epoch.
TYING = {
    "image_cnn": ("soft", "tying.strength=10"),
    "text_gru": ("albert",),
    "text_transformer": ("soft_decoupled", "tying.strength=10"),
}
EPOCHS, STEPS_PER_EPOCH = 2, 6
BUDGET = (f"trainer.max_epochs={EPOCHS}", f"trainer.limit_train_batches={STEPS_PER_EPOCH}")
QUICK_COST = ("measure.min_calls=2", "measure.min_seconds=0", "measure.max_seconds=0.2")
SETTINGS = (
    *(*BUDGET, "trainer.val_check_interval=0.5", *QUICK_COST),
    *("dropout=0.1", "weight_decay=0.5", "optimizer.clip=0.3"),
)
COLD = ("text_gru",)
"""Tasks whose latency is measured from cold caches too: emptying them takes longer than all the rest."""
EPOCH_MARKS = [0.5, 1, 1.5, 2]

METRICS = {
    **dict.fromkeys(("image", "labelled_text"), {"nll": float, "accuracy": float, "examples": int}),
    "text": {
        "nll": float,
        "perplexity": float,
        "next_token_accuracy": float,
        "tokens": int,
        "oov": int | None,
        "bits_per_byte": float | None,
    },
    "series": {"nll": float, "mae": float, "rmse": float, "mae_over_naive": float, "steps": int},
}
TYPES = {
    **dict.fromkeys(("schema", "results_version", "seed", "num_params", "num_params_untied"), int),
    **dict.fromkeys(("epochs", "steps", "checkpoint_bytes", "peak_rss_bytes", "ranks", "attempts"), int),
    "resumed_from": list,
    **dict.fromkeys(("id", "cell", "cost", "task", "data", "tying", "status", "device"), str),
    **dict.fromkeys(
        ("dropout", "weight_decay", "effective_params", "best_epoch", "gap", "clipped_share"), float
    ),
    **dict.fromkeys(("metric", "config", "test", "val", "train", "spread", "decay"), dict),
    **dict.fromkeys(("dropout_sites", "curves", "seconds", "throughput", "data_meta", "provenance"), dict),
    "reason": type(None),
}

every_task = pytest.mark.parametrize("task", TASKS)


def depth(task):
    return f"model.depth={6 if kind(task) == 'image' else 3}"


def settings(task):
    cold = f"measure.cold={str(task in COLD).lower()}"
    return (*TYING.get(task, ("soft",)), *SETTINGS, depth(task), cold)


@pytest.fixture(scope="module")
def runs(cell):
    """Task -> (cell, record) of a tiny run, its cost measured before."""
    cells = [cell(task, *settings(task)) for task in TASKS]
    cells, records = run_sweep(cells, Joblib(n_jobs=1))
    return {c.config["task"]["name"]: (c, record) for c, record in zip(cells, records, strict=True)}


@pytest.fixture(scope="module")
def plain(cell):
    """Task -> (cell, record) of a run that ties and regularises nothing, for one epoch."""
    cells = {task: cell(task, "none", *BUDGET, depth(task), "trainer.max_epochs=1") for task in TASKS}
    return {task: (c, ensure_run(c)) for task, c in cells.items()}


@every_task
def test_a_record_has_every_key_in_its_type(runs, task):
    cell, record = runs[task]
    assert record["status"] == "done", record["reason"]
    assert record == read_json(cell.folder / "record.json")
    assert {key: type(record[key]) for key in TYPES if not isinstance(record.get(key), TYPES[key])} == {}
    for split in ("test", "val", "train"):
        expected = METRICS[kind(task)]
        assert record[split].keys() == expected.keys()
        assert all(isinstance(record[split][key], expected[key]) for key in expected), record[split]
    assert record["config"] == cell.config
    assert record["results_version"] == RESULTS_VERSION
    assert {"fingerprint", "floors", "sizes"} <= record["data_meta"].keys()
    provenance = record["provenance"]
    assert {"commit", "dirty", "trees", "versions", "host", "threads", "python"} <= provenance.keys()
    assert provenance["versions"]["torch"] == torch.__version__
    assert record["device"].startswith("cpu ")
    seconds = record["seconds"]
    assert seconds.keys() == {"total", "fit", "first_steps", "to_first_step"}
    assert 0 < seconds["first_steps"] < seconds["fit"] < seconds["total"]
    unit = {"image": "images/s", "text": "tokens/s", "series": "steps/s", "labelled_text": "sentences/s"}[
        kind(task)
    ]
    assert record["throughput"]["unit"] == unit and record["throughput"]["value"] > 0


@every_task
def test_figures_of_a_record_mean_what_they_say(runs, task):
    cell, record = runs[task]
    sizes, count = record["data_meta"]["sizes"], COUNTS.get(kind(task), "examples")
    assert [record[split][count] for split in ("test", "val")] == [sizes["test"], sizes["val"]]
    assert 0 < record["train"][count] <= sizes["val"]
    assert record["gap"] == record["val"]["nll"] - record["train"]["nll"]
    assert (record["epochs"], record["steps"]) == (EPOCHS, EPOCHS * STEPS_PER_EPOCH)

    curves = record["curves"]
    assert {"epoch", "train_nll", "val_nll", "val_metric", "lr", "spread"} <= curves.keys()
    assert {len(curve) for curve in curves.values()} == {len(EPOCH_MARKS)} and curves["epoch"] == EPOCH_MARKS
    chosen = EPOCH_MARKS.index(record["best_epoch"])
    best = (max if record["metric"]["mode"] == "max" else min)(curves["val_metric"])
    assert curves["val_metric"][chosen] == best == record["val"][record["metric"]["name"]]
    assert curves["val_nll"][chosen] == record["val"]["nll"]

    assert record["checkpoint_bytes"] == (cell.folder / "best.ckpt").stat().st_size
    status = read_json(cell.folder / "status.json")
    assert (status["step"], status["steps"]) == (record["steps"], record["steps"])
    assert len((cell.folder / "curves.csv").read_text().splitlines()) == 1 + len(EPOCH_MARKS)


@every_task
def test_a_record_says_what_was_tied_decayed_and_dropped(runs, plain, task):
    cell, record = runs[task]
    _, none = plain[task]
    built = build(cell)
    names = [name for name, _ in built.model.named_parameters()]
    assert sorted(record["decay"]["decayed"] + record["decay"]["undecayed"]) == sorted(names)
    hard = measured_ties(built.model)["depth"].num_params(built.model)
    if "soft" in record["tying"]:
        assert hard < record["effective_params"] < record["num_params"] == record["num_params_untied"]
    else:
        assert record["effective_params"] == record["num_params"]
    assert none["effective_params"] == none["num_params"]
    total, rate = record["steps"], cell.config["optimizer"]
    dose = sum(rate["lr"] * schedule(at, total, rate["warmup_share"]) * 0.5 for at in range(total))
    assert record["decay"]["dose"] == pytest.approx(dose)
    assert none["decay"]["dose"] == 0
    assert record["dropout_sites"] and set(record["dropout_sites"].values()) == {0.1}
    assert none["dropout_sites"] == {}

    assert none["num_params"] == none["num_params_untied"] == record["num_params_untied"] == built.untied
    assert record["num_params"] == sum(p.numel() for p in built.model.parameters())
    assert none["spread"]["depth"] > 0.5
    if any(tie.is_hard for tie in built.plan.ties):
        assert record["num_params"] < record["num_params_untied"]
        assert record["spread"] == {"depth": 0.0, "embedding": 0.0}
        assert set(record["curves"]["spread"]) == {0.0}
        assert record["checkpoint_bytes"] < none["checkpoint_bytes"]
    else:
        assert 0 < record["spread"]["depth"] < none["spread"]["depth"]
    assert (none["spread"]["embedding"] is None) == (kind(task) != "text")
    assert 0 < record["clipped_share"] <= 1


@every_task
def test_a_cost_is_recorded_once_for_its_task_model_and_tying(runs, task):
    cell, record = runs[task]
    cost = read_json(store.cost_folder(cell.runs, record["cost"]) / "cost.json")
    assert (cost["status"], cost["reason"]) == ("done", None)
    for key in ("schema", "task", "data", "tying", "num_params", "num_params_untied"):
        assert cost[key] == record[key]
    batches, window = cell.config["task"]["batches"], cell.config["task"]["batches"].get("window")
    whole = {"train_step": cost["train_step"], "batch": cost["latency"]["batch"]}
    timed = {"batch", "one", *(("first_token", "per_token") if kind(task) == "text" else ())}
    assert cost["latency"].keys() == timed | ({f"{what}_cold" for what in timed} if task in COLD else set())
    for name, pair in {**cost["latency"], **whole}.items():
        assert pair["window"] == window
        assert pair["batch"] == (batches["batch_size"] if name in (*whole, "batch_cold") else 1)
        assert 2 * pair["turns"] == pair["tied"]["n"] == pair["untied"]["n"] >= 2
        for timing in (pair["tied"], pair["untied"]):
            assert 0 < timing["median_s"] <= timing["p90_s"] < 10
        assert pair["ratio"] > 0
    flops = cost["flops"]
    assert flops["train_step"] > 2 * flops["inference"] > 0
    assert flops["per_s"] == pytest.approx(flops["train_step"] / cost["train_step"]["tied"]["median_s"])
    assert flops["peak"] == "measured matmul, float32" and 0 < flops["share_of_peak"] < 2
    assert "GPUs only" in cost["energy"]["unavailable"] and cost["compile_s"] is None
    assert cost["output_precision"] == ("bf16" if kind(task) == "text" else None)
    assert cost["threads"] == cost["provenance"]["threads"] == 1


@every_task
def test_memory_is_recorded_in_parts_and_as_predicted(runs, task):
    cell, record = runs[task]
    cost = read_json(store.cost_folder(cell.runs, record["cost"]) / "cost.json")
    memory = cost["memory"]
    assert memory["state"] == memory["predicted"]
    assert memory["state"]["parameters"] == memory["state"]["gradients"] == 4 * cost["num_params"]
    assert memory["state"]["optimizer_state"] > 8 * cost["num_params"]
    for what in ("train_step", "inference"):
        peak = dict(memory[what])
        assert peak.pop("total") == sum(peak.values())
        assert memory["largest_batch"][what] > cell.config["task"]["batches"]["batch_size"]
    assert memory["train_step"]["total"] > 16 * cost["num_params"]
    assert memory["train_step"]["total"] > memory["inference"]["total"] > 4 * cost["num_params"]
    assert memory["largest_batch"]["limit_bytes"] == 16 * 2**30
    assert memory["checkpoint_bytes"] > 4 * cost["num_params"]
    assert memory["meter"] == "MemTracker" and memory["peak_rss_bytes"] > 50e6


@every_task
def test_a_run_can_be_repeated_to_the_bit_and_another_seed_differs(runs, cell, tmp_path, task):
    _, first = runs[task]
    again = ensure_run(cell(task, *settings(task), f"runs={tmp_path}"))
    other = ensure_run(cell(task, *settings(task), f"runs={tmp_path}", "seed=2"))
    assert (again["id"], again["cell"]) == (first["id"], first["cell"])
    for key in ("test", "val", "train", "curves", "spread", "decay", "clipped_share"):
        assert again[key] == first[key], key
    assert other["id"] != first["id"] and other["cell"] == first["cell"]
    assert other["test"]["nll"] != first["test"]["nll"]
    assert other["curves"]["train_nll"] != first["curves"]["train_nll"]


@every_task
def test_the_trainer_takes_the_steps_that_are_written_out_here(runs, task):
    """Clip, penalty, step, pull, each at the scheduled rate; a validation in between changes nothing."""
    cell, record = runs[task]
    built = build(cell)
    optimizer, rate = built.module.adamw(), cell.config["optimizer"]
    torch.manual_seed(cell.config["seed"] + 1_000_003)
    built.module.train()
    losses, clipped = [], []
    for at, batch in enumerate(built.batches[:STEPS_PER_EPOCH]):
        for group in optimizer.param_groups:
            group["lr"] = rate["lr"] * schedule(at, record["steps"], rate["warmup_share"])
        losses.append(step(built.module, optimizer, batch))
        clipped.append(float(built.module.clipped))
    half = STEPS_PER_EPOCH // 2
    means = [sum(part) / half for part in (losses[:half], losses[half:])]
    assert record["curves"]["train_nll"][:2] == pytest.approx(means, rel=1e-6)
    spread = measured_ties(built.model)["depth"].spread(built.model)
    assert record["curves"]["spread"][1] == pytest.approx(spread, rel=1e-6)
    assert 0 < clipped[-1] <= record["clipped_share"] * record["steps"]


def test_a_tying_that_does_not_apply_leaves_a_row_with_the_reason_at_no_cost(cell):
    asked = cell("image_cnn", "embedding", *SETTINGS)
    assert not applies("image_cnn", "embedding")
    (_,), (record,) = run_sweep([asked], Joblib(n_jobs=1))
    assert record["status"] == "not_applicable"
    assert record["reason"] == "no input embedding in this network"
    assert {"config", "data_meta", "provenance", "cell", "cost", "metric", "tying"} <= record.keys()
    assert read_json(store.cost_folder(asked.runs, asked.cost) / "cost.json")["status"] == "not_applicable"


def test_a_run_that_diverges_ends_early_and_says_so(cell):
    lr = "optimizer.lr=1e6"
    record = ensure_run(cell("text_gru", "none", lr, "optimizer.clip=null", "trainer.max_epochs=40"))
    assert record["status"] == "diverged" and "at the first" in record["reason"]
    assert "test" not in record and record["config"]["optimizer"]["lr"] == 1e6
