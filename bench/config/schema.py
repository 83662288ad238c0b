"""What a composed config may be, as pydantic models. `bench.config.refusals` checks one and words what is wrong.

Import this only where a cell is checked: pydantic takes 50 ms that `--help` must not wait for.
"""

import functools
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

from bench.data.encode import PRETRAINED, SMALLEST
from bench.tying.errors import BadInput

PICTURES = (
    *("pareto", "forest", "curves", "dropout_x_weight_decay"),
    *("similarity", "interactions", "doses", "pairs"),
)
"""Pictures that a page may begin with; `bench.report.plots.pictures` draws them."""

ROLES = ("attention", "feed_forward", "recurrent", "input", "conv", "norm", "bias", "adapter", "other")
"""Roles of parameters, those of `bench.tying.methods`, which takes torch to import."""
SCOPES = f"weights, all, or one or a list of {', '.join(ROLES)}"

LARGEST = 2**31 - 1
"""The largest whole number: more overflows somewhere below, in torch, numpy or the file system."""


def _range(kind: type, words: str, **bounds: Any) -> Any:
    extra = {"allow_inf_nan": False} if kind is float else {"le": LARGEST}
    return Annotated[kind, Field(description=words, **{**extra, **bounds})]


def _has_a_home(folder: str) -> str:
    try:
        Path(folder).expanduser()
    except RuntimeError as error:
        raise BadInput(
            f"{folder} is no folder: there is no user of that name; give the whole path"
        ) from error
    return folder


Count = _range(int, "a whole number >= 1", ge=1)
Whole = _range(int, "a whole number >= 0", ge=0)
Seed = _range(int, "a whole number >= 0 and < 2**32", ge=0, le=2**32 - 1)
UpToDepth = Annotated[Count, Field(description="a whole number from 1 to model.depth")]
Share = _range(float, "a number in [0, 1)", ge=0, lt=1)
Fraction = _range(float, "a number in (0, 1]", gt=0, le=1)
Finite = _range(float, "a number >= 0", ge=0)
Positive = _range(float, "a number > 0", gt=0)
Flag = Annotated[bool, Field(description="true or false")]


def _not_false(value: bool | None) -> bool | None:
    if value is False:  # it would name another run than null, and be the same
        raise ValueError
    return value


OnlyTrue = Annotated[bool | None, Field(description="true or null"), AfterValidator(_not_false)]
Name = Annotated[
    str,
    Field(
        pattern=r"^\w[\w.-]*$",
        max_length=100,
        description="letters, digits, _, - and . (it names files), at most 100 of them",
    ),
]
Folder = Annotated[
    str,
    Field(pattern=r"^[^\x00-\x1f]+$", description="the path of a folder (one of digits alone as ./5)"),
    AfterValidator(_has_a_home),
]
Dotted = Annotated[
    str,
    Field(
        pattern=r"^\w+(\.\w+)+$", description="the dotted path of a class or function: package.module.name"
    ),
]


def _or_null(kind: Any, words: str) -> Any:
    return Annotated[kind | None, Field(description=words)]


def _choice(*allowed: Any, words: str | None = None) -> Any:
    return Annotated[Literal[allowed], Field(description=words or listed(allowed))]


def listed(allowed: tuple[Any, ...]) -> str:
    words = ["null" if value is None else str(value) for value in allowed]
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


class Section(BaseModel):
    """Keys that are all there, with values of just these types, and no others."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Called(BaseModel):
    """What Hydra calls: a dotted path and arguments, which the callee checks."""

    model_config = ConfigDict(extra="allow", strict=True)
    target: Dotted = Field(alias="_target_")


class Partial(Called):
    partial: Annotated[Literal[True], Field(description="true")] = Field(alias="_partial_")


# --- task ---


class Metric(Section):
    name: Name
    mode: _choice("max", "min")


class Task(Section):
    name: Name
    module: Partial
    metric: Metric


class ImageBatches(Section):
    batch_size: Count
    eval_batch_size: Count = 1  # optional; the data module has its own default


class WindowedBatches(ImageBatches):
    window: Count


class TextBatches(WindowedBatches):
    carry: Flag
    eval_streams: Count = 1  # optional, as above


class SeriesBatches(WindowedBatches):
    stride: Count


class ImageTask(Task):
    kind: Literal["image"]
    batches: ImageBatches


class TextTask(Task):
    kind: Literal["text"]
    batches: TextBatches


class LabelledTextTask(Task):
    kind: Literal["labelled_text"]
    batches: WindowedBatches


class SeriesTask(Task):
    kind: Literal["series"]
    batches: SeriesBatches


# --- data ---


class Data(Section):
    name: Annotated[
        str, Field(pattern=r"^[\w-]+$", max_length=100, description="letters, digits, _ and -, at most 100")
    ]
    root: _or_null(Folder, "the path of a folder, or null")
    train_limit: _or_null(Count, "a whole number >= 1, or null for all")
    split_seed: Seed
    source: Annotated[
        dict[str, Any], Field(description="a _target_ with its arguments, as in conf/data/*.yaml")
    ]
    module: Any


class Labelled(Data):
    holdout: Annotated[
        Annotated[float, Field(gt=0, lt=1)] | Count,
        Field(description="a share in (0, 1) or a count of examples from 1"),
    ]


class Tokenized(Data):
    tokenizer: _choice(*SMALLEST)
    vocab_size: _or_null(Count, "a whole number >= 1, or null for every word")


def _ascending(values: list[float]) -> list[float]:
    if not float("-inf") < values[0] < values[1] < float("inf"):
        raise ValueError
    return values


Range = Annotated[list[float], Field(min_length=2, max_length=2), AfterValidator(_ascending)]


class ImageData(Labelled):
    kind: Literal["image"]
    range: _or_null(Range, "the lowest and highest value of a pixel, such as [0,4095], or null") = None


class TextData(Tokenized):
    kind: Literal["text"]
    files: _or_null(str | list[str], "a path, a pattern or a list of them, or null")
    val_limit: _or_null(Count, "a whole number >= 1, or null for all")
    test_limit: _or_null(Count, "a whole number >= 1, or null for all")


class LabelledTextData(Labelled, Tokenized):
    kind: Literal["labelled_text"]
    tokenizer: _choice(*SMALLEST, PRETRAINED)
    tokenizer_of: _or_null(Folder, "a folder of transformers, a name of the hub, zoo:NAME, or null") = None


def _distinct(names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise ValueError
    return names


class SeriesData(Data):
    kind: Literal["series"]
    columns: Annotated[
        list[str],
        Field(min_length=1, description="a list of names, each once, such as [OPEN,CLOSE]"),
        AfterValidator(_distinct),
    ]
    time: _or_null(str, "a name of a column, or null")
    time_format: _or_null(Annotated[str, Field(pattern="%")], "such as '%d.%m.%Y', or null") = None
    log: Flag


# --- model, tying, training ---


class Model(Called):
    """Keys that models share; the rest are arguments of the class."""

    depth: Count
    width: Count = None
    injection: _choice("none", "add") = None  # of stacks that begin with an embedding
    init_scale: Positive = None  # of the stack's weights
    window: Count = None
    architecture: Name = None


class Tying(Section):
    k: _or_null(UpToDepth, "a whole number from 1 to model.depth")
    fraction: _or_null(Fraction, "a number in (0, 1]")
    groups: _or_null(UpToDepth, "a whole number from 1 to model.depth")
    repeats: _or_null(UpToDepth, "a whole number from 1 to model.depth")
    kv_heads: _or_null(Count, "a whole number >= 1")
    rank: _or_null(Whole, "a whole number >= 0")
    grouping: _or_null(
        Annotated[list[Whole], Field(min_length=1)],
        "a list of whole numbers, one for each block, such as [0,0,1,1]",
    )
    shuffle: _or_null(Count, "a whole number >= 1, or null for the grouping itself that was found")
    strength: _or_null(Finite, "a number >= 0")
    form: _choice("penalty", "decoupled", None)
    init: _choice("own", "shared", None)
    merge: _choice("first", "mean", "aligned", "least_squares", None)
    scope: _or_null(Name | Annotated[list[Name], Field(min_length=1)], SCOPES)
    parts: Annotated[dict[Name, Partial], Field(description="strategies by name, as in conf/tying/*.yaml")]


class Start(Section):
    """Of a run of the same network untied (max_epochs, lr, merge), or of a trained model (model, fingerprint)."""

    max_epochs: Count = None
    lr: Positive = None
    merge: _choice("first", "mean", "least_squares") = None
    model: Folder = None
    fingerprint: Name = None
    likeness: _or_null(bool, "true, or null")


class Optimizer(Section):
    lr: Positive
    beta1: Share
    beta2: Share
    warmup_share: Share
    clip: _or_null(Positive, "a number > 0, or null to turn clipping off")
    shared_lr: _choice("sqrt", None, words="sqrt, or null for one learning rate")
    group_owl: _or_null(Positive, "a number > 0, or null for no penalty on rows")


class Trainer(Section):
    max_epochs: Count
    max_steps: _or_null(Count, "a whole number >= 1, or null for a budget in epochs")
    patience: _or_null(Count, "a whole number of validations >= 1, or null to train to the end")
    val_check_interval: Annotated[Fraction, Field(description="a share of an epoch in (0, 1]")]
    limit_train_batches: _or_null(Count, "a whole number >= 1, or null for no limit")
    limit_eval_batches: _or_null(Count, "a whole number >= 1, or null for no limit")
    precision: _choice("32-true", "64-true", "bf16-mixed")
    output_precision: _choice("bf16", None, words="bf16, or null for that of trainer.precision")
    compile: _choice(
        "default",
        "reduce-overhead",
        "max-autotune",
        None,
        words="default, reduce-overhead or max-autotune (modes of torch.compile), or null",
    )
    use_gradients: OnlyTrue
    quantize: OnlyTrue
    example_scores: OnlyTrue
    accelerator: _choice("auto", "cpu", "gpu")
    devices: Count
    strategy: _choice(
        "auto",
        "ddp",
        words="auto or ddp (fsdp, deepspeed and model parallelism shard or flatten parameters, which can untie "
        "shared ones silently)",
    )
    checkpoint_every_s: _or_null(Positive, "a number of seconds > 0, or null for no resume points")
    threads: _range(int, "a whole number >= 1 and <= 1024", ge=1, le=1024)


class Measure(Section):
    min_calls: Count
    min_seconds: Finite
    max_seconds: Finite
    memory_gib: Annotated[Positive, Field(description="a number of GiB > 0")]
    cold: Flag


class LrSearch(Section):
    factors: _or_null(
        Annotated[list[Positive], Field(min_length=1)], "a list of numbers > 0 such as [0.5,1,2], or null"
    )
    widen: Whole
    regularised: Flag
    seed: Seed
    more_seeds: Annotated[list[Seed], Field(description="a list of seeds such as [100,101], or []")]


# --- how a run is handled ---


class Logger(Called):
    partial: Flag = Field(default=False, alias="_partial_")  # false: one of Lightning's own
    project: Name = None
    timeout_s: Positive = None
    needs: Name = None


class Stop(Section):
    margin: _or_null(Annotated[float, Field(gt=0, lt=1)], "a number in (0, 1), or null")
    first: _range(int, "a whole number from 2 to 1000", ge=2, le=1000)


class Sweep(Section):
    name: _or_null(Name, "letters, digits, _, - and . (it names a folder of results), at most 100, or null")
    question: _or_null(str, "a text, or null")
    picture: _choice(None, *PICTURES)
    note: _or_null(str, "a text, or null")
    takes: _or_null(str, "a text, or null")
    fail_fast: Flag
    points: _or_null(Count, "a whole number >= 1, or null where nothing is designed")
    point: _or_null(dict[str, Any], "keys with values, such as {dropout: 0, weight_decay: 1}, or null")
    stop: Stop


class Config(Section):
    """The whole of what is composed; sections come before what binds them together."""

    task: Annotated[ImageTask | TextTask | LabelledTextTask | SeriesTask, Field(discriminator="kind")]
    data: Annotated[ImageData | TextData | LabelledTextData | SeriesData, Field(discriminator="kind")]
    model: Model
    tying: Tying
    dropout: Share
    weight_decay: Finite
    seed: Seed
    optimizer: Optimizer
    trainer: Trainer
    measure: Measure
    control: _choice("params", "respend", "delete", None)
    start: Start | None
    lr_search: LrSearch
    logger: Logger
    sweep: Sweep
    retry: Flag
    reuse: Flag
    runs: Folder
    results: Folder
    cache: Folder


# --- its structure ---


def fields_of(section: type[BaseModel]) -> dict[str, FieldInfo]:
    return {field.alias or name: field for name, field in section.model_fields.items()}


def section_of(field: FieldInfo) -> type[BaseModel] | dict[str, type[BaseModel]] | None:
    """Return the model of a section, or those of its kinds; None for a value."""
    members = (
        get_args(field.annotation)
        if get_origin(field.annotation) in (Union, UnionType)
        else (field.annotation,)
    )
    models = [model for model in members if isinstance(model, type) and issubclass(model, BaseModel)]
    if field.discriminator:
        return {get_args(model.model_fields["kind"].annotation)[0]: model for model in models}
    return models[0] if models else None


@functools.cache
def paths() -> tuple[str, ...]:
    """Return every known key with its section, dotted."""
    return tuple(dict.fromkeys(_paths_in(Config, "")))


def _paths_in(section: type[BaseModel], prefix: str) -> Iterator[str]:
    for key, field in fields_of(section).items():
        yield f"{prefix}{key}"
        inside = section_of(field)
        for model in inside.values() if isinstance(inside, dict) else filter(None, [inside]):
            yield from _paths_in(model, f"{prefix}{key}.")
