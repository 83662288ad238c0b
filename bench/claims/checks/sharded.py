"""An exact claim on sharded optimizers: what two processes hold of a tied network, and what is refused by name."""

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import get_args

import torch
import torch.distributed as dist
from torch import nn
from torch.multiprocessing.spawn import ProcessContext, ProcessException
from torch.nn.parallel import DistributedDataParallel

from bench.claims.parts import Measure, Part
from bench.config.schema import Trainer
from bench.models.gru import GRULanguageModel
from bench.tying import TyingPlan, methods
from bench.tying.errors import BadInput

RANKS = 2
TYINGS = ("embedding", "cross_layer")
SHAPE = {"vocab_size": 500, "depth": 4, "width": 32}


def optimizers(timeout_s: float) -> list[Part]:
    """Two gloo processes train a tied GRU one step under DDP with torch's ZeroRedundancyOptimizer.

    `held`: elements over which the optimizer's moments lie, of both ranks together; `unique` and `uses`: what the
    network holds, and what it would hold untied; `copies`: ranks that hold a tied tensor's moments, at most.
    `fsdp_refused`: 1 where the config refuses FSDP by name. BadInput where they fail or hang.
    """
    with tempfile.TemporaryDirectory() as folder:
        context = torch.multiprocessing.spawn(_rank, (folder,), nprocs=RANKS, join=False)
        _wait(context, timeout_s)
        ranks = [json.loads((Path(folder) / f"{rank}.json").read_text()) for rank in range(RANKS)]
    found = []
    for tying in TYINGS:
        untied = _network(TyingPlan())
        tied = _network(_plan(tying))
        held = [rank[tying] for rank in ranks]
        measures = (
            Measure("held", float(sum(sum(one.values()) for one in held)), "elements over all ranks"),
            Measure("unique", float(_count(tied)), "elements of the network"),
            Measure("uses", float(_count(untied)), "elements untied"),
            Measure(
                "copies", float(max(sum(name in one for one in held) for name in _shared(tied))), "ranks"
            ),
        )
        measures += (Measure("fsdp_refused", float(_refuses_fsdp()), "(1: by name)"),)
        per_rank = " and ".join(f"{sum(one.values()):,}" for one in held)
        found.append(Part(f"DDP with ZeRO, {tying}", measures, f"{per_rank} elements by rank"))
    return found


def _wait(context: ProcessContext, timeout_s: float) -> None:
    end = time.monotonic() + timeout_s
    while not _ended(context):
        if time.monotonic() > end:
            for process in context.processes:
                process.kill()
            raise BadInput(f"two processes under DDP were not done in {timeout_s:g} s: run it again")


def _ended(context: ProcessContext) -> bool:
    try:
        return context.join(timeout=1)
    except ProcessException as error:
        reason = (str(error).strip().splitlines() or ["it was killed"])[-1]
        raise BadInput(f"a process under DDP failed: {reason}") from error


def _refuses_fsdp() -> bool:
    """Whether the config's schema refuses it, and says so by its name."""
    strategy = Trainer.model_fields["strategy"]
    return "fsdp" not in get_args(strategy.annotation) and "fsdp" in strategy.description


def _rank(rank: int, folder: str) -> None:
    """One process: steps, and writes {tying: {first name of a tensor: elements of its moments here}}."""
    torch.set_num_threads(1)
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # one machine: nothing leaves it
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=RANKS)
    found = {tying: _moments(_network(_plan(tying))) for tying in TYINGS}
    (Path(folder) / f"{rank}.json").write_text(json.dumps(found))
    dist.barrier()
    os._exit(0)  # a process that unwinds is at times aborted by gloo's own threads, after all was done


def _moments(model: nn.Module) -> dict[str, int]:
    from torch.distributed.optim import ZeroRedundancyOptimizer  # here: its module warns when it is imported

    optimizer = ZeroRedundancyOptimizer(model.parameters(), torch.optim.AdamW, lr=0.01)
    tokens = torch.arange(32).view(4, 8) + dist.get_rank()
    DistributedDataParallel(model)(tokens)[0].square().mean().backward()
    optimizer.step()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    state = optimizer.optim.state
    return {names[id(parameter)]: moments["exp_avg"].numel() for parameter, moments in state.items()}


def _network(plan: TyingPlan) -> nn.Module:
    torch.manual_seed(1)
    return plan.apply(GRULanguageModel(**SHAPE))


def _plan(tying: str) -> TyingPlan:
    return getattr(methods, tying)(GRULanguageModel(**SHAPE))


def _shared(model: nn.Module) -> list[str]:
    """The first name of each tensor that has several."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return [several[0] for several in names.values() if len(several) > 1]


def _count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
