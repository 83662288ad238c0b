"""`python -m bench` from outside: its exit codes, what it prints, and what it leaves."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from command import BROKEN, ROOT, TINY, Bench, refused, until

from bench import __main__ as command
from bench.analysis import archive
from bench.runs.command_line import TRACEBACK

SECRET = "local-0123456789abcdef0123456789abcdef01234567"


BAD = [
    (["foo=1"], ["unknown key foo"]),
    (["+foo=1"], ["unknown key foo", "dropout, logger"]),
    (["model.foo=1"], ["unknown key model.foo"]),
    (["+optimizer.foo=1"], ["unknown key optimizer.foo", "beta1, beta2, clip, group_owl, lr"]),
    (["tying=foo"], ["there is no tying=foo", "none", "top_k"]),
    (["data=foo"], ["there is no data=foo", "digits", "pydocs"]),
    (["model=gpt2"], ["task.batches.window"]),
    (["data=pydocs"], ["data=pydocs is text data"]),
    (["dropout=abc"], ["dropout=abc", "[0, 1)"]),
    (["dropout=1"], ["dropout=1", "[0, 1)"]),
    (["dropout=-0.1"], ["dropout=-0.1", "[0, 1)"]),
    (["dropout=[0"], ["[0"]),
    (["seed=1.5"], ["seed=1.5", "whole number"]),
    (["trainer.max_epochs=x"], ["trainer.max_epochs=x", "whole number >= 1"]),
    (["trainer.max_epochs=0"], ["trainer.max_epochs=0", "whole number >= 1"]),
    (["droput=1"], ["unknown key droput: did you mean dropout?"]),
    (["lr=1"], ["unknown key lr: did you mean optimizer.lr?"]),
    (["epochs=3"], ["unknown key epochs: did you mean trainer.max_epochs?"]),
    (["wd=1"], ["unknown key wd: did you mean weight_decay?"]),
    (["tying=embeding"], ["did you mean embedding?"]),
    (["-m", "hydra/launcher=jobib"], ["did you mean joblib?"]),
    (["--mutlirun"], ["did you mean --multirun?"]),
    (["--resutls=x"], ["did you mean results=x, without dashes?"]),
    (["start=null"], ["start=null is not allowed", "start=none"]),
    (["data=null"], ["data=null is not allowed", "data=blood_cells", "digits"]),
    (["logger=1.5"], ["logger=1.5 is not allowed", "logger=none", "wandb"]),
    (["-m", "tying=none,2"], ["tying=none,2 is not allowed", "tying=none"]),
    (["=1"], ["=1 has no key", "key=value"]),
    (["tying.parts=1"], ["tying.parts=1 is not allowed"]),
    (
        ["tying=cross_layer", "tying.scope=5"],
        ["tying.scope=5 is not allowed", "weights, all", "feed_forward"],
    ),
    (
        ["tying=cross_layer", "tying.scope=[conv,brain]"],
        ["tying.scope=['conv', 'brain']", "weights, all", "norm"],
    ),
    (["tying=cross_layer", "tying.parts.cross_layer.scope=3"], ["tying.parts.cross_layer.scope=3", "norm"]),
    (["tying=hashed", "tying.parts.hashed.scope=[[conv]]"], ["tying.parts.hashed.scope=[['conv']]", "norm"]),
    (["data=fashion_mnist", "data.root='~no_such_user/x'"], ["~no_such_user/x", "no user"]),
    (["seed=" + "1" * 5000], ["thousands of digits"]),
    (["seed=99999999999999999999"], ["seed=99999999999999999999 is not allowed", "2**32"]),
    (["runs="], ["runs= is not allowed"]),
    (["task.name=../up"], ["task.name=../up is not allowed", "letters"]),
    (["task.metric.mode=up"], ["task.metric.mode=up is not allowed", "max or min"]),
    (["task.metric.name=nosuch"], ["task.metric.name=nosuch is not allowed", "accuracy or nll"]),
    (["data.module=1"], ["data.module=1 is not allowed"]),
    (["trainer.threads=100000"], ["trainer.threads=100000 is not allowed", "1024"]),
    (["-m", "seed=range(0,0)"], ["seed=range(0,0)", "empty range"]),
    (["-m", "sweep.name=a,b"], ["sweep.name is one for a whole sweep", "a and b"]),
    (["-m", "sweep=smoke,quick"], ["sweep.name is one for a whole sweep", "smoke and quick"]),
    (["-m", "sweep.points=2,4"], ["sweep.points is one for a whole sweep", "2 and 4"]),
    (["-m", "cache={tmp}/a,{tmp}/b"], ["cache is one for a whole sweep", "/a and", "/b"]),
    (["-m", "runs=runs_a,runs_b"], ["runs is one for a whole sweep", "runs_a and runs_b"]),
    (
        ["-m", "logger=csv,none"],
        ["logger is one for a whole sweep", "csv_logger and bench.runs.loggers.no_logger"],
    ),
    (["-m", "retry=true,false"], ["retry is one for a whole sweep"]),
    (["tying=learned", "tying.grouping=[0,0,0,0,0,1]"], ["tying=learned finds", "tying=grouped"]),
    (["model.depth=6", "tying=learned", "tying.groups=7"], ["tying.groups=7", "from 1 to 6"]),
    (["tying=top_k", "tying.k=0"], ["tying.k=0", "from 1"]),
    (["model.depth=6", "tying=top_k", "tying.k=99"], ["tying.k=99", "from 1 to 6"]),
    (["tying=top_k", "tying.k=2", "tying.fraction=0.5"], ["tying.k and tying.fraction"]),
    (["tying=soft", "tying.strength=-1"], ["tying.strength=-1", ">= 0"]),
    (["data=fashion_mnist", "data.root=/nonexistent"], ["/nonexistent/fashion_mnist", "data.root"]),
    (["runs=/proc/nope"], ["/proc/nope", "choose a"]),
    (["cache=/proc/nope"], ["/proc/nope", "choose a"]),
    (["-m", "seed=1", "results=/proc/nope"], ["/proc/nope", "choose a folder"]),
    (["-m", "seed=1,2", "dropout=0,1"], ["dropout=1", "[0, 1)"]),
    (["trainer.devices=0"], ["trainer.devices=0", "whole number >= 1"]),
    (["trainer.devices=64"], ["trainer.devices=64", "there are", "at most"]),
    (["-m", "seed=1", "trainer.devices=64"], ["trainer.devices=64", "there are", "at most"]),
    (["trainer.devices=2", "task.batches.batch_size=5"], ["batch_size=5", "devices=2", "multiple"]),
    (["trainer.strategy=fsdp"], ["trainer.strategy=fsdp", "auto or ddp", "untie"]),
    (["trainer.checkpoint_every_s=0"], ["trainer.checkpoint_every_s=0", "> 0"]),
    (["-m", "hydra/launcher=foo"], ["there is no hydra/launcher=foo", "joblib", "slurm"]),
    (["-m", "seed=1", "+hydra.launcher.foo=1"], ["unknown key hydra.launcher.foo", "n_jobs"]),
    (["-m", "seed=1", "hydra.launcher.n_jobs=0"], ["hydra.launcher.n_jobs=0", ">= 1"]),
    (["++foo=1"], ["unknown key foo", "dropout, logger"]),
    (["+seed=1"], ["already at 'seed'", "++seed=1"]),
    (["~nosuch"], ["unknown key nosuch"]),
    (["~optimizer.lr"], ["optimizer.lr is missing"]),
    (["--nosuch"], ["unrecognized arguments: --nosuch", "--help"]),
    (["--cfg=nosuch"], ["nosuch", "job"]),
    (["--run", "-m"], ["Only one of --run, --multirun"]),
    (["--resolve"], ["--resolve", "--cfg"]),
    (["--config-name=nosuch"], ["Cannot find primary config 'nosuch'"]),
    (["--config-dir=/nonexistent"], ["/nonexistent", "not found"]),
    (["seed"], ["seed has no value: did you mean seed=...?"]),
    (["seed==1"], ["'='", "write it as seed=1"]),
    (["\N{EM DASH}dropout=1"], ["\N{EM DASH}dropout=1", "write it as seed=1"]),
    (["seed:1"], ["seed:1", "write it as seed=1"]),
    (["seed=1;dropout=2"], ["seed=1;dropout=2", "in quotes"]),
    ([""], ["mismatched input", "write it as seed=1"]),
    (["dropout=${seed"], ["mismatched input"]),
    (["dropout=${nosuch}"], ["'nosuch' not found"]),
    (["dropout=${oc.env:NO_SUCH_VARIABLE}"], ["NO_SUCH_VARIABLE"]),
    (["tying={a:1}"], ["tying is a group", "tying=none"]),
    (["tying=[none,foo]"], ["there is no tying=foo", "top_k"]),
    (["+tying=none"], ["tying appears more than once"]),
    (["hydra.job.foo=1"], ["unknown key hydra.job.foo"]),
    (["hydra.mode=foo"], ["hydra.mode=foo"]),
    (["optimizer.lr=inf"], ["optimizer.lr=inf", "> 0"]),
    (["sweep.point=1"], ["sweep.point=1", "keys with values"]),
    (["runs=null"], ["runs=None is not allowed"]),
    (["-m", "seed=1,2,foo"], ["seed=foo", "whole number"]),
    (["-m", "seed=choice()"], ["empty choice"]),
    (["-m", "seed=range(1,2,0)"], ["range() arg 3 must not be zero"]),
    (["-m", "seed=glob(*)"], ["seed=glob(*)", "empty range"]),
    (["-m", "dropout=interval(0,1)"], ["interval(0,1)", "choice(...)"]),
    (["-m", "hydra/sweeper=foo"], ["there is no hydra/sweeper=foo"]),
    # What a run would find out for itself, read from the source of what it names:
    (["+model.foo=1"], ["unknown key model.foo", "depth, feed_forward, norm"]),
    (["+model.dropout=0.5"], ["unknown key model.dropout"]),
    (["+model.stage=1"], ["did you mean model.stages?"]),
    (["model=gru"], ["no model for task=image_cnn", "takes no in_channels"]),
    (["model._target_=nosuch.Net"], ["no module nosuch"]),
    (["model._target_=bench.models.cnn.Nosuch"], ["no Nosuch in bench.models.cnn"]),
    (
        ["task=text_transformer", "model.architecture=gptt2"],
        ["unknown to transformers", "did you mean gpt2?"],
    ),
    (["tying=cross_layer", "+tying.parts.cross_layer.foo=1"], ["unknown key tying.parts.cross_layer.foo"]),
    (
        ["task.module._target_=bench.models.cnn.ResidualBlock"],
        ["task.module._target_", "takes no form, meta"],
    ),
    (["+task.module.foo=1"], ["unknown key task.module.foo"]),
    (["logger=none", "+logger.foo=1"], ["unknown key logger.foo"]),
    (["logger._target_=nosuch.Logger"], ["no module nosuch"]),
]


def test_there_are_many_bad_command_lines() -> None:
    assert len({tuple(words) for words, _ in BAD}) >= 60


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize(("words", "said"), BAD, ids=lambda words: " ".join(words)[:60])
def test_bad_input_is_one_line_and_leaves_nothing(
    words: list[str],
    said: list[str],
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The command in this process, which spares a second each: what it returns, prints and leaves."""
    flags, rest = (["-m"], words[1:]) if words[0] == "-m" else ([], words)
    places = [f"runs={tmp_path / 'runs'}", f"results={tmp_path / 'results'}", f"cache={cache}"]
    asked = [word.replace("{tmp}", str(tmp_path)) for word in rest]
    monkeypatch.setattr(sys, "argv", ["bench", *flags, *places, "logger=none", *asked])
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # those of pytest stay
    monkeypatch.setenv(TRACEBACK, "0")
    assert command.main() == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ") and err.count("\n") == 1 and err.endswith("\n"), err
    for word in said:
        assert word in err
    assert not list(tmp_path.iterdir())


def test_damaged_data_is_one_line(bench: Bench) -> None:
    (bench.folder / "blood_cells").mkdir(parents=True)
    for split in ("train", "test"):
        (bench.folder / "blood_cells" / f"{split}-00000-of-00001.parquet").write_text("torn")
    refused(bench("data=blood_cells", f"data.root={bench.folder}"), "blood_cells", "restore its files")
    empty = bench.folder / "empty.txt"
    empty.write_text("\n \n")
    refused(bench("task=text_gru", "data=text_files", f"data.files={empty}"), str(empty), "empty")
    assert not bench.runs.exists() or not list(bench.runs.iterdir())


@pytest.mark.parametrize(
    ("overrides", "library"),
    [
        (["-m", "hydra/launcher=slurm"], "submitit"),
        (["-m", "hydra/launcher=ray"], "ray"),
        (["-m", "sweep=search_k"], "optuna"),
    ],
)
def test_a_library_that_is_not_there_is_named_with_the_command_that_gets_it(
    bench: Bench, overrides: list[str], library: str
) -> None:
    if importlib.util.find_spec(library):
        pytest.skip(f"{library} is installed")
    refused(bench(*overrides), "not installed: .venv/bin/pip install", library)


@pytest.mark.parametrize("flags", [[], ["-m"]], ids=["a run", "a sweep"])
def test_what_only_the_built_network_can_tell_is_refused_before_anything_runs(
    bench: Bench, flags: list[str]
) -> None:
    """Each of several cells is looked at, and the good ones are not run either."""
    grid = ["model.depth=6,7"] if flags else ["model.depth=7"]
    refused(bench(*flags, *grid), "depth 7 does not divide into 3 stages", "model.depth=6 or 9")
    assert not list(bench.folder.iterdir())


def test_a_traceback_is_there_for_the_asking(bench: Bench) -> None:
    result = bench("dropout=1", HYDRA_FULL_ERROR="1")
    assert "Traceback" in result.stderr and "dropout=1 is not allowed" in result.stderr
    assert result.returncode != 0


@pytest.mark.parametrize("flag", ["--help", "--cfg=job"])
def test_a_reader_that_has_seen_enough_is_no_error(bench: Bench, flag: str) -> None:
    command = f"set -o pipefail; {sys.executable} -m bench {flag} | head -1"
    result = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, env=bench.env, capture_output=True, text=True, check=False
    )
    assert result.stderr == ""
    assert result.returncode == 0
    assert result.stdout.count("\n") == 1


def test_help_shows_groups_keys_and_examples(bench: Bench) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "bench", "--help"], cwd=ROOT, env=bench.env, capture_output=True, text=True
    )
    assert result.returncode == 0 and result.stderr == ""
    for word in ("dropout: 0.0", "python -m bench -m", "Exit code:"):
        assert word in result.stdout
    conf = ROOT / "conf"
    shown = " ".join(result.stdout.replace("#", " ").split())
    for path in (conf / "tying").glob("*.yaml"):
        assert f" {path.stem} {path.read_text().splitlines()[0].removeprefix('# ')}" in shown
    for key, comment in re.findall(r"(?m)^ *(\w+: [^#\s]+) +# (.*)", (conf / "config.yaml").read_text()):
        assert f"{key} {' '.join(comment.split())}" in shown or key in ("lr: null", "start: null"), key


GRID = ["-m", "tying=none,embedding,cross_layer", "logger=csv", "sweep.name=grid"]
RANKS = {"MASTER_PORT": "1", "MASTER_ADDR": "10.0.0.1", "RANK": "3", "LOCAL_RANK": "3", "WORLD_SIZE": "4"}


@pytest.fixture(scope="module")
def swept(make: Callable[[], Bench]) -> tuple[Bench, subprocess.CompletedProcess[str]]:
    """A sweep of three, started from within what looks like another job's rank."""
    bench = make()
    return bench, bench.as_a_user(*GRID, **RANKS, SLURM_NTASKS="4", PL_GLOBAL_SEED="7")


def test_a_sweep_ends_well(swept) -> None:
    bench, result = swept
    assert result.returncode == 0, result.stderr
    assert "training 3/3: 2 done, 1 not applicable, 0 failed, 0 left" in result.stderr
    statuses = {record["tying"]: record["status"] for record in bench.records().values()}
    assert statuses == {"none": "done", "embedding": "not_applicable", "cross_layer": "done"}


def test_its_records_are_whole(swept) -> None:
    bench, _ = swept
    for record in bench.records().values():
        assert record["schema"] == 1 and record["sweep"] == "grid"
        assert record["data_meta"]["fingerprint"] == record["config"]["data"]["fingerprint"]
        assert record["provenance"]["threads"] == 1 and record["provenance"]["versions"]["torch"]
        cost = json.loads((bench.runs / "costs" / record["cost"] / "cost.json").read_text())
        assert cost["status"] == record["status"]
        if record["status"] == "done":
            assert set(record["test"]) == set(record["val"]) == {"nll", "accuracy", "examples"}
            assert record["gap"] == pytest.approx(record["val"]["nll"] - record["train"]["nll"])
            assert cost["train_step"]["ratio"] > 0 and cost["memory"]["train_step"]["total"] > 0
        else:
            assert record["reason"] == "no input embedding in this network"


def test_tying_gave_fewer_parameters(swept) -> None:
    by_tying = {record["tying"]: record for record in swept[0].records().values()}
    none, tied = by_tying["none"], by_tying["cross_layer"]
    assert none["num_params"] == none["num_params_untied"] == tied["num_params_untied"] > tied["num_params"]


def test_its_manifest_lists_what_was_asked(swept) -> None:
    bench, _ = swept
    manifest = json.loads((bench.runs / "sweeps" / "grid.json").read_text())
    assert manifest["name"] == "grid"
    assert {run["id"] for run in manifest["runs"]} == set(bench.records())
    assert [run["tying"] for run in manifest["runs"]] == ["none", "embedding", "cross_layer"]


def test_its_tables_show_the_hole_with_its_reason(swept) -> None:
    bench, result = swept
    page = "".join(path.read_text() for path in sorted((bench.results / "grid").glob("*.md")))
    assert "n/a" in page and "no input embedding" in page
    assert len(archive.read(archive.path_of(bench.results, "grid")).records) == 3
    assert "cross_layer" in result.stdout


def test_each_run_keeps_its_frozen_config_environment_and_csv(swept) -> None:
    bench, _ = swept
    for run_id, record in bench.records().items():
        folder = bench.runs / run_id
        assert "torch==" in (folder / "env").read_text()
        assert "seed: 1\n" in (folder / "config.yaml").read_text()
        if record["status"] == "done":
            assert "val/accuracy" in (folder / "csv" / "metrics.csv").read_text()


def test_a_second_call_trains_nothing_and_writes_the_same_tables(swept) -> None:
    bench, first = swept
    stamps = bench.stamps()
    tables = {path: path.read_bytes() for path in bench.results.rglob("*") if path.is_file()}
    result = bench(*GRID)
    assert result.returncode == 0, result.stderr
    assert bench.stamps() == stamps
    assert {path: path.read_bytes() for path in bench.results.rglob("*") if path.is_file()} == tables
    assert result.stdout == first.stdout


def test_one_of_its_runs_is_found_by_a_single_call(swept) -> None:
    bench, _ = swept
    stamps = bench.stamps()
    result = bench("tying=cross_layer", "logger=none", "tying.k=3")
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert "note: tying.k is not used by tying=cross_layer" in result.stdout
    assert "accuracy" in result.stdout and "record: " in result.stdout
    assert bench.stamps() == stamps


def test_a_tying_that_cannot_apply_is_refused_as_a_single_run(swept) -> None:
    bench, _ = swept
    stamps = bench.stamps()
    refused(bench("tying=embedding"), "tying=embedding cannot be applied to image_cnn: no input embedding")
    assert bench.stamps() == stamps


def test_a_failing_and_a_diverging_run_are_rows(bench: Bench) -> None:
    """At depth 9 the network is broken; at rate 1e6 the loss explodes."""
    grid = ["-m", *BROKEN, "model.depth=6,9", "optimizer.lr=0.003,1e6", "optimizer.clip=null"]
    grid += ["trainer.limit_train_batches=null", "trainer.max_epochs=2"]
    result = bench(*grid)
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert (
        last.startswith("error: 2 of 4 runs failed: RuntimeError: broken on purpose") and "retry=true" in last
    )
    assert "Traceback" not in result.stderr
    key = {
        (r["config"]["model"]["depth"], r["config"]["optimizer"]["lr"]): r for r in bench.records().values()
    }
    assert {at: record["status"] for at, record in key.items()} == {
        (6, 0.003): "done",
        (6, 1e6): "diverged",
        (9, 0.003): "failed",
        (9, 1e6): "failed",
    }
    assert "loss" in key[6, 1e6]["reason"]
    page = "".join(path.read_text() for path in sorted((bench.results / "custom").glob("*.md")))
    assert "diverged" in page and "broken on purpose" in page

    before = bench.stamps()
    assert bench(*grid).returncode == 1  # failed is recorded too, until it is asked for again
    assert bench.stamps() == before
    assert bench(*grid, "retry=true").returncode == 1
    after = bench.stamps()
    again = {path.parent.name for path in after if after[path] != before.get(path)}
    assert again & set(bench.records()) == {key[9, 0.003]["id"], key[9, 1e6]["id"]}
    unchanged = {record["cost"] for record in key.values() if record["status"] != "failed"}
    assert not again & unchanged


def test_two_controllers_record_every_run_once(bench: Bench) -> None:
    grid = ["-m", "seed=1,2", "tying=none", "hydra.launcher.n_jobs=2"]
    both = [bench.start(*grid) for _ in range(2)]
    first: dict[Path, int] = {}
    while any(process.poll() is None for process in both):
        for path, stamp in bench.stamps().items():
            assert first.setdefault(path, stamp) == stamp, f"{path} was written twice"
        time.sleep(0.02)
    ends = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], ends
    assert bench.stamps() == first and len(first) == 3
    assert {record["status"] for record in bench.records().values()} == {"done"}


def test_death_and_ctrl_c_leave_no_process_and_no_half_of_a_record(bench: Bench) -> None:
    """A killed run is a row; a killed or interrupted controller takes its runs along; a call finishes."""
    long = ["-m", "seed=1,2", "hydra.launcher.n_jobs=1", "trainer.limit_train_batches=null"]
    long += [
        "trainer.max_epochs=10",
        "model.width=8",
        "trainer.limit_eval_batches=null",
        "measure.max_seconds=0",
    ]

    def training(but: str | None = None) -> tuple[str, int] | None:
        running = {
            name: pid for name, pid in bench.workers().items() if (bench.runs / name / "status.json").exists()
        }
        running.pop(but, None)
        return next(iter(running.items()), None)

    controller = bench.start(*long)
    victim, pid = until(training, "the first run")
    os.kill(pid, signal.SIGKILL)
    second, pid = until(lambda: training(victim), "the second run")
    assert bench.records()[victim]["reason"].startswith("killed by SIGKILL")
    controller.kill()
    controller.communicate()
    until(lambda: not bench.workers(), "the end of the run", seconds=20)
    assert set(bench.records()) == {victim}

    controller = bench.start(*long)
    until(training, "the second run again")
    os.killpg(controller.pid, signal.SIGINT)
    _, err = controller.communicate(timeout=60)
    assert controller.returncode == 130
    assert [line for line in err.splitlines() if not line.startswith(("training", "measuring"))] == [
        "interrupted: what is recorded is kept, the same command does the rest"
    ]
    until(lambda: not bench.workers(), "the end of the run", seconds=20)
    assert set(bench.records()) == {victim}

    result = bench(*long, "retry=true")
    assert result.returncode == 0, result.stderr
    assert {record["status"] for record in bench.records().values()} == {"done"}
    assert set(bench.records()) == {victim, second}


def test_ctrl_c_at_once_is_one_line_too(bench: Bench) -> None:
    controller = bench.start_python("seed=1")
    until(lambda: list(bench.runs.glob("costs/*/env")), "the first folder")
    os.killpg(controller.pid, signal.SIGINT)
    out, err = controller.communicate(timeout=60)
    assert (controller.returncode, out) == (130, "")
    assert err == "interrupted: what is recorded is kept, the same command does the rest\n", err
    assert bench.records() == {}


def test_a_run_in_wandb_is_the_run_on_disk(bench: Bench) -> None:
    result = bench(
        "logger=wandb",
        "logger.checkpoint=true",
        "tying=top_k",
        "tying.k=2",
        "seed=4",
        "trainer.limit_train_batches=20",
        WANDB_API_KEY=SECRET,
    )
    assert result.returncode == 0, result.stderr
    ((run_id, record),) = bench.records().items()
    (offline,) = (bench.runs / run_id / "wandb").glob("offline-run-*")

    def read(*flags: str) -> str:
        command = [sys.executable, "-m", "wandb", "leet", "inspect", *flags, "--json", str(offline)]
        return subprocess.run(command, env=bench.env, capture_output=True, text=True, check=True).stdout

    (written,) = offline.glob("run-*.wandb")
    assert f"{run_id}-best".encode() in written.read_bytes()  # the artifact of the best weights
    shown = json.loads(read("--summary"))
    assert (shown["run_id"], shown["state"], shown["exit_code"]) == (run_id, "finished", 0)
    assert shown["config"]["tying_k"] == 2 and shown["config"]["seed"] == 4
    assert set(record["config"]) <= set(shown["config"])
    cost = json.loads((bench.runs / "costs" / record["cost"] / "cost.json").read_text())
    summary = shown["summary"]
    assert summary["test/accuracy"] == record["test"]["accuracy"]
    assert summary["best/val/nll"] == record["val"]["nll"] and summary["gap"] == record["gap"]
    assert summary["num_params"] == record["num_params"] < record["num_params_untied"]
    assert summary["cost/latency/batch/tied/median_s"] == cost["latency"]["batch"]["tied"]["median_s"]
    assert summary["cost/memory/train_step/total_mib"] == cost["memory"]["train_step"]["total"] / 2**20
    curves = read()
    by_step = ("train/loss", "train/lr", "train/images_per_s")
    for word in (
        *by_step,
        "train/nll",
        "val/nll",
        "val/accuracy",
        "spread/depth",
        "tying=top_k(k=2)",
        "seed=4",
    ):
        assert word in curves
    hidden = SECRET.removeprefix("local-").encode()
    files = [path for path in bench.folder.rglob("*") if path.is_file()]
    assert not [path for path in files if hidden in path.read_bytes()]


SIGNALLED = """
import os, signal
from bench import __main__ as command
signal.signal(signal.SIGTERM, command._stop)
try:
    os.kill(os.getpid(), signal.SIGTERM)
except KeyboardInterrupt:
    for number in (signal.SIGTERM, signal.SIGINT) * 3:  # while the first is being answered
        os.kill(os.getpid(), number)
    print("ended well")
"""


def test_a_second_signal_does_not_disturb_the_end(bench: Bench) -> None:
    result = subprocess.run(
        [sys.executable, "-c", SIGNALLED], cwd=ROOT, env=bench.env, capture_output=True, text=True
    )
    assert (result.stdout, result.stderr) == ("ended well\n", "")


@pytest.mark.parametrize("closed", [">&-", "<&-", ">&- <&-"])
def test_a_closed_stream_is_no_error(bench: Bench, closed: str) -> None:
    command = f"{sys.executable} -m bench dropout=2 {closed}"
    result = subprocess.run(["bash", "-c", command], cwd=ROOT, env=bench.env, capture_output=True, text=True)
    refused(result, "dropout=2 is not allowed")


def test_a_run_with_closed_streams_and_the_pictures_of_a_notebook(bench: Bench) -> None:
    """What Jupyter sets for all its children names a module that is not here."""
    words = " ".join([*bench.places, *TINY, "measure.max_seconds=0"])
    command = f"{sys.executable} -m bench -m seed=1 {words} >&- <&-"
    env = {**bench.env, "MPLBACKEND": "module://of_a_notebook.inline"}
    result = subprocess.run(["bash", "-c", command], cwd=ROOT, env=env, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    (record,) = bench.records().values()
    assert record["status"] == "done" and list((bench.results / "custom").glob("*.png"))
