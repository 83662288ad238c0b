"""What the processes of tests/runs/test_process.py do, by the name of their folder."""

import os
import signal
import time
from pathlib import Path

from bench.runs.worker import run_and_record


def main(folder: Path, launched: float) -> None:
    rank = os.environ.get("RANK", "0")
    {
        "tells": _tells,
        "rank_raises": _raises,
        "rank_is_killed": _is_killed,
        "first_is_killed": _first_is_killed,
        "all_hang": _hangs,
        "busy": _busy,
    }[folder.name](folder, rank)


def _tells(folder: Path, rank: str) -> None:
    names = (
        "RANK",
        "LOCAL_RANK",
        "WORLD_SIZE",
        "MASTER_PORT",
        "SLURM_NTASKS",
        "WANDB_RUN_ID",
        "CUDA_VISIBLE_DEVICES",
    )
    told = {name: os.environ[name] for name in names if name in os.environ}
    (folder / f"told-{rank}").write_text(repr(told | {"group": os.getpgrp() == os.getpid()}))


def _raises(folder: Path, rank: str) -> None:
    def work(*_):
        if rank == "1":
            raise ValueError("no luck")
        time.sleep(0.2)
        raise ConnectionError("closed by peer")  # what the innocent see

    run_and_record(folder, "record.json", work)


def _is_killed(folder: Path, rank: str) -> None:
    if rank == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(600)


def _first_is_killed(folder: Path, rank: str) -> None:
    if rank == "0":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(600)


def _hangs(folder: Path, rank: str) -> None:
    (folder / f"hangs-{rank}").touch()
    time.sleep(600)


def _busy(folder: Path, rank: str) -> None:
    if rank == "0":
        raise SystemExit(75)
    time.sleep(600)
