"""One process of a sharded run in the tests: `torchrun sharded_worker.py FOLDER`; without `torchrun`, all of it."""

import sys
from pathlib import Path

import torch
from torch.distributed.fsdp import fully_shard

from mtlkit.cases.text import text_model
from mtlkit.data import Loader
from mtlkit.data.text import TextTasks
from mtlkit.machine.parallel import ALONE, joined
from mtlkit.tasks import text_tasks
from mtlkit.training import train
from mtlkit.weighting import METHODS


def run(method="Uncertainty", group=ALONE, steps=4, **options):
    """Train a small language model; return its parameters, put together again, the losses, and numbers held here."""
    model = text_model(width=32).double()
    if group.size > 1:
        for block in model.encoder.blocks:
            fully_shard(block)
        fully_shard(model)
    loader = Loader(TextTasks("train", 64, 2.0), 16, group=group)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    parts = (model, text_tasks(), loader, METHODS[method](), optimizer)
    records = list(train(*parts, steps=steps, schedule=lambda _: 1.0, clip=1.0, device="cpu", group=group, **options))
    whole = [p.full_tensor() if group.size > 1 else p for p in model.parameters()]
    held = sum(p.to_local().numel() if group.size > 1 else p.numel() for p in model.parameters())
    vector = torch.cat([p.detach().flatten() for p in whole])
    return {"parameters": vector, "losses": [record.losses for record in records], "held": held}


if __name__ == "__main__":
    with joined(torch.device("cpu")) as group:
        found = {method: run(method, group) for method in ("EqualWeights", "Uncertainty", "GeometricMean")}
        found["accumulate"] = run("EqualWeights", group, accumulate=2)
        for method, options in (("PCGrad", {}), ("EqualWeights", {"precision": "float16"})):
            try:
                run(method, group, **options)
            except ValueError as error:
                found[f"{method} refused"] = str(error)
        torch.save(found, Path(sys.argv[1]) / f"{group.rank}.pt")
