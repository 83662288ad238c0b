"""Give each run its identity: a hash of everything in its config that can change a number. Imports no torch."""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

RESULTS_VERSION = 2
"""Raised whenever the code changes a number: it is part of every identity, so old records are not reused."""

VALIDATIONS = 12
"""How many validations a budget in steps has, about: a quarter of it then has three. No key of a config says it."""

RECORDED_NAMES: dict[str, str] = {
    "bench.data.batches.ImageData": "bench.data.images.ImageData",
    "bench.data.batches.SentenceData": "bench.data.sentences.SentenceData",
    "bench.data.series.SeriesData": "bench.data.changes.SeriesData",
    "bench.models.gru.GRUForecaster": "bench.models.forecaster.GRUForecaster",
    "bench.models.transformer.TextClassifier": "bench.models.encoder.TextClassifier",
    "bench.tasks.classification.Classification": "bench.training.Classification",
    "bench.tasks.classification.TextClassification": "bench.training.TextClassification",
    "bench.tasks.forecasting.Forecasting": "bench.forecasting.Forecasting",
    "bench.tasks.language_modeling.LanguageModeling": "bench.training.LanguageModeling",
    "bench.tying.methods.block_wise": "bench.tying.patterns.block_wise",
    "bench.tying.methods.bottom_k": "bench.tying.patterns.bottom_k",
    "bench.tying.methods.cross_layer": "bench.tying.strategies.cross_layer",
    "bench.tying.methods.cycle": "bench.tying.patterns.cycle",
    "bench.tying.methods.cycle_rev": "bench.tying.patterns.cycle_rev",
    "bench.tying.methods.embedding": "bench.tying.strategies.embedding",
    "bench.tying.methods.grouped": "bench.tying.patterns.grouped",
    "bench.tying.methods.relaxed": "bench.tying.patterns.relaxed",
    "bench.tying.methods.sandwich": "bench.tying.patterns.sandwich",
    "bench.tying.methods.sequence": "bench.tying.patterns.sequence",
    "bench.tying.methods.soft": "bench.tying.strategies.soft",
    "bench.tying.methods.soft_embedding": "bench.tying.strategies.soft_embedding",
    "bench.tying.methods.top_k": "bench.tying.strategies.top_k",
}
"""The import path of something that a config names -> the path that it had when runs were recorded with it.

Identities are made of the latter: a file that moves leaves its runs their identity.
"""


def identity(content: Mapping[str, Any]) -> str:
    """Return 12 hex digits that two contents share exactly when they are equal as JSON (1 and 1.0 are one number)."""
    text = json.dumps(_mapped(_whole, content), sort_keys=True, separators=(",", ":"), allow_nan=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def recorded_names(value: Any) -> Any:
    """Return `value`, part of a config, with the import paths under which runs were recorded."""
    return _mapped(lambda leaf: RECORDED_NAMES.get(leaf, leaf) if isinstance(leaf, str) else leaf, value)


def present_names(value: Any) -> Any:
    """Return `value`, part of a recorded config, with the import paths of today."""
    present = {then: now for now, then in RECORDED_NAMES.items()}
    return _mapped(lambda leaf: present.get(leaf, leaf) if isinstance(leaf, str) else leaf, value)


def _whole(leaf: Any) -> Any:
    """Return a whole float as an integer: `dropout=0` and `dropout=0.0` are the same run."""
    return int(leaf) if isinstance(leaf, float) and leaf.is_integer() else leaf


def _mapped(change: Callable[[Any], Any], value: Any) -> Any:
    """Return a tree of mappings and lists in which `change` was called on every leaf."""
    if isinstance(value, Mapping):
        return {key: _mapped(change, item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_mapped(change, item) for item in value]
    return change(value)
