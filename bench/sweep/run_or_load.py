"""Load the record of one cell, or run the cell in processes of its own on this machine. No torch."""

import hashlib
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from bench.config.run_config import RATES_REACHED, RunConfig, differences_outside
from bench.runs import lock, machine
from bench.runs.code import Code, changed_modules, code_of
from bench.runs.process import GRACE_S, Runner
from bench.runs.sources import rules, trees
from bench.runs.store import Status, cost_folder, is_record_of, recorded, write_bytes_atomic, write_json
from bench.runs.worker import BUSY, CONFIG, FULL, REQUEST, RESUME, STOPPED

Record = dict[str, Any]


def imports_of(cells: Iterable[RunConfig]) -> list[str]:
    """Return the modules that these cells' processes import beyond the worker's: `process.preload` spares seconds.

    `wandb.init` imports W&B's launch, for a second.
    """
    names = {cell.config["model"].get("architecture") for cell in cells} - {None}
    loggers = {cell.options["logger"]["_target_"] for cell in cells}
    wandb = ["wandb.sdk.launch"] if "bench.runs.loggers.wandb_logger" in loggers else []
    return [*wandb, *(f"transformers.models.{name}.modeling_{name}" for name in sorted(names))]


@dataclass(frozen=True)
class RunOrLoad:
    """Loads a cell's record, or has `module.main` make it, in the cell's folder under `name`.

    It is called on the machine that a launcher chooses, with the runner of the processes there. It returns the
    record, or None where a living process elsewhere is at it. A run that was stopped comes back as interrupted, which
    no record says.
    """

    module: str
    name: str

    def __call__(self, cell: RunConfig, runner: Runner | None = None) -> Record | None:
        if (record := self.load(cell)) is not None:
            return record
        if self.is_elsewhere(cell) or not self._remove_stale(cell):
            return None
        path, trainer = self.path(cell), cell.config["trainer"]
        self._write_request(cell, path.parent)
        visible = cell.options.get("gpus")
        ending = (runner or Runner()).run(
            self.module,
            path.parent,
            trainer["threads"],
            ranks=trainer["devices"] if self == ensure_run else 1,  # a cost is that of one process
            env={} if visible is None else {"CUDA_VISIBLE_DEVICES": visible},
        )
        if ending.code == BUSY:
            return None
        if (record := recorded(path)) is not None:
            self._remove_leftovers(cell, record)
            return record
        if ending.code in (STOPPED, -signal.SIGTERM):
            return self.record_ending(cell, Status.INTERRUPTED, "the same command goes on")
        if ending.code == FULL:
            return self.record_ending(
                cell,
                Status.INTERRUPTED,
                f"the disk of {cell.runs} is full; make room, the same command goes on",
            )
        return self.record_loss(cell, ending.reason)

    def path(self, cell: RunConfig) -> Path:
        return (cell.folder if self == ensure_run else cost_folder(cell.runs, cell.cost)) / self.name

    def load(self, cell: RunConfig) -> Record | None:
        """Return the record that stands, None where there is none.

        A record does not stand that is damaged, holds something else or was made with other code. A failed one does
        not where it is to be retried, nor where it failed under other settings outside the run's identity (another
        logger, more threads), which may have been why.
        """
        record, changed = self.look(cell)
        return None if changed else record

    def look(self, cell: RunConfig) -> tuple[Record | None, list[str]]:
        """Return the record, unless it is a failed one to be retried, and the modules that changed since it was made.

        Where any changed the record does not stand.
        """
        record = recorded(self.path(cell))
        if record is None or not is_record_of(record, self.path(cell).parent):
            return None, []
        if changed := self._changed(cell, record):
            return record, changed
        if record["status"] == Status.FAILED and (
            cell.options["retry"] or self._failed_otherwise(cell, record)
        ):
            return None, []
        self._remove_leftovers(cell, record)
        return record, []

    def new_record(self, cell: RunConfig) -> Record | None:
        """Return the record, unless it is the one of other code in whose place the cell is made again."""
        record = recorded(self.path(cell))
        superseded = cell.options.get("superseded")
        return None if record and superseded and record.get("ended_at") == superseded else record

    def code(self, cell: RunConfig) -> Code:
        """Return the present code of what is recorded: a cost depends on neither the task's nor the data's."""
        return code_of(cell.config, cost=self == ensure_cost)

    def _changed(self, cell: RunConfig, saved: Record | None) -> list[str]:
        """Return the modules that differ from those with which a record or request was made; none if all is reused."""
        if saved is None or cell.options["reuse"]:
            return []
        return changed_modules(saved.get("code"), self.code(cell))

    def _is_resume_stale(self, cell: RunConfig) -> bool:
        """Whether the checkpoint to go on from was made with other code, as the request of that attempt says."""
        folder = self.path(cell).parent
        return (folder / RESUME).is_file() and bool(self._changed(cell, recorded(folder / REQUEST)))

    def _failed_otherwise(self, cell: RunConfig, record: Record) -> bool:
        other_logger = record.get("logger", cell.options["logger"]) != cell.options["logger"]
        return other_logger or any(differences_outside(cell.config, record.get("config", cell.config)))

    def _remove_leftovers(self, cell: RunConfig, record: Record) -> None:
        """Remove what a process leaves that died between its record and its end."""
        folder = self.path(cell).parent
        if (folder / lock.LOCK_FILE).exists() or (
            (folder / RESUME).is_file() and record["status"] != Status.FAILED
        ):
            with lock.held(folder) as is_mine:
                if is_mine and record["status"] != Status.FAILED:
                    (folder / RESUME).unlink(missing_ok=True)

    def _remove_stale(self, cell: RunConfig) -> bool:
        """Remove a record that does not stand, and a checkpoint of other code; False where somebody else is at it.

        The rest the worker clears.
        """
        path = self.path(cell)
        if not path.exists() and not self._is_resume_stale(cell):
            return True
        with lock.held(path.parent) as is_mine:
            if is_mine and self.load(cell) is None:
                path.unlink(missing_ok=True)
                if self._is_resume_stale(cell):
                    (path.parent / RESUME).unlink()
                return True
        return False

    def is_elsewhere(self, cell: RunConfig) -> bool:
        """Whether a living process has the cell and has not recorded it yet."""
        holder = lock.holder(self.path(cell).parent)
        return holder is not None and holder.at_work and recorded(self.path(cell)) is None

    def record_loss(self, cell: RunConfig, reason: str) -> Record | None:
        """Record that the cell's process, or the job that was to start it, ended without a record.

        None where somebody else has taken it over meanwhile. What is about to die with its job is waited for.
        """
        path = self.path(cell)
        path.parent.mkdir(parents=True, exist_ok=True)
        until = time.monotonic() + GRACE_S
        while time.monotonic() < until:
            with lock.held(path.parent) as is_mine:
                if is_mine:
                    log = path.parent / "log"
                    if log.exists():
                        reason = f"{reason}; see {log}"
                    return self.new_record(cell) or self.record_ending(cell, Status.FAILED, reason)
            time.sleep(GRACE_S / 50)
        return None

    def record_ending(self, cell: RunConfig, status: Status, reason: str) -> Record:
        """Make and return the cell's record where no process makes it; of an interrupted one none is kept."""
        record = {**self._request(cell), "config": cell.config, "status": status, "reason": reason}
        record["ended_at"] = time.time()
        if status != Status.INTERRUPTED:
            write_json(self.path(cell), record)
        return record

    def _write_request(self, cell: RunConfig, folder: Path) -> None:
        """Write down what will run, before it does: edits to conf/ during a sweep change nothing."""
        config = OmegaConf.to_yaml(OmegaConf.create(cell.config)).encode()
        request = {**self._request(cell), "config_sha256": hashlib.sha256(config).hexdigest()}
        write_bytes_atomic(folder / CONFIG, config)
        write_json(folder / REQUEST, request)
        write_bytes_atomic(folder / "env", machine.installed().encode())

    def _request(self, cell: RunConfig) -> Record:
        return {
            **cell.header(),
            "code": self.code(cell),
            "logger": cell.options["logger"],
            "sweep": cell.options["sweep"]["name"] or "single",
            "lr_search": cell.options.get(RATES_REACHED),
            "learned_from": cell.options.get("learned_from"),
            "start": cell.start and {"run": cell.start.id},
            "provenance": {
                **machine.provenance(),
                "trees": trees(),
                "threads": cell.config["trainer"]["threads"],
            },
            "rules": rules(cell.options["sweep"]["name"]),
        }


ensure_run = RunOrLoad("bench.training.train", "record.json")
ensure_cost = RunOrLoad("bench.training.cost", "cost.json")
