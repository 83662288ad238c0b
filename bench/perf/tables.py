"""The tables of the page, each from the figures of its part."""

from collections.abc import Mapping, Sequence
from typing import Any

from bench.report.markup import Table
from bench.report.numbers import NOTHING, fixed, ratio, short_count

Part = Mapping[str, Any]
Row = Mapping[str, Any]

SIDES = {"step_s": ("ms", 1e3, 1), "peak_bytes": ("MiB", 2**-20, 1)}


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
        for key, (_, scale, places) in SIDES.items():
            slope, error = row["exponents"][key]
            spread = "" if error is None else f" ± {fixed(error, 2)}"
            texts += [_list(fixed(scale * value, places) for value in row[key]), fixed(slope, 2) + spread]
        name = "tied layers" if row["axis"] == "tied" else row["axis"]
        rows.append([row["network"], name, _list(f"{at:,}" for at in row["at"]), *texts])
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


def _list(texts: Any) -> str:
    return ", ".join(texts)


def _table(header: list[str], rows: Sequence[list[str]], words: int = 1) -> Table:
    """The first `words` columns are text."""
    return Table(header, "l" * words + "r" * (len(header) - words), list(rows))
