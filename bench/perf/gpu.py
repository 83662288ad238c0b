"""Do on one machine with a GPU what cannot be done without one, within nine minutes: results/gpu/. `make gpu`.

Each part is a process of its own with a time limit. What it prints goes into gpu.md, and a part that is cut off or
fails leaves its reason there. Without a GPU nothing is measured and every part is a hole. --dry runs all of them on the
processor, at sizes of a test, into a temporary folder: its figures mean nothing.
"""

import contextlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.report.markup import Column, markdown, plain, tabulate
from bench.report.numbers import NOTHING, fixed, short_count
from bench.runs import machine
from bench.runs.command_line import Parser, framed, parser
from bench.runs.store import read_json, write_bytes_atomic, write_json
from bench.tying.errors import BadInput

BENCH = (sys.executable, "-m", "bench", "-m")
TRAINER = ("logger=none", "measure.max_seconds=0", "hydra.launcher.runs_per_gpu=2")
"""Two runs share the GPU."""

GPT2 = (
    "task=text_transformer model.depth=12 model.width=768 model.heads=12 trainer.precision=bf16-mixed "
    "task.batches.window=1024 task.batches.batch_size=16"
)
"""The shape of GPT-2 small: 124M parameters with its embedding tied and 50,257 words, as it was published."""
GPT2_WORDS = 50_257
SMALL = "model.depth=2 model.width=8 model.heads=2 task.batches.window=8 task.batches.batch_size=4"
"""In place of any transformer's sizes where the script itself is tried."""
FEW = ("trainer.max_steps=3", "trainer.limit_eval_batches=1")
GRU_SMALL = ("model.width=8", "task.batches.window=8", "task.batches.batch_size=4")
OWN_TEXT = ("data=text_files", f"data.files={machine.ROOT / 'README.md'}")
"""Read where the script itself is tried: small, so that nothing has to be prepared for long."""
SLOWER = 6
"""How many times longer a part may take on a processor that does something else besides."""

PUBLISHED_EPOCHS = 40
STEPS, ROUNDS = 20, 6
"""Of a loop in a turn, and turns of each loop."""


@dataclass(frozen=True)
class Flags:
    """What the command line asks for. text: a file of characters; root: a folder of data sets; both may be absent."""

    dry: bool
    out: Path
    text: Path | None
    root: Path | None

    @property
    def accelerator(self) -> str:
        return "cpu" if self.dry else "gpu"

    def places(self, part: str) -> tuple[str, ...]:
        """Return the overrides that keep a part's runs beside its results, and on the device."""
        folders = (f"runs={self.out / 'runs'}", f"results={self.out}", f"sweep.name={part}")
        return (*folders, f"trainer.accelerator={self.accelerator}")


@dataclass(frozen=True)
class Part:
    """A section of the page. command: what is run for it; seconds: at most; note: a sentence above what it prints."""

    title: str
    note: str
    seconds: int
    command: Callable[[Flags], Sequence[str]]


def _self_test(flags: Flags) -> list[str]:
    """Return the command of the meters' tests; of one file of them where the script itself is tried."""
    place = "tests/meters/test_scores.py" if flags.dry else "tests/meters"
    return [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", place]


def _again(part: str) -> Callable[[Flags], list[str]]:
    """Return the command of a part that this module does itself."""

    def command(flags: Flags) -> list[str]:
        words = ["--dry"] * flags.dry + (["--root", str(flags.root)] if flags.root else [])
        return [sys.executable, "-m", "bench.perf.gpu", "--part", part, "--out", str(flags.out), *words]

    return command


def _characters(flags: Flags) -> list[str]:
    text = ("data=text_files", f"data.files={flags.text}") if flags.text else ("data=pydocs",)
    setting = (
        "task=text_transformer model.depth=6 model.width=384 model.heads=6 task.batches.window=256 "
        "task.batches.batch_size=64 trainer.precision=bf16-mixed trainer.max_steps=5000 data.tokenizer=bpe "
        "data.vocab_size=257 dropout=0.2 weight_decay=0.1 optimizer.lr=0.001 tying=none,embedding"
    )
    dry = (*OWN_TEXT, *SMALL.split(), *FEW) if flags.dry else text
    return [*BENCH, *setting.split(), *TRAINER, *flags.places("characters"), *dry]


def _costs(flags: Flags) -> list[str]:
    quick = ("measure.min_calls=1", "measure.min_seconds=0", "measure.max_seconds=0.1", "measure.cold=false")
    return [
        *(sys.executable, "-m", "bench.measure", *GPT2.split(), "tying=embedding,cross_layer"),
        *(OWN_TEXT if flags.dry else ()),
        *(f"runs={flags.out / 'runs'}", f"trainer.accelerator={flags.accelerator}"),
        *((*SMALL.split(), *quick) if flags.dry else ("measure.max_seconds=6",)),
    ]


PARTS = {
    "selftest": Part(
        "The meters on this GPU",
        "Events, the allocator's peaks and NVML against answers that are known beforehand.",
        100,
        _self_test,
    ),
    "loops": Part(
        "A training step of GPT-2 small",
        "124M parameters tied, bf16, 16 x 1024 tokens: ours, the same loop by hand, and one as nanoGPT has it (all "
        "logits at once, not compiled), in turns. Share of peak: of the data sheet's dense bf16 rate.",
        130,
        _again("loops"),
    ),
    "characters": Part(
        "Characters, as nanoGPT's smallest setting",
        "6 layers of 384, context 256, batch 64, 5,000 steps, two runs at once. Published: 1.4697 nats on tiny "
        "Shakespeare after 3 minutes, tied. Without --text FILE these are bytes of pydocs, and not to be compared.",
        150,
        _characters,
    ),
    "wikitext2": Part(
        "WikiText-2 with 2 x 650 units",
        f"Dropout 0.5, as many of {PUBLISHED_EPOCHS} epochs as fit, two runs at once. Published, with LSTMs: 94.6 "
        "untied, 86.7 tied (test perplexity).",
        90,
        _again("wikitext2"),
    ),
    "costs": Part(
        "Latency and memory at 124M",
        "Tied against its untied twin, in turns, warm and cold caches: what claim C6 is about.",
        70,
        _costs,
    ),
}
"""In their order; 540 seconds in all."""


@framed
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the parts that the command line asks for, and write the page."""
    args = _options().parse_args(arguments)
    dry_folder = Path(tempfile.gettempdir()) / f"bench-gpu-{os.getpid()}"
    out = args.out or (dry_folder if args.dry else Path("results/gpu"))
    flags = Flags(args.dry, out, args.text, args.root)
    for place in (flags.text, flags.root):
        if place is not None and not place.exists():
            raise BadInput(f"there is no {place}: give a file with --text, a folder of data sets with --root")
    if args.part:
        DOES[args.part](flags)
        return
    has_gpu = flags.dry or bool(machine.gpus())
    figures = {
        name: _run(part, flags) if has_gpu else {"reason": "no GPU here"} for name, part in PARTS.items()
    }
    page = flags.out / "gpu.md"
    if not has_gpu and page.exists():
        print(f"no GPU here: {page} keeps what was measured where there is one")
        return
    known = machine.provenance()
    provenance = {key: known[key] for key in ("commit", "dirty", "cores", "python", "processor")}
    write_json(flags.out / "figures.json", {"parts": figures, "provenance": provenance})
    write_bytes_atomic(page, _page(figures, flags.dry).encode())
    print(page)
    if failed := [name for name, figure in figures.items() if flags.dry and figure.get("reason")]:
        raise BadInput(f"{', '.join(failed)}: see {page}")


def _run(part: Part, flags: Flags) -> dict[str, Any]:
    """Run a part's command; returns its seconds, and what it printed or the reason why there is nothing."""
    began, seconds = time.monotonic(), part.seconds * (SLOWER if flags.dry else 1)
    process = subprocess.Popen(
        part.command(flags),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    reason = None
    try:
        printed, errors = process.communicate(timeout=seconds)
        if process.returncode:
            last = (errors.strip() or printed.strip() or "no word").splitlines()[-1]
            reason = f"exit code {process.returncode}: {last}"
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGTERM)  # runs save where they are
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        printed, _ = process.communicate()
        reason = f"cut off after {seconds} s"
    figure = {"seconds": round(time.monotonic() - began, 1), "printed": printed.strip()}
    return figure | ({"reason": reason} if reason else {})


def _page(figures: dict[str, dict[str, Any]], dry: bool) -> str:
    lines = ["# On a GPU", "", "Made by `make gpu`, one command, on one machine with a GPU."]
    if dry:
        lines = ["# A dry run", "", "On a processor, at sizes of a test: these figures mean nothing."]
    for name, figure in figures.items():
        part = PARTS[name]
        lines += ["", f"## {part.title}", "", part.note, ""]
        if figure.get("reason"):
            lines.append(f"Not measured: {figure['reason']}.")
        if figure.get("printed"):
            lines += ["```text", figure["printed"], "```"]
    return "\n".join([*lines, ""])


# --- parts that are done here


def loops(flags: Flags) -> None:
    """Print tokens a second and share of peak of each loop, tied and untied, and write them to loops.json."""
    import torch

    rows = [row for tying in ("none", "embedding") for row in _loops_of(tying, flags)]
    write_json(
        flags.out / "loops.json",
        {"device": "cpu" if flags.dry else torch.cuda.get_device_name(), "rows": rows},
    )
    columns = [
        Column("parameters", lambda row: short_count(row["num_params"])),
        Column("ms / step", lambda row: fixed(1000 * row["step_s"], 2)),
        Column("tokens/s", lambda row: fixed(row["tokens"] / row["step_s"], 0)),
        Column("ours / theirs", lambda row: fixed(row["ours_over_theirs"], 3)),
        Column("share of peak", lambda row: _percent(row["share_of_peak"])),
    ]
    table = tabulate(["tying", "loop"], [[row["tying"], row["loop"]] for row in rows], columns, rows)
    print((plain if flags.dry else markdown)(table))


def _percent(share: float | None) -> str:
    return NOTHING if share is None else f"{100 * share:.1f} %"


def _loops_of(tying: str, flags: Flags) -> Iterator[dict[str, Any]]:
    import torch
    from lightning.fabric.utilities import move_data_to_device

    from bench.meters.flops import datasheet_rate, flops_of
    from bench.perf import loops as ways
    from bench.perf.steps import timed
    from bench.perf.subjects import composed, subject_of

    device = torch.device("cpu" if flags.dry else "cuda")
    overrides = (*GPT2.split(), f"tying={tying}", *((*SMALL.split(), *OWN_TEXT) if flags.dry else ()))
    run = composed(*overrides, accelerator=flags.accelerator)
    subject = subject_of(run, "GPT-2 small", 100 if flags.dry else GPT2_WORDS)
    subject.plan.apply(subject.model)
    subject.model.to(device)
    batches = [
        move_data_to_device(batch, device)
        for batch in subject.batches((3 if flags.dry else STEPS) + ways.AHEAD)
    ]
    if flags.dry:
        batches = [(inputs % 100, targets % 100, fresh) for inputs, targets, fresh in batches]
    autocast = torch.autocast(device.type, torch.bfloat16)

    def by_hand(losses: Any) -> Any:
        def loop(subject: Any, model: Any, batches: Any, folder: Path) -> None:
            with autocast:
                ways.by_hand(subject, model, batches, folder, losses)

        return loop

    sides = {
        "ours": ways.ours,
        "by hand": by_hand(ways.same_loss),
        "as nanoGPT": by_hand(ways.plain_loss),
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(2 if flags.dry else ROUNDS):
        for name in list(sides) if turn % 2 == 0 else reversed(sides):
            seconds[name].append(timed(subject, sides[name], batches))
    step = ways.bare_step(subject, subject.fresh().train())
    with autocast:
        flops = flops_of(lambda: step(batches[0]))
    peak = datasheet_rate(torch.bfloat16, device)
    ours = statistics.median(seconds["ours"])
    for name, took in seconds.items():
        step_s = statistics.median(took)
        yield {
            "tying": tying,
            "loop": name,
            "num_params": sum(p.numel() for p in subject.model.parameters()),
            "tokens": batches[0][1].numel(),
            "step_s": step_s,
            "ours_over_theirs": ours / step_s,
            "flops": flops,
            "share_of_peak": flops / step_s / peak if peak else None,
        }


def wikitext2(flags: Flags) -> None:
    """Train both networks for as many epochs as fit, by the speed of a short run before them."""
    data = OWN_TEXT if flags.dry else ("data=wikitext2", f"data.root={flags.root}")
    if not flags.root and not flags.dry:
        raise BadInput("give --root FOLDER, which holds wikitext/ laid out as on the hub")
    seconds = PARTS["wikitext2"].seconds
    setting = (
        "task=text_gru model.depth=2 model.width=650 dropout=0.5 task.batches.batch_size=20 "
        "task.batches.window=35 tying=none,embedding"
    )
    common = [*BENCH, *setting.split(), *data, *TRAINER, *flags.places("wikitext2")]
    common += (*GRU_SMALL, "trainer.limit_eval_batches=1") if flags.dry else ()
    began = time.monotonic()
    probe = [*common, "trainer.max_epochs=1", "trainer.val_check_interval=1.0"]
    probe += [f"trainer.limit_train_batches={3 if flags.dry else 200}", "sweep.name=wikitext2_speed"]
    subprocess.run(probe, check=True, capture_output=True)
    rates = [
        record["throughput"]["value"]
        for path in (flags.out / "runs").glob("*/record.json")
        if (record := read_json(path))["task"] == "text_gru" and record["throughput"]["value"]
    ]
    left = 0.75 * seconds - (time.monotonic() - began)
    tokens = 2_088_628  # of WikiText-2's training split
    epochs = 1 if flags.dry else max(1, min(PUBLISHED_EPOCHS, int(left * min(rates) / tokens)))
    limit = ["trainer.limit_train_batches=3"] if flags.dry else ["trainer.limit_train_batches=null"]
    print(f"{epochs} of {PUBLISHED_EPOCHS} epochs", flush=True)
    subprocess.run([*common, f"trainer.max_epochs={epochs}", *limit], check=True)


DOES = {"loops": loops, "wikitext2": wikitext2}


def _options() -> Parser:
    options = parser("bench.perf.gpu", __doc__)
    options.add_argument(
        "--dry", action="store_true", help="on the processor, at sizes of a test: does it all run?"
    )
    options.add_argument("--out", type=Path, metavar="DIR", help="where the page goes (default: results/gpu)")
    options.add_argument("--text", type=Path, metavar="FILE", help="tiny Shakespeare, for the characters")
    options.add_argument("--root", type=Path, metavar="DIR", help="folder of data sets that holds wikitext/")
    options.add_argument("--part", choices=DOES, help="do one part in this process")
    return options


if __name__ == "__main__":
    sys.exit(main())
