"""Log a run's curves besides its record: to W&B, to a csv file, or nowhere. No table reads them."""

import contextlib
import os
import re
import shutil
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import wandb
from hydra.utils import instantiate
from lightning.pytorch.loggers import CSVLogger, Logger

from bench.runs import machine
from bench.runs.process import is_stripped
from bench.runs.store import BEST, STEP, cost_folder, leaves, recorded
from bench.runs.tying_spec import recorded_spec

FLUSH_S = 0.2
"""The most that a killed run loses of what it logged: by default the service keeps 15 s in memory."""

COST_KEYS = ("train_step", "latency", "memory", "flops", "energy")
"""What a run's summary takes over from the cost record of its cell."""

PARTS_OF_MEMORY = tuple(f"cost/memory/{part}/" for part in ("inference", "train_step", "state", "predicted"))
"""Figures of a summary that are bytes, whatever their name."""

GRACE_S = 5
"""Beyond its own limits, before the service process counts as hung and is killed."""


def open_logger(request: Mapping[str, Any], config: Mapping[str, Any], folder: Path) -> Logger | bool:
    """Open the logger that the run was asked to use, with the whole config in it. Returns False for none."""
    chosen = {key: value for key, value in request["logger"].items() if key != "needs"}
    if chosen.get("_partial_"):
        logger = instantiate(chosen)(folder, request)
    else:  # one of Lightning's own
        logger = instantiate({"save_dir": str(folder), **chosen})
    if isinstance(logger, Logger):
        logger.log_hyperparams(scalars(request, config) | {k: v for k, v in config.items() if k != "tying"})
    return logger


def scalars(request: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a tracker groups and filters by: the axes of the grid, a number or a word each.

    A key of a method is `tying_KEY` (`tying_k`, `tying_groups`), but for its `strength`, which has a name of its own.
    The config's own `tying`, a tree, is `tying_config`.
    """
    spec = recorded_spec(request)
    keys = {key: value for part in (spec.parts if spec else ()) for key, value in part.keys}
    named = {key if key == "strength" else f"tying_{key}": value for key, value in keys.items()}
    axes = {key: request[key] for key in ("tying", "dropout", "weight_decay", "seed", "data", "sweep")}
    return {**named, **axes, "control": spec and spec.control, "tying_config": config.get("tying")}


def close_logger(
    logger: Logger | bool, request: Mapping[str, Any], record: Mapping[str, Any], runs: Path
) -> None:
    """Put the record's figures and its cell's cost into the summary and close the tracker's run."""
    if not isinstance(logger, Logger):
        return
    cost = (request["cost"] and recorded(cost_folder(runs, request["cost"]) / "cost.json")) or {}
    # The last value of each curve is in the summary already, under the curve's name.
    best = {split: record[split] for split in ("val", "train") if split in record}
    rest = {key: record[key] for key in record if key not in ("curves", "decay", *best)}
    summary = leaves(
        {**rest, "best": best, "cost": {key: cost[key] for key in COST_KEYS if key in cost}}, "/"
    )
    summary = dict(_in_mib(key, value) for key, value in summary.items())
    # For anything else W&B imports pandas, half a second in each run; the record has it.
    summary = {key: value for key, value in summary.items() if isinstance(value, int | float | str)}
    if isinstance(logger, OfflineWandbLogger | TrackioLogger):
        logger.close(summary)
    else:
        logger.log_metrics({k: v for k, v in summary.items() if isinstance(v, int | float)})
        logger.finalize("success")


def _in_mib(key: str, value: Any) -> tuple[str, Any]:
    """Return a number of bytes as one of MiB, under a name that says so; anything else as it is."""
    if (
        not isinstance(value, int | float)
        or not key.endswith("bytes")
        and not key.startswith(PARTS_OF_MEMORY)
    ):
        return key, value
    name = key.removesuffix("bytes") if key.endswith("bytes") else f"{key}_"
    return f"{name}mib", value / 2**20


class OfflineWandbLogger(Logger):
    """Logs to a W&B run, offline by default. It never fails the run, and delays it by `timeout_s` at each end at most.

    With WANDB_MODE=online, where the server cannot be reached in `timeout_s`, the W&B run goes on offline under the
    same id, and an upload that is not done `timeout_s` after the end is left. Either way all of it lies in a folder
    `offline-run-...`, which `wandb sync` uploads, together with those of other attempts at this run. If W&B's own
    process fails, the rest is not logged. Each of these is one line in the run's log.

    Args:
        identity: What `wandb.init` is given to say which run this is: project, id, name, group, dir and so on. No
            variable of the environment changes it.
        checkpoint: The file of weights that becomes an artifact of a run that is done; None for none.
    """

    def __init__(self, timeout_s: float, checkpoint: Path | None = None, **identity: Any) -> None:
        super().__init__()
        self.timeout_s, self.checkpoint, self.identity = timeout_s, checkpoint, identity
        self.run: wandb.Run | None = None
        # An agent's or another job's variables would make this the run of somebody else.
        for name in [name for name in os.environ if name.startswith("WANDB_") and is_stripped(name)]:
            del os.environ[name]
        # No reports about itself to its maker: they wait for the server too, beyond every limit that is set here.
        os.environ["WANDB_ERROR_REPORTING"] = "false"
        os.environ["WANDB_MODE"] = mode = os.environ.get("WANDB_MODE") or "offline"
        with self._guarded():
            self._open(mode)

    @property
    def name(self) -> str:
        return self.identity["project"]

    @property
    def version(self) -> str:
        return self.identity["id"]

    def log_hyperparams(self, params: Mapping[str, Any], *_: Any, **__: Any) -> None:
        if self.run is not None:
            with self._guarded(), self._bounded():
                self.run.config.update(dict(params), allow_val_change=True)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        if self.run is not None:
            with self._guarded(), self._bounded():
                self.run.log({**metrics, STEP: step})

    def finalize(self, status: str) -> None:
        """End a failed run. After "success" the summary is still to come, and `close` ends it."""
        if status != "success":
            self.close({}, exit_code=1)

    def close(self, summary: Mapping[str, Any], exit_code: int = 0) -> None:
        if self.run is not None:
            with self._guarded(), self._bounded():
                self.run.summary.update(summary)
                if self.checkpoint and exit_code == 0:
                    weights = wandb.Artifact(f"{self.version}-best", "model")
                    weights.add_file(str(self.checkpoint), policy="immutable")  # from there, without a copy
                    self.run.log_artifact(weights)
                self._finish(self.run, exit_code)
                self.run = None
                wandb.teardown()

    def _open(self, mode: str) -> None:
        before = self._folders()
        try:
            run = self._init(mode)
        except Exception as error:
            if mode != "online":
                raise
            with self._bounded(), contextlib.suppress(OSError):  # a dead service takes no message
                wandb.teardown()  # the service refuses a second run of one id
            for begun in self._folders() - before:
                shutil.rmtree(begun)
            run = self._init("offline")
            _say(f"{_reason(error)}: this run is offline, {_upload()} uploads it")
        run.define_metric(STEP)
        run.define_metric("*", step_metric=STEP, step_sync=True)
        self.run = run

    def _init(self, mode: str) -> wandb.Run:
        settings = wandb.Settings(
            silent=True,
            console="off",
            symlink=False,
            disable_git=True,  # the record has the provenance
            x_disable_stats=True,
            x_service_wait=self.timeout_s,
            x_transaction_log_flush_interval=FLUSH_S,
            init_timeout=self.timeout_s,
            finish_timeout=self.timeout_s,
            finish_timeout_raises=True,
        )
        with self._bounded():
            return wandb.init(**self.identity, mode=mode, resume="allow", settings=settings)

    def _finish(self, run: wandb.Run, exit_code: int) -> None:
        folder = Path(run.dir).parent
        try:
            run.finish(exit_code)
            uploaded = not _gave_up(folder)
        except TimeoutError:
            uploaded = False
        if not uploaded and folder.name.startswith("run-"):
            folder.rename(folder.with_name(f"offline-{folder.name}"))
            _say(f"the upload did not end in time: {_upload()} does it again")

    def _folders(self) -> set[Path]:
        return set(Path(self.identity["dir"]).glob("wandb/run-*"))

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """Let an error in here end the logging and nothing else.

        Of the errors of its server, its service process and its settings W&B exports few, so that all are caught.
        """
        try:
            yield
        except Exception as error:
            self.run = None
            _say(f"{_reason(error)}: the rest of this run is in its record only")

    @contextlib.contextmanager
    def _bounded(self) -> Iterator[None]:
        """Make a service fail that hangs in here."""
        hung = threading.Timer(self.timeout_s + GRACE_S, _kill_service)
        hung.start()
        try:
            yield
        finally:
            hung.cancel()


def _kill_service() -> None:
    """Kill W&B's own process, a child of this one, which is in a session of its own."""
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if child.name() == "wandb-core":
                child.kill()


def _gave_up(folder: Path) -> bool:
    """Tell whether the service gave up on uploading: it says so in its own log alone."""
    log = folder / "logs" / "debug-internal.log"
    return log.exists() and b"fatal error" in log.read_bytes()


def _reason(error: Exception) -> str:
    return f"W&B fails ({type(error).__name__}: {' '.join(str(error).split())[:200]})"


def _upload() -> str:
    return machine.command("make sync", "wandb sync runs/*/wandb/offline-run-*")


def _say(line: str) -> None:
    print(f"note: {line}", flush=True)


def wandb_logger(
    folder: Path, request: Mapping[str, Any], *, project: str, timeout_s: float, checkpoint: bool = False
) -> Logger:
    """Make one W&B run for the run: id = its identity, group = the seeds of its cell, job type = sweep, tags = axes."""
    name, group, tags = names(request)
    return OfflineWandbLogger(
        timeout_s,
        folder / BEST if checkpoint else None,
        project=project,
        id=request["id"],
        name=name,
        group=group,
        job_type=request["sweep"][:64],
        notes=f"python -m bench {' '.join(request.get('overrides') or ())}".strip(),
        tags=tags,
        dir=str(folder),
    )


def names(request: Mapping[str, Any]) -> tuple[str, str, list[str]]:
    """Return a run's name, that of its group, which the seeds of one cell share, and its tags, no longer than W&B has.

    What else the sweep varied stands in the name too, so that no two runs of a sweep have one name.
    """
    dropout, decay, seed = (f"{float(request[key]):g}" for key in ("dropout", "weight_decay", "seed"))
    cell = " ".join([f"{request['task']} {request['tying']} d{dropout} wd{decay}", *_varied(request)])
    tags = [request["task"], request["data"], f"tying={request['tying']}", f"dropout={dropout}"]
    tags += [f"weight_decay={decay}", f"seed={seed}", f"sweep={request['sweep']}"]
    return f"{cell[:112]} s{seed}", f"{cell[:112]} {request['cell']}", [tag[:64] for tag in tags]


def _varied(request: Mapping[str, Any]) -> list[str]:
    """Return the overrides of the run that are not among the axes of every name."""
    axes = ("task", "tying", "dropout", "weight_decay", "seed", "sweep", "runs", "results", "cache", "logger")
    words = (word.lstrip("+") for word in request.get("overrides") or ())
    return [word for word in words if re.split("[.=]", word, maxsplit=1)[0] not in axes]


class TrackioLogger(Logger):
    """Logs to trackio, a local dashboard with W&B's calls, by the names that W&B has.

    `trackio show --project tying-bench` shows it. Files lie in `runs/trackio`, which TRACKIO_DIR changes.
    """

    def __init__(self, folder: Path, request: Mapping[str, Any], project: str) -> None:
        super().__init__()
        os.environ.setdefault("TRACKIO_DIR", str(folder.parent / "trackio"))
        self.project, self.request = project, request
        self.run: Any = None

    @property
    def name(self) -> str:
        return self.project

    @property
    def version(self) -> str:
        return self.request["id"]

    def log_hyperparams(self, params: Mapping[str, Any], *_: Any, **__: Any) -> None:
        import trackio  # an extra; its dashboard takes a second to import

        name, group, _ = names(self.request)
        self.run = trackio.init(
            self.project,
            name=f"{name} {self.version}",
            group=group,
            config=dict(params),
            resume="allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.run.log({key: value for key, value in metrics.items() if value is not None}, step=step)

    def finalize(self, status: str) -> None:
        """End a failed run. After "success" the summary is still to come, and `close` ends it."""
        if status != "success":
            self.run.finish()

    def close(self, summary: Mapping[str, Any]) -> None:
        self.log_metrics({key: value for key, value in summary.items() if not isinstance(value, str)})
        self.run.finish()


def csv_logger(folder: Path, request: Mapping[str, Any]) -> Logger:
    """Write one table an attempt: Lightning's logger empties the folder that it is given."""
    before = (folder / "csv" / "metrics.csv").exists()
    return CSVLogger(str(folder), name="csv", version=f"attempt-{request['attempts']}" if before else "")


def no_logger(folder: Path, request: Mapping[str, Any]) -> bool:
    return False
