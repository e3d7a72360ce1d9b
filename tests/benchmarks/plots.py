"""The plots, as SVG that is the same for the same figures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.figure import Figure

from tests.benchmarks.contenders import CONTENDERS
from tests.benchmarks.figures import Figures, ratio

STYLE = {"svg.hashsalt": "infonce_ref", "svg.fonttype": "none", "font.size": 9, "font.family": "sans-serif"}
COLOURS = {"numpy": "#0b5fa5", "torch": "#c2410c", "jax": "#15803d"}
SPECIAL = {"autograd": "#111111", "reference": "#7c3aed"}
Value = Callable[[Figures, tuple[int, int], str], float | None]


class Plot(NamedTuple):
    title: str
    part: str
    loss: str
    value: Value
    y: str
    names: tuple[str, ...]
    dim: int = 128
    scale: str = "log"

    def lines(self, figures: Figures) -> dict[str, list[tuple[int, float]]]:
        """Everyone's points, where there are two or more."""
        sizes = [size for size in figures.sizes(self.part, self.loss) if size[1] == self.dim]
        found = {
            name: [(size[0], y) for size in sizes if (y := self.value(figures, size, name)) is not None]
            for name in self.names
        }
        return {name: line for name, line in found.items() if len(line) > 1}

    def has(self, figures: Figures) -> bool:
        return bool(self.lines(figures))


def seconds(loss: str) -> Value:
    return lambda figures, size, name: figures.seconds("one", loss, size, name)


def over_autograd(figures: Figures, size: tuple[int, int], name: str) -> float | None:
    base = figures.seconds("one", "info_nce", size, "autograd")
    return ratio(figures.seconds("one", "info_nce", size, name), base)


def mebibytes(figures: Figures, size: tuple[int, int], name: str) -> float | None:
    return ratio(figures.bytes("info_nce", size, name), 2**20)


MAIN = ("numpy", "torch", "jax", "autograd", "info-nce-pytorch", "sentence-transformers", "numpy-512", "torch-onednn")
PAIRS = ("numpy", "torch", "jax", "autograd", "lightly", "pml-nt-xent", "optax")
PLOTS = {
    "time": Plot("info_nce, D = 128, one thread: seconds", "one", "info_nce", seconds("info_nce"), "seconds", MAIN),
    "over-autograd": Plot(
        "info_nce, D = 128, one thread: time over PyTorch autograd's", "one", "info_nce", over_autograd, "ratio", MAIN,
        scale="linear",
    ),
    "nt-xent": Plot(
        "nt_xent on N pairs, D = 128, one thread: seconds", "one", "nt_xent", seconds("nt_xent"), "seconds", PAIRS
    ),
    "memory": Plot(
        "info_nce, D = 128: MiB beyond the inputs", "memory", "info_nce", mebibytes, "MiB", (*MAIN[:6], "reference")
    ),
}  # fmt: skip


def drawn(plot: Plot, figures: Figures) -> Figure:
    figure = Figure(figsize=(7.5, 4), layout="constrained")
    axes = figure.add_subplot()
    for name, line in plot.lines(figures).items():
        contender = CONTENDERS[name]
        style: dict[str, Any] = {"color": SPECIAL.get(name, COLOURS[contender.library]), "marker": "o", "markersize": 3}
        if contender.label.startswith("products"):
            style |= {"linestyle": ":", "marker": "None"}
        elif contender.module:
            style |= {"linestyle": "--", "linewidth": 0.9, "marker": "os^v"[list(plot.names).index(name) % 4]}
        axes.plot(*zip(*line, strict=True), label=contender.label, **style)
    axes.set_xscale("log", base=2)
    axes.set_yscale(plot.scale)
    if plot.scale == "linear":
        axes.set_ylim(bottom=0)
    ticks = sorted({n for line in plot.lines(figures).values() for n, _ in line})
    axes.set_xticks(ticks, [str(n) for n in ticks])
    axes.minorticks_off()
    axes.set(xlabel="N", ylabel=plot.y)
    figure.suptitle(plot.title)
    axes.grid(visible=True, linewidth=0.3)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    return figure


def write(figures: Figures, folder: Path) -> None:
    """One SVG for each plot that has lines; a plot without any leaves no old file behind."""
    for name, plot in PLOTS.items():
        path = folder / f"{name}.svg"
        path.unlink(missing_ok=True)
        if plot.has(figures):
            with mpl.rc_context(STYLE):
                drawn(plot, figures).savefig(path, metadata={"Date": None, "Creator": None})
