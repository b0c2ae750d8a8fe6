"""One rank: joins the others, runs the learner's functions on its part, compares with one device, and times.

`ranks` starts it with a JSON setup as its only argument. One JSON line for each step goes to standard output:
the fields of `ranks.Seen`, or `{"error": …}`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from tasks.api import UserError
from tasks.distributed import block, contract, payload, sockets, spans

WARM_UP = 3
TIMEOUT = timedelta(seconds=60)
PROFILED = 5  # passes


class Pass:
    """One step's forward pass on this rank, for the input of any seed."""

    def __init__(self, demo: Any, setup: dict[str, Any], step: dict[str, Any], device: Any) -> None:
        self.demo, self.rank, self.ways, self.step, self.device = demo, setup["rank"], setup["ways"], step, device
        self.head_dim = step["hidden"] // step["heads"]
        made = block.weights(step["hidden"], step["layers"], step["seed"])
        self.blocks = [{name: tensor.to(device) for name, tensor in one.items()} for one in made]
        alone = step["mode"] == "single"
        self.parts = self.blocks if alone else [demo.shard(one, self.rank, self.ways) for one in self.blocks]

    def input(self, seed: int) -> tuple[Any, Any]:
        """(what the pass gets on this rank, the whole input)."""
        step = self.step
        x = block.inputs(step["batch"], step["tokens"], step["hidden"], seed).to(self.device)
        return (x.chunk(self.ways, dim=1)[self.rank].contiguous() if step["mode"] == "sequence" else x), x

    def __call__(self, x: Any) -> Any:
        if self.step["mode"] == "single":
            return block.whole(x, self.parts, self.step["heads"])
        for part in self.parts:
            if self.step["mode"] == "sequence":
                x = self.demo.sequence_parallel(x, part, self.head_dim)
            elif self.step["mode"] == "overlap":
                x = self.demo.tensor_parallel(x, part, self.head_dim, overlap=True)
            else:
                x = self.demo.tensor_parallel(x, part, self.head_dim)
        return x

    def difference(self, seed: int) -> float:
        """Largest absolute difference from one device's output, on a fresh input."""
        mine, x = self.input(seed)
        given, expected = self(mine), block.whole(x, self.blocks, self.step["heads"])
        if self.step["mode"] == "sequence":
            expected = expected.chunk(self.ways, dim=1)[self.rank]
        if given.shape != expected.shape:
            raise UserError(
                f"{self.step['mode']}: the output has the shape {tuple(given.shape)}, not {tuple(expected.shape)}"
            )
        return float((given - expected).abs().max())

    def weight_bytes(self) -> int:
        return sum(tensor.nbytes for part in self.parts for tensor in part.values())

    def kept_bytes(self, seed: int) -> int:
        """Bytes of activations that this rank keeps for a backward pass; weights are not counted."""
        import torch

        parts = self.parts
        self.parts = [{name: tensor.detach().clone().requires_grad_() for name, tensor in p.items()} for p in parts]
        weights = {tensor.untyped_storage().data_ptr() for part in self.parts for tensor in part.values()}
        kept: dict[int, Any] = {}

        def keep(tensor: Any) -> Any:
            kept[tensor.untyped_storage().data_ptr()] = tensor
            return tensor

        try:
            with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                self(self.input(seed)[0])
        except RuntimeError as error:
            raise UserError(f"{self.step['mode']}: with gradients enabled: {error}") from error
        finally:
            self.parts = parts
        return sum(tensor.untyped_storage().nbytes() for at, tensor in kept.items() if at not in weights)


def measured(one: Pass, step: dict[str, Any]) -> dict[str, Any]:
    """Compare, count bytes, time; fresh inputs in every pass, all ranks starting together."""
    import torch
    import torch.distributed as dist

    def wait() -> None:
        if one.device.type == "cuda":
            torch.cuda.synchronize(one.device)

    found: dict[str, Any] = {"difference": max(one.difference(step["seed"] + n) for n in range(2))}
    found["weight_bytes"] = one.weight_bytes()
    dist.barrier()
    before = sockets.sent_bytes()
    with payload.counter(one.ways) as collectives:
        one(one.input(step["seed"])[0])
        wait()
    found |= {"wire_bytes": sockets.sent_bytes() - before, "comm_bytes": collectives.sent}
    found["kept_bytes"] = one.kept_bytes(step["seed"]) if step["kept"] else 0
    found["samples_ms"] = timed(one, step, wait)
    found["computing"], found["talking"] = profiled(one, step, wait) if step["profile"] else ([], [])
    return found


def timed(one: Pass, step: dict[str, Any], wait: Callable[[], None]) -> list[float]:
    import torch.distributed as dist

    samples = []
    for repeat in range(WARM_UP + step["repeats"]):
        x = one.input(step["seed"] + repeat)[0]
        wait()
        dist.barrier()
        began = time.perf_counter()
        one(x)
        wait()
        samples.append((time.perf_counter() - began) * 1000)
    return samples[WARM_UP:]


def profiled(one: Pass, step: dict[str, Any], wait: Callable[[], None]) -> tuple[list[Any], list[Any]]:
    """Spans of several passes, one profile each."""
    import torch.distributed as dist
    from torch.profiler import ProfilerActivity, profile

    wanted = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if one.device.type == "cuda" else [])
    computing, talking = [], []
    for repeat in range(PROFILED):
        x = one.input(step["seed"] + repeat)[0]
        wait()
        dist.barrier()
        with profile(activities=wanted) as seen:
            one(x)
            wait()
        spent, talked = spans.split(seen)
        computing.append(spent)
        talking.append(talked)
    return computing, talking


@contextmanager
def joined(setup: dict[str, Any]) -> Iterator[Any]:
    """The device of this rank, once all ranks have met."""
    import torch
    import torch.distributed as dist

    rank = setup["rank"]
    if setup["backend"] == "nccl":
        device = torch.device("cuda", rank)
        torch.cuda.set_device(device)
    else:
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[rank % len(cores)]})  # a core is a device
        torch.set_num_threads(1)
        device = torch.device("cpu")
    dist.init_process_group(
        setup["backend"], init_method=f"file://{setup['meeting']}", rank=rank, world_size=setup["ways"], timeout=TIMEOUT
    )
    try:
        yield device
    finally:
        dist.destroy_process_group()


def main() -> None:
    import torch

    setup = json.loads(sys.argv[1])
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what the learner's file prints is no answer
    try:
        demo = contract.load(Path(setup["file"])) if setup["file"] else None
        with joined(setup) as device, torch.no_grad():
            for step in setup["steps"]:
                print(json.dumps(measured(Pass(demo, setup, step, device), step)), file=answers, flush=True)
    except UserError as error:
        print(json.dumps({"error": str(error)}), file=answers, flush=True)
        sys.exit(1)
    except Exception as error:
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}), file=answers, flush=True)
        raise


if __name__ == "__main__":
    main()
