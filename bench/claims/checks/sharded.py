"""Check sharded optimizers: what two processes hold of a tied network, and what is refused by name."""

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

from bench.claims.checks.networks import parameters
from bench.claims.parts import Measure, Part
from bench.config.schema import Trainer
from bench.models.gru import GRULanguageModel
from bench.tying import methods
from bench.tying.errors import BadInput

RANKS = 2
TYINGS = ("embedding", "cross_layer")


def optimizers(timeout_s: float) -> list[Part]:
    """Let two gloo processes train a tied GRU one step under DDP with torch's ZeroRedundancyOptimizer.

    `held`: elements over which the optimizer's moments lie, of both ranks together; `unique` and `uses`: what the
    network holds, and what it would hold untied; `copies`: ranks that hold a tied tensor's moments, at most.
    `fsdp_refused`: 1 where the config refuses FSDP by name. BadInput where they fail or hang.
    """
    with tempfile.TemporaryDirectory() as folder:
        context = torch.multiprocessing.spawn(_rank, (folder,), nprocs=RANKS, join=False)
        _wait(context, timeout_s)
        ranks = [json.loads((Path(folder) / f"{rank}.json").read_text()) for rank in range(RANKS)]
    strategy = Trainer.model_fields["strategy"]
    refused = "fsdp" not in get_args(strategy.annotation) and "fsdp" in strategy.description
    parts = []
    for tying in TYINGS:
        moments = [rank[tying] for rank in ranks]
        held = [sum(of_rank.values()) for of_rank in moments]
        untied = _network()
        uses, plan = parameters(untied), getattr(methods, tying)(untied)
        copies = max(sum(tie.names[0] in of_rank for of_rank in moments) for tie in plan.ties)
        measures = (
            Measure("held", float(sum(held)), "elements over all ranks"),
            Measure("unique", float(parameters(plan.apply(untied))), "elements of the network"),
            Measure("uses", float(uses), "elements untied"),
            Measure("copies", float(copies), "ranks"),
            Measure("fsdp_refused", float(refused), "(1: by name)"),
        )
        note = f"{' and '.join(f'{count:,}' for count in held)} elements by rank"
        parts.append(Part(f"DDP with ZeRO, {tying}", measures, [note]))
    return parts


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
    """One process: steps, and writes {tying: {first name of a tensor: elements of its moments here}}."""
    torch.set_num_threads(1)
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # one machine: nothing leaves it
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=RANKS)
    moments = {tying: _moments(tying) for tying in TYINGS}
    (Path(folder) / f"{rank}.json").write_text(json.dumps(moments))
    dist.barrier()
    os._exit(0)  # a process that unwinds is at times aborted by gloo's own threads, after all was done


def _moments(tying: str) -> dict[str, int]:
    from torch.distributed.optim import ZeroRedundancyOptimizer  # here: its module warns when it is imported

    model = _network()
    getattr(methods, tying)(model).apply(model)
    optimizer = ZeroRedundancyOptimizer(model.parameters(), torch.optim.AdamW, lr=0.01)
    tokens = torch.arange(32).view(4, 8) + dist.get_rank()
    DistributedDataParallel(model)(tokens)[0].square().mean().backward()
    optimizer.step()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    state = optimizer.optim.state
    return {names[id(parameter)]: moments["exp_avg"].numel() for parameter, moments in state.items()}


def _network() -> nn.Module:
    torch.manual_seed(1)
    return GRULanguageModel(vocab_size=500, depth=4, width=32)
