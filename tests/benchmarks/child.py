"""Measures in a process of its own: a job comes in as JSON on stdin, figures go out as lines of JSON.

The threads are set before any library is imported, which is why the imports are late here.
"""

from __future__ import annotations

import gc
import hashlib
import json
import math
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ENOUGH = 0.02  # seconds: a sample shorter than this is repeated inside
LONG = 4.0  # seconds: a call longer than this is warmed up on a small input instead
SETTLE = 0.1  # seconds: thread pools spin for a while after their work, at the cost of who comes next
SMALL = 64
CHECKED = 4096 * 4096  # scores: up to here the exact loss is computed too
STATUS = Path("/proc/self/status")
CLOCKS: tuple[Callable[[], float], Callable[[], float]] = (time.process_time, time.perf_counter)


def say(**found: Any) -> None:
    print(json.dumps(found), flush=True)


def pin(threads: int) -> None:
    """So many threads for every library: variables for the pools, the process's CPUs where the system has that."""
    for name in ("OMP", "OPENBLAS", "MKL"):
        os.environ[f"{name}_NUM_THREADS"] = str(threads)
    if threads == 1:
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])


class Others:
    """`with Others() as others:` then `others.cpus`: how many CPUs other processes had meanwhile, this one's children
    that have ended not counted; None where the system doesn't say.
    """

    cpus: float | None = None

    def __enter__(self) -> Others:
        self.all, self.mine, self.started = busy(), sum(os.times()[:4]), time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        everything, elapsed = busy(), time.perf_counter() - self.started
        if self.all is not None and everything is not None:
            others = everything - self.all - (sum(os.times()[:4]) - self.mine)
            self.cpus = round(max(0.0, others / elapsed), 2)


def busy() -> float | None:
    """CPU seconds that all processes of the machine have used; None where the system doesn't say."""
    try:
        fields = Path("/proc/stat").read_text().split(maxsplit=9)[1:9]
    except OSError:
        return None
    user, nice, system, _idle, _wait, irq, softirq, steal = map(int, fields)
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


# --- time ------------------------------------------------------------------------------------------------------------


def sample(call: Callable[[], Any], inner: int) -> tuple[float, float]:
    """(processor, wall clock) seconds of one call. Where many make a sample, one goes before them: whoever came before
    has left the caches and the free memory to itself.
    """
    if inner > 1:
        call()
    start = [clock() for clock in CLOCKS]
    for _ in range(inner):
        call()
    processor, wall = ((clock() - then) / inner for clock, then in zip(CLOCKS, start, strict=True))
    return processor, wall


def five(values: list[float]) -> list[float]:
    """Smallest, quartiles, largest; to four digits."""
    ordered = sorted(values)
    quartiles = statistics.quantiles(ordered, n=4, method="inclusive") if len(ordered) > 1 else ordered * 3
    return [float(f"{value:.4g}") for value in (ordered[0], *quartiles, ordered[-1])]


def timed(point: dict[str, Any], seconds: float, rounds: tuple[int, int]) -> dict[str, Any]:
    """All contenders of a point in turn, round by round, as often as the seconds allow."""
    from tests.benchmarks.contenders import builder
    from tests.benchmarks.inputs import exact, inputs

    loss, rows, dim = point["loss"], point["rows"], point["dim"]
    x, small = inputs(loss, rows, dim), inputs(loss, SMALL, dim)
    calls: dict[str, Callable[[], float | None]] = {}
    values, once = {}, dict(point["seconds"])
    for name in point["names"]:
        say(now=f"{name}, first call")
        calls[name] = call = builder(name)(loss, x)
        if once[name] > LONG:
            builder(name)(loss, small)()
        if once[name] < LONG or name.startswith(("jax", "optax")):  # JAX compiles for each shape
            values[name] = call()
            once[name] = sample(call, 1)[1] if once[name] < LONG else once[name]
    inner = {name: max(1, math.ceil(ENOUGH / max(once[name], 1e-6))) for name in calls}
    count = int(seconds / sum(once[name] * inner[name] for name in calls))
    samples, others = taken(calls, inner, max(rounds[0], min(rounds[1], count)), SETTLE if point["threads"] > 1 else 0)
    checked = rows * rows <= CHECKED
    found = {
        name: {
            "processor": five([processor for processor, _ in both]),
            "wall": five([wall for _, wall in both]),
            "rounds": len(both),
            "loss": values.get(name),
        }
        for name, both in samples.items()
    }
    return {"found": found, "exact": exact(loss, x) if checked else None, "others": others}


def taken(
    calls: dict[str, Callable[[], Any]], inner: dict[str, int], rounds: int, settle: float
) -> tuple[dict[str, list[tuple[float, float]]], float | None]:
    """The samples of each, and how many CPUs other processes had meanwhile."""
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    gc.collect()
    gc.freeze()  # what the imports left takes long to go through, and stays
    with Others() as others:
        for number in range(rounds):
            for name, call in calls.items():
                say(now=f"{name}, round {number + 1} of {rounds}")
                gc.collect()
                time.sleep(settle)
                samples[name].append(sample(call, inner[name]))
    return samples, others.cpus


# --- memory ----------------------------------------------------------------------------------------------------------


def forget_peak() -> None:
    """Linux: the peak starts again from what is held now. Elsewhere it is the largest since the start."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak() -> float:
    """Bytes held at most."""
    try:
        line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024


def remembered(point: dict[str, Any]) -> dict[str, Any]:
    """What one call adds to the peak, its results included; the library has been used before on a small input."""
    from tests.benchmarks.contenders import builder
    from tests.benchmarks.inputs import inputs

    (name,) = point["names"]
    build = builder(name)
    build(point["loss"], inputs(point["loss"], SMALL, point["dim"]))()
    call = build(point["loss"], inputs(point["loss"], point["rows"], point["dim"]))
    gc.collect()
    forget_peak()
    before = peak()
    call()
    return {"bytes": peak() - before}


# --- where -----------------------------------------------------------------------------------------------------------


def environment(distributions: list[str]) -> dict[str, Any]:
    """Versions and CPU: nothing that names the machine."""
    import platform
    from importlib.metadata import distributions as installed

    have = {found.metadata["Name"].lower().replace("_", "-"): found.version for found in installed()}
    return {
        "sources": sources(),
        "cpu": cpu() or platform.processor(),
        "cpus": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: have[name] for name in distributions if name in have},
        "linear algebra": linear_algebra(),
        "pinned": hasattr(os, "sched_setaffinity"),
        "peak resets": STATUS.exists(),
    }


def sources() -> str:
    """A digest of the code that is measured, to tell apart what was measured before and after a change."""
    digest = hashlib.sha256()
    for folder in ("backends", "infonce_ref/losses"):
        for path in sorted((Path(__file__).parents[2] / folder).glob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:8]


def cpu() -> str:
    """The model as the system calls it, with its family, because some names say little."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    family = f", family {fields['cpu family']} model {fields['model']}" if "cpu family" in fields else ""
    return fields.get("model name", "") + family


def linear_algebra() -> list[str]:
    """What multiplies, as far as NumPy and PyTorch say."""
    found = []
    if find_spec("threadpoolctl"):
        import_module("numpy")
        pools = import_module("threadpoolctl").threadpool_info()
        pools = [pool for pool in pools if pool.get("version")]
        found += [f"NumPy: {pool['internal_api']} {pool['version']} for {pool['architecture']}" for pool in pools]
    if find_spec("torch"):
        lines = import_module("torch").__config__.show().splitlines()
        found += ["PyTorch: " + line.strip(" -").split(" for ")[0] for line in lines if "oneAPI" in line]
    return found


def main() -> None:
    job = json.load(sys.stdin)
    pin(job["threads"])
    if "distributions" in job:
        say(environment=environment(job["distributions"]))
    for point in job["points"]:
        begun = time.perf_counter()
        figures = remembered(point) if point["part"] == "memory" else timed(point, job["seconds"], tuple(job["rounds"]))
        say(point=point["key"], figures={**figures, "took": round(time.perf_counter() - begun, 1)})


if __name__ == "__main__":
    main()
