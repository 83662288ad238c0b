"""The learning rate of each task x tying, chosen on validation at a seed that no table reports."""

from collections.abc import Mapping
from typing import Any

from bench.cell import Cell
from bench.records import Status


def candidates(cell: Cell) -> list[Cell]:
    """The runs to choose from: the cell without regularisation at each learning rate; empty where none is asked."""
    factors = cell.options["lr_search"]["factors"] or []
    base = cell.config["optimizer"]["lr"]
    return [
        cell.altered(
            optimizer={"lr": base * factor},
            seed=cell.options["lr_search"]["seed"],
            dropout=0.0,
            weight_decay=0.0,
        )
        for factor in factors
    ]


def chosen(cell: Cell, records: Mapping[str, Mapping[str, Any]]) -> tuple[Cell, dict[str, Any]]:
    """The cell at its best candidate's learning rate, and what each candidate reached on validation.

    Where no candidate finished the cell keeps its own rate, and what they reached says why.
    """
    metric = cell.config["task"]["metric"]
    reached: dict[str, Any] = {}
    finished: dict[float, float] = {}
    for candidate in candidates(cell):
        record, lr = records[candidate.id], candidate.config["optimizer"]["lr"]
        if record["status"] == Status.DONE:
            finished[lr] = reached[f"{lr:g}"] = record["val"][metric["name"]]
        else:
            reached[f"{lr:g}"] = record["status"]
    if not finished:
        return cell, reached
    best = (min if metric["mode"] == "min" else max)(finished, key=lambda lr: finished[lr])
    return cell.settled(optimizer={"lr": best}), reached
