"""What each value of the config may be, as tables: a path, a rule and the words for it."""

import math
import re
from collections.abc import Callable
from typing import Any

TOP = frozenset(
    ("task", "data", "model", "tying", "dropout", "weight_decay", "seed", "optimizer", "trainer", "measure")
    + ("control", "start", "lr_search", "logger", "sweep", "retry", "reuse", "runs", "results", "cache")
)


def _number(
    low: float, high: float, *, open_low: bool = False, open_high: bool = False
) -> Callable[[Any], bool]:
    def within(value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
            return False
        above = value > low if open_low else value >= low
        return above and (value < high if open_high else value <= high)

    return within


def _integer(low: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= low


def _optional(rule: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or rule(value)


def _one_of(*allowed: Any) -> Callable[[Any], bool]:
    return lambda value: value in allowed and not isinstance(value, bool)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"\w[\w.-]*", value) is not None


def _is_grouping(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_integer(0), value))


_finite = _number(0, math.inf, open_high=True)
positive = _number(0, math.inf, open_low=True, open_high=True)

STRATEGIES = (
    "auto or ddp (fsdp, deepspeed and model parallelism shard or flatten parameters, "
    "which can untie shared ones silently)"
)

LIMITS: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("dropout", _number(0, 1, open_high=True), "a number in [0, 1)"),
    ("weight_decay", _finite, "a number >= 0"),
    ("seed", _integer(0), "a whole number >= 0"),
    ("tying.k", _optional(_integer(1)), "a whole number from 1 to model.depth"),
    ("tying.fraction", _optional(_number(0, 1, open_low=True)), "a number in (0, 1]"),
    ("tying.groups", _optional(_integer(1)), "a whole number from 1 to model.depth"),
    ("tying.rank", _optional(_integer(0)), "a whole number >= 0"),
    ("tying.repeats", _optional(_integer(1)), "a whole number from 1 to model.depth"),
    (
        "tying.grouping",
        _optional(_is_grouping),
        "a list of whole numbers, one for each block, such as [0,0,1,1]",
    ),
    ("tying.shuffle", _optional(_integer(1)), "a whole number >= 1, or null for the learned grouping itself"),
    ("tying.strength", _optional(_finite), "a number >= 0"),
    ("tying.form", _one_of(None, "penalty", "decoupled"), "penalty or decoupled"),
    ("tying.init", _one_of(None, "own", "shared"), "own or shared"),
    ("control", _one_of(None, "params", "respend"), "params, respend or null"),
    ("model.depth", _integer(1), "a whole number >= 1"),
    ("optimizer.lr", positive, "a number > 0"),
    ("optimizer.beta1", _number(0, 1, open_high=True), "a number in [0, 1)"),
    ("optimizer.beta2", _number(0, 1, open_high=True), "a number in [0, 1)"),
    ("optimizer.warmup_share", _number(0, 1, open_high=True), "a number in [0, 1)"),
    ("optimizer.clip", _optional(positive), "a number > 0, or null to turn clipping off"),
    ("trainer.max_epochs", _integer(1), "a whole number >= 1"),
    ("trainer.val_check_interval", _number(0, 1, open_low=True), "a share of an epoch in (0, 1]"),
    ("trainer.limit_train_batches", _optional(_integer(1)), "a whole number >= 1, or null for no limit"),
    ("trainer.limit_eval_batches", _optional(_integer(1)), "a whole number >= 1, or null for no limit"),
    ("trainer.precision", _one_of("32-true", "64-true", "bf16-mixed"), "32-true, 64-true or bf16-mixed"),
    ("trainer.output_precision", _one_of(None, "bf16"), "bf16, or null for that of trainer.precision"),
    (
        "trainer.compile",
        _one_of(None, "default", "reduce-overhead", "max-autotune"),
        "default, reduce-overhead or max-autotune (modes of torch.compile), or null",
    ),
    (
        "trainer.use_gradients",
        lambda value: value is None or value is True,
        "true, or null for no such curves",
    ),
    ("trainer.quantize", lambda value: value is None or value is True, "true, or null for no int8"),
    ("trainer.accelerator", _one_of("auto", "cpu", "gpu"), "auto, cpu or gpu"),
    ("trainer.devices", _integer(1), "a whole number >= 1"),
    ("trainer.strategy", _one_of("auto", "ddp"), STRATEGIES),
    (
        "trainer.checkpoint_every_s",
        _optional(positive),
        "a number of seconds > 0, or null for no resume points",
    ),
    ("trainer.threads", _integer(1), "a whole number >= 1"),
    ("task.batches.batch_size", _integer(1), "a whole number >= 1"),
    ("data.train_limit", _optional(_integer(1)), "a whole number >= 1, or null for all"),
    ("measure.min_calls", _integer(1), "a whole number >= 1"),
    ("measure.min_seconds", _finite, "a number >= 0"),
    ("measure.max_seconds", _finite, "a number >= 0"),
    ("measure.memory_gib", positive, "a number of GiB > 0"),
    ("measure.cold", lambda v: isinstance(v, bool), "true or false"),
    ("lr_search.seed", _integer(0), "a whole number >= 0"),
    ("sweep.name", _optional(_is_name), "letters, digits, _, - and . (it names a folder of results)"),
    ("sweep.fail_fast", lambda v: isinstance(v, bool), "true or false"),
    ("retry", lambda v: isinstance(v, bool), "true or false"),
    ("reuse", lambda v: isinstance(v, bool), "true or false"),
)

START = (
    ("start.max_epochs", _integer(1), "a whole number >= 1"),
    ("start.lr", positive, "a number > 0"),
    ("start.merge", _one_of("first", "mean", "least_squares"), "first, mean or least_squares"),
    ("start.likeness", lambda v: v in (None, True, False), "true, or null"),
)
"""Where `start` is not null."""

LEARNED = "learned"
"""The part of a plan whose grouping the controller finds before the run (`bench.learned`)."""

CLOSED = ("tying", "start", "optimizer", "trainer", "measure", "lr_search", "sweep")
"""Sections with no keys but those above and these; the others are checked by whoever reads them."""

KNOWN = {path for path, _, _ in LIMITS + START} | {
    "tying.scope",
    "tying.parts",
    "lr_search.factors",
    "sweep.note",
    "sweep.point",
}
