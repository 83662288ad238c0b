"""Check sharded optimizers: what two processes hold of a tied network, and whether the tie lives."""

import functools
import json
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.multiprocessing.spawn import ProcessContext, ProcessException
from torch.nn.parallel import DistributedDataParallel

from bench.claims.checks.arithmetic import parameters
from bench.claims.evaluate import Measure, Part
from bench.models.gru import GRULanguageModel
from bench.tying import TyingPlan, methods
from bench.tying.errors import BadInput

RANKS = 2
TYINGS = ("embedding", "cross_layer")


def optimizers(timeout_s: float) -> list[Part]:
    """Let two gloo processes train a tied GRU one step, under DDP with ZeroRedundancyOptimizer and under FSDP2.

    `held`: elements over which the optimizer's moments lie, of both ranks together; `unique` and `uses`: what the
    network holds, and what it would hold untied; `copies`: ranks that hold a whole tied tensor's moments, at most,
    and under FSDP2 how many tensors a tie has become. `tied`: 1 where all names of each tie are still one
    tensor after the step. Where FSDP2 refuses a network by name there is a note and no number, and the part
    decides nothing. BadInput where the processes fail or hang.
    """
    with tempfile.TemporaryDirectory() as folder:
        context = torch.multiprocessing.spawn(_rank, (folder,), nprocs=RANKS, join=False)
        _wait(context, timeout_s)
        ranks = [json.loads((Path(folder) / f"{rank}.json").read_text()) for rank in range(RANKS)]
    parts = []
    for way in WAYS:
        for tying in TYINGS:
            of_ranks = [rank[f"{way}, {tying}"] for rank in ranks]
            untied = _network()
            uses, plan = parameters(untied), getattr(methods, tying)(untied)
            if reason := of_ranks[0].get("refused"):
                parts.append(Part(f"{way}, {tying}", notes=[f"refused: {reason}"], decides=False))
                continue
            counts = [rank["held"] for rank in of_ranks]
            measures = (
                Measure("held", float(sum(counts)), "elements over all ranks"),
                Measure("unique", float(parameters(plan.apply(untied))), "elements of the network"),
                Measure("uses", float(uses), "elements untied"),
                Measure("copies", float(_copies(way, of_ranks)), "of a tied tensor"),
                Measure(
                    "tied", float(min(rank["tied"] for rank in of_ranks)), "(1: one tensor after the step)"
                ),
            )
            note = f"{' and '.join(f'{count:,}' for count in counts)} elements by rank"
            parts.append(Part(f"{way}, {tying}", measures, [note]))
    return parts


def _copies(way: str, ranks: Sequence[Mapping[str, Any]]) -> int:
    """Return how often a tied tensor is held: over ranks under DDP, which has it whole or not; else on each rank."""
    counts = [rank["copies"] for rank in ranks]
    return max(map(sum, zip(*counts, strict=True))) if way == WAYS[0] else max(map(max, counts))


def _wait(context: ProcessContext, timeout_s: float) -> None:
    end = time.monotonic() + timeout_s
    try:
        while not context.join(timeout=1):
            if time.monotonic() > end:
                for process in context.processes:
                    process.kill()
                raise BadInput(f"two processes under DDP were not done in {timeout_s:g} s: run it again")
    except ProcessException as error:
        reason = (str(error).strip().splitlines() or ["it was killed"])[-1]
        raise BadInput(f"a process under DDP failed: {reason}") from error


def _rank(rank: int, folder: str) -> None:
    """Train each network one step in this process, and write `way, tying` -> what this rank holds."""
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module")  # of changes that are not made here
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # one machine: nothing leaves it
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=RANKS)
    held = {f"{way}, {tying}": WAYS_TO_SHARD[way](tying) for way in WAYS for tying in TYINGS}
    (Path(folder) / f"{rank}.json").write_text(json.dumps(held))
    dist.barrier()
    os._exit(0)  # a process that unwinds is at times aborted by gloo's own threads, after all was done


def _with_zero(tying: str) -> dict[str, Any]:
    from torch.distributed.optim import ZeroRedundancyOptimizer  # here: its module warns when it is imported

    model, plan = _tied(tying)
    optimizer = ZeroRedundancyOptimizer(model.parameters(), torch.optim.AdamW, lr=0.01)
    _step(DistributedDataParallel(model), optimizer)
    return _held(model, plan, optimizer.optim)


def _with_fsdp(tying: str, by_block: bool) -> dict[str, Any]:
    """Shard the whole network as one group, or first each block as one of its own, as large networks are."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    model, plan = _tied(tying)
    mesh = init_device_mesh("cpu", (RANKS,))
    for block in model.parts.stack if by_block else ():
        fully_shard(model.get_submodule(block), mesh=mesh)
    fully_shard(model, mesh=mesh)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    try:
        _step(model, optimizer)
    except ValueError as error:  # how FSDP2 refuses a tensor that two groups share
        return {"refused": " ".join(str(error).split())}
    return _held(model, plan, optimizer)


WAYS_TO_SHARD = {
    "DDP with ZeRO": _with_zero,
    "FSDP2, one group": functools.partial(_with_fsdp, by_block=False),
    "FSDP2, a group a block": functools.partial(_with_fsdp, by_block=True),
}
WAYS = tuple(WAYS_TO_SHARD)


def _tied(tying: str) -> tuple[nn.Module, TyingPlan]:
    model = _network()
    plan = getattr(methods, tying)(model)
    return plan.apply(model), plan


def _step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    tokens = torch.arange(32).view(4, 8) + dist.get_rank()
    model(tokens)[0].square().mean().backward()
    optimizer.step()


def _held(model: nn.Module, plan: TyingPlan, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return the elements of the moments on this rank, how many tensors of each tie have some, and if ties hold."""
    moments = {parameter: state["exp_avg"] for parameter, state in optimizer.state.items()}
    ties = [{model.get_parameter(name) for name in tie.names} for tie in plan.ties]
    return {
        "held": sum(_local(moment).numel() for moment in moments.values()),
        "copies": [sum(parameter in moments for parameter in tie) for tie in ties],
        "tied": int(all(len(tie) == 1 for tie in ties)),
    }


def _local(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def _network() -> nn.Module:
    torch.manual_seed(1)
    return GRULanguageModel(vocab_size=500, depth=4, width=32)
