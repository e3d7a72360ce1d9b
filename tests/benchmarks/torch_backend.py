"""The PyTorch backend beside what people use: loss and the gradients of both sides, float32, interleaved.

    python -m tests.benchmarks.torch_backend                          # a minute: one thread pinned
    python -m tests.benchmarks.torch_backend --sizes 8192x256 --repeats 9 --threads 2 --json torch.json
    python -m tests.benchmarks.torch_backend --memory --sizes 16384x128

The floor is three bare products, tiled. Times are processor times by default, which other people's programs on the same
machine disturb least; `--clock wall` for two threads. lightly's NTXentLoss needs torchvision, so its formula is written
out here.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from infonce_ref.backends import torch as fast

TEMPERATURE = 0.07
SHORT = ["32x128", "256x128", "1024x128", "4096x128"]
TILE = 256
CLOCKS: dict[str, Callable[[], float]] = {"process": time.process_time, "wall": time.perf_counter}


class Pair(NamedTuple):
    """Two sides with their gradients."""

    q: Tensor
    k: Tensor

    def backward(self, loss: Tensor) -> None:
        self.q.grad = self.k.grad = None
        loss.backward()


def pair(rows: int, dim: int) -> Pair:
    generator = torch.Generator().manual_seed(0)
    return Pair(*(torch.randn(rows, dim, generator=generator).requires_grad_() for _ in range(2)))


# --- what is compared: a function of the two sides -------------------------------------------------------------------


@torch.no_grad()
def floor_tiled(x: Pair) -> None:
    """Scores, the gradient of one side, the gradient of the other: nothing but their products."""
    rows = x.q.shape[0]
    room, to_q, to_k = x.q.new_empty((min(TILE, rows), rows)), torch.empty_like(x.q), torch.zeros_like(x.k)
    for lo in range(0, rows, TILE):
        anchors = x.q[lo : lo + TILE]
        scores = torch.mm(anchors, x.k.T, out=room[: anchors.shape[0]])
        torch.mm(scores, x.k, out=to_q[lo : lo + TILE])
        to_k.addmm_(scores.T, anchors)


@torch.no_grad()
def floor_dense(x: Pair) -> None:
    """The same with all scores at once."""
    scores = x.q @ x.k.T
    _ = scores @ x.k, scores.T @ x.q


def scores(x: Pair) -> Tensor:
    return normalize(x.q) @ normalize(x.k).T / TEMPERATURE


def autograd(x: Pair) -> None:
    x.backward(cross_entropy(scores(x), torch.arange(x.q.shape[0])))


def autograd_clip(x: Pair) -> None:
    s, own = scores(x), torch.arange(x.q.shape[0])
    x.backward((cross_entropy(s, own) + cross_entropy(s.T, own)) / 2)


def lightly_nt_xent(x: Pair) -> None:
    """NTXentLoss of lightly without a memory bank: four matrices, their diagonals taken out, joined."""
    n = x.q.shape[0]
    a, b, own = normalize(x.q, dim=1), normalize(x.k, dim=1), torch.eye(n, dtype=torch.bool)
    aa, ab, ba, bb = (torch.einsum("nc,mc->nm", u, v) / TEMPERATURE for u in (a, b) for v in (a, b))
    aa, bb = aa[~own].view(n, -1), bb[~own].view(n, -1)
    logits = torch.cat([torch.cat([ab, aa], 1), torch.cat([ba, bb], 1)])
    x.backward(cross_entropy(logits, torch.arange(n).repeat(2)))


def info_nce_pytorch(x: Pair) -> None:
    from info_nce import InfoNCE

    x.backward(InfoNCE(temperature=TEMPERATURE)(x.q, x.k))


def ours(name: str, temperature: float = TEMPERATURE) -> Callable[[Pair], None]:
    return lambda x: x.backward(getattr(fast, name)(x.q, x.k, temperature=temperature))


def learnt_temperature(x: Pair) -> None:
    x.backward(fast.info_nce(x.q, x.k, temperature=torch.tensor(TEMPERATURE, requires_grad=True)))


CONTENDERS: dict[str, Callable[[Pair], None]] = {
    "floor_tiled": floor_tiled,
    "floor_dense": floor_dense,
    "autograd": autograd,
    "info_nce": ours("info_nce"),
    "info_nce_low_temperature": ours("info_nce", 0.01),
    "info_nce_learnt_temperature": learnt_temperature,
    "autograd_clip": autograd_clip,
    "clip": ours("clip"),
    "lightly_nt_xent": lightly_nt_xent,
    "nt_xent": ours("nt_xent"),
    **({"info_nce_pytorch": info_nce_pytorch} if find_spec("info_nce") else {}),
}
RATIOS = {
    "info_nce / floor": ("info_nce", "floor_tiled"),
    "autograd / info_nce": ("autograd", "info_nce"),
    "clip / info_nce": ("clip", "info_nce"),
    "autograd clip / clip": ("autograd_clip", "clip"),
    "lightly / nt_xent": ("lightly_nt_xent", "nt_xent"),
}


# --- measuring -------------------------------------------------------------------------------------------------------


def timed(x: Pair, names: list[str], repeats: int, clock: Callable[[], float]) -> dict[str, float]:
    """The median seconds of each, one after the other in every round; the first round doesn't count."""
    times: dict[str, list[float]] = {name: [] for name in names}
    inner = max(1, 512 // x.q.shape[0]) ** 2
    for _ in range(repeats + 1):
        for name in names:
            start = clock()
            for _ in range(inner):
                CONTENDERS[name](x)
            times[name].append((clock() - start) / inner)
    return {name: statistics.median(seconds[1:]) for name, seconds in times.items()}


PEAK = """
import resource, torch
from tests.benchmarks.torch_backend import CONTENDERS, pair
torch.set_num_threads({threads})
CONTENDERS[{name!r}](pair(64, {dim}))
x = pair({rows}, {dim})
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
CONTENDERS[{name!r}](x)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


def peak(name: str, rows: int, dim: int, threads: int) -> float:
    """The bytes that a call adds, gradients included, in a process of its own."""
    code = PEAK.format(name=name, rows=rows, dim=dim, threads=threads)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout)


def table(found: dict[str, float], unit: float, ratios: bool) -> str:
    lines = [f"  {name:28} {value * unit:12.3f}" for name, value in found.items()]
    both = {name: pair for name, pair in RATIOS.items() if found.keys() >= set(pair)} if ratios else {}
    return "\n".join([*lines, *(f"  {name:28} {found[a] / found[b]:12.2f} ×" for name, (a, b) in both.items())])


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=SHORT, metavar="NxD")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=CLOCKS, default="process")
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--memory", action="store_true", help="peak memory instead of time")
    parser.add_argument("--json", type=Path, help="write the figures here")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    results: list[dict[str, Any]] = []
    for size in given.sizes:
        rows, dim = map(int, size.split("x"))
        if given.memory:
            found = {name: peak(name, rows, dim, given.threads) for name in given.only}
        else:
            found = timed(pair(rows, dim), given.only, given.repeats, CLOCKS[given.clock])
        kind, scale = ("MiB", 2.0**-20) if given.memory else ("ms", 1e3)
        print(f"N = {rows}, D = {dim}, {given.threads} thread(s), {kind}")
        print(table(found, scale, not given.memory), flush=True)
        results.append({"rows": rows, "dim": dim, "threads": given.threads, "unit": kind, "found": found})
    if given.json:
        given.json.write_text(
            json.dumps({"torch": torch.__version__, "clock": given.clock, "results": results}, indent=1)
        )


if __name__ == "__main__":
    main()
