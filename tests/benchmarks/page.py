"""performance.md, from the figures alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from tests.benchmarks.contenders import CONTENDERS, OURS
from tests.benchmarks.figures import Figures, ratio
from tests.benchmarks.inputs import COLD, LOSSES, ROWS_A_LABEL, TEMPERATURE, temperature, tolerance
from tests.benchmarks.plots import PLOTS
from tests.benchmarks.targets import exponent, gained, targets

Size = tuple[int, int]
TITLES = {
    "info_nce": "info_nce",
    "cold": f"info_nce at τ = {COLD}",
    "clip": "clip",
    "nt_xent": "nt_xent, N pairs",
    "sup_con": f"sup_con, N rows, {ROWS_A_LABEL} of a label",
}
QUIET = 0.1  # CPUs that others may have had without a remark
FITTED = {"time": 1024, "memory": 1024}  # growth is fitted from this N on

INTRODUCTION = f"""# Performance

<!-- written by python -m tests.benchmarks, from performance/figures.json again by the same with --render -->

Loss and gradients of both sides, float32, τ = {TEMPERATURE} unless said otherwise. All implementations of a point (a
loss at a size) take turns in one process, round by round; a figure is the median, ± half of the range between the
quartiles. One thread: pinned to one CPU, processor time. Two threads: pinned to two, time on the clock. Products are
what no implementation can do without: the scores and from them the gradient of either side, three matrix products by
the same library and nothing else, all at once (dense) or so many rows at a time; PyTorch has them by `torch.mm` and
by oneDNN, and its floor is the faster of them. NT-Xent on N pairs has 2 N × 2 N
scores. Calls shorter than 20 ms are repeated to that, after one that isn't counted.
"""

PEERS = """## Whose code it is

Installed packages, called as their documentation says, unit rows made by the caller where they expect them:
info-nce-pytorch's `InfoNCE`, sentence-transformers' `MultipleNegativesRankingLoss.compute_loss_from_embeddings`,
pytorch-metric-learning's `NTXentLoss` and `SupConLoss`, `optax.losses.ntxent` (compiled). open_clip's `ClipLoss` and
lightly's `NTXentLoss` are the files that those packages install, run without the packages' own imports, which want
torchvision. PyTorch autograd and JAX autodiff are written by hand: normalise, multiply, cross-entropy
(tests/benchmarks/in_torch.py, in_jax.py). JAX is compiled; compilation isn't counted.
"""


# --- cells -----------------------------------------------------------------------------------------------------------


def digits(value: float) -> str:
    """Three digits."""
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def milliseconds(spread: Sequence[float] | None) -> str:
    if spread is None:
        return ""
    _, low, middle, high, _ = spread
    return f"{digits(middle * 1e3)} ±{(high - low) / 2 / middle:.0%}"


def times(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def by_size(figures: Figures, part: str, loss: str, sizes: Sequence[Size], cell: Callable[[Size, str], str]) -> str:
    """A row for everyone who has something to say at one of the sizes, a column for each size."""
    names = [name for name in CONTENDERS if name in figures.names(part, loss)]
    rows = [(CONTENDERS[name].label, *(cell(size, name) for size in sizes)) for name in names]
    return table(["", *(str(n) for n, _ in sizes)], [row for row in rows if any(row[1:])])


def columns(sizes: Sequence[Size]) -> Iterator[tuple[str, list[Size]]]:
    """The sizes of each D, with a title."""
    for dim in sorted({dim for _, dim in sizes}):
        yield f"D = {dim}, N =", [size for size in sizes if size[1] == dim]


# --- sections --------------------------------------------------------------------------------------------------------


def section_targets(figures: Figures) -> str:
    said = {None: "not measured", True: "yes", False: "**no**"}
    rows = [
        (
            target.what,
            f"{'≤' if target.at_most else '≥'} {target.wanted:g} {target.unit}",
            "" if target.measured is None else f"{target.measured:.2f} {target.unit}",
            said[target.reached],
            target.where,
        )
        for target in targets(figures)
    ]
    return "## Targets\n\nOne thread unless said otherwise.\n\n" + table(
        ["", "target", "measured", "reached", ""], rows
    )


def section_processor(figures: Figures) -> str:
    """What it was measured on."""
    used = {point.get("environment") for point in figures.points.values()}
    those = sorted({e["cpu"] for number, e in enumerate(figures.environments) if number in used and e["cpu"]})
    return f"Measured on {', '.join(those)}.\n" if those else ""


def section_busy(figures: Figures) -> str:
    """How quiet the machine was."""
    known = [p["others"] for p in figures.points.values() if p.get("others") is not None]
    if not known:
        return "How busy the machine was otherwise isn't known.\n"
    if max(known) <= QUIET:
        return f"Other processes had no more than {QUIET} CPUs during any point.\n"
    noisy = sum(o > QUIET for o in known)
    return (
        f"**Measured on a busy machine**: other processes had more than {QUIET} CPUs during {noisy} of {len(known)} "
        f"points, {sorted(known)[len(known) // 2]:.1f} at the median, {max(known):.1f} at most. "
        "Ratios suffer less than times, two threads more than one.\n"
    )


def section_times(figures: Figures, part: str, title: str) -> str:
    found = [f"## {title}\n"]
    for loss in LOSSES:
        sizes = figures.sizes(part, loss)
        if not sizes:
            continue
        found.append(f"### {TITLES[loss]}, {title.lower()}: ms\n")
        for head, those in columns(sizes):

            def cell(size: Size, name: str, loss: str = loss) -> str:
                return milliseconds(figures.spread(part, loss, size, name))

            found.append(f"{head}\n\n{by_size(figures, part, loss, those, cell)}")
        busy = [
            f"{n} × {d}: {others}" for n, d in sizes
            if (others := figures.points[f"{part}/{loss}/{n}x{d}"].get("others") or 0) > QUIET
        ]  # fmt: skip
        if busy:
            found.append(f"CPUs that others had meanwhile: {', '.join(busy)}.\n")
    return "\n".join(found) if len(found) > 1 else ""


def section_ratios(figures: Figures) -> str:
    """What people ask first: how much of the floor's and of autograd's time."""

    def over(base: str) -> Callable[[Size, str], str]:
        return lambda size, name: times(
            ratio(figures.seconds("one", "info_nce", size, name), figures.seconds("one", "info_nce", size, base))
        )

    def over_own(size: Size, name: str) -> str:
        return over(f"{CONTENDERS[name].library}-floor")(size, name) if name in (*OURS, "autograd", "reference") else ""

    found = ["## info_nce, one thread: ratios\n"]
    sizes = figures.sizes("one", "info_nce")
    ratios = {"Over the same library's tiled products": over_own, "Over PyTorch autograd": over("autograd")}
    for title, cell in ratios.items():
        for head, those in columns(sizes):
            found.append(f"{title}; {head}\n\n{by_size(figures, 'one', 'info_nce', those, cell)}")
    return "\n".join(found)


def section_threads(figures: Figures) -> str:
    found = ["## One thread's time over two threads'\n\nBoth on the clock: 2 is the most there can be.\n"]
    for loss in LOSSES:
        for head, those in columns(figures.sizes("two", loss)):

            def cell(size: Size, name: str, loss: str = loss) -> str:
                return times(gained(figures, loss, size, name))

            found.append(f"{TITLES[loss]}; {head}\n\n{by_size(figures, 'two', loss, those, cell)}")
    return "\n".join(found) if len(found) > 1 else ""


def section_memory(figures: Figures) -> str:
    about = (
        "MiB that the first call at a size adds to the process's peak, gradients included, in a process of its own "
        "that has used the library before; two threads."
    )
    found = [f"## Memory\n\n{about}\n"]
    for loss in LOSSES:
        for head, those in columns(figures.sizes("memory", loss)):

            def cell(size: Size, name: str, loss: str = loss) -> str:
                held = figures.bytes(loss, size, name)
                return "" if held is None else digits(held / 2**20)

            found.append(f"{TITLES[loss]}; {head}\n\n{by_size(figures, 'memory', loss, those, cell)}")
    return "\n".join(found) if len(found) > 1 else ""


def section_growth(figures: Figures) -> str:
    """p of c N^p."""

    def fitted(name: str, loss: str, dim: int, what: str) -> str:
        part = "memory" if what == "memory" else "one"
        sizes = [size for size in figures.sizes(part, loss) if size[1] == dim]
        if what == "memory":
            found = exponent(((s[0], figures.bytes(loss, s, name)) for s in sizes), FITTED[what])
        else:
            found = exponent(((s[0], figures.seconds("one", loss, s, name)) for s in sizes), FITTED[what])
        return "" if found is None else f"{found[0]:.2f} ({found[1]} … {found[2]})"

    about = "p of time on one thread, or memory, ∝ Nᵖ: least squares of the logarithms over the sizes in brackets."
    found = [f"## Growth\n\n{about}\n"]
    for loss in LOSSES:
        names = figures.names("one", loss) | figures.names("memory", loss)
        rows = [
            (CONTENDERS[name].label, *(fitted(name, loss, dim, what) for what in FITTED for dim in (128, 512)))
            for name in CONTENDERS
            if name in names
        ]
        head = ["", *(f"{what}, D = {dim}" for what in FITTED for dim in (128, 512))]
        if any(any(row[1:]) for row in rows):
            found.append(f"{TITLES[loss]}\n\n" + table(head, [row for row in rows if any(row[1:])]))
    return "\n".join(found) if len(found) > 1 else ""


def section_agreement(figures: Figures) -> str:
    """How far the losses are from the exact one, in what float32 may cost."""
    worst: dict[str, tuple[float, str]] = {}
    for key, name, loss, exact in figures.values():
        rs = abs(loss - exact) / allowed(key, exact)
        worst[name] = max(worst.get(name, (0.0, "")), (rs, key))
    if not worst:
        return ""
    rows = [(CONTENDERS[name].label, f"{worst[name][0]:.2g}", worst[name][1]) for name in CONTENDERS if name in worst]
    return (
        "## Whether they compute the same\n\n|loss − exact| over what float32 may cost (tests/benchmarks/inputs.py): "
        "the worst of all points where the exact loss was computed, in float64. At most 1 is agreement.\n\n"
        + table(["", "worst", "at"], rows)
    )


def allowed(key: str, exact: float) -> float:
    """What float32 may cost at a point."""
    _, loss, size = key.split("/")
    rows, dim = map(int, size.split("x"))
    return tolerance(rows, dim, temperature(loss), exact)


def section_not_measured(figures: Figures) -> str:
    lines = [
        f"- {CONTENDERS[name].label}: {why}: {keys[0]}" + (f" and {len(keys) - 1} more" if len(keys) > 1 else "")
        for name, reasons in figures.left_out().items()
        for why, keys in reasons.items()
    ]
    lines += [f"- {key}: {why}" for key, why in figures.failures()]
    lines += [f"- {TITLES[loss]}, {part}: no point" for part in ("one", "two") for loss in LOSSES
              if not figures.sizes(part, loss)]  # fmt: skip
    return "## Not measured\n\n" + ("\n".join(lines) or "Nothing was left out.") + "\n"


def section_setup(figures: Figures) -> str:
    found = ["## Measured with\n"]
    for number, e in enumerate(figures.environments):
        count = sum(point.get("environment") == number for point in figures.points.values())
        versions = ", ".join(f"{name} {version}" for name, version in e["versions"].items())
        pinned = "CPUs pinned" if e["pinned"] else "CPUs not pinned: the system has no such call"
        peak = "" if e["peak resets"] else "; peaks since the process began, which hide what imports needed"
        found.append(
            f"- {count} points: sources {e['sources']}; {e['cpu']}, {e['cpus']} CPUs, {e['system']}; "
            f"Python {e['python']}; {versions}; "
            f"{'; '.join(e['linear algebra'])}; {pinned}{peak}"
        )
    return "\n".join(found) + "\n"


def render(figures: Figures) -> str:
    """The whole page."""
    shown = [f"![{plot.title}](performance/{name}.svg)\n" for name, plot in PLOTS.items() if plot.has(figures)]
    sections = [
        INTRODUCTION,
        section_processor(figures),
        section_busy(figures),
        section_targets(figures),
        *shown,
        section_ratios(figures),
        section_times(figures, "one", "One thread"),
        section_times(figures, "two", "Two threads"),
        section_threads(figures),
        section_memory(figures),
        section_growth(figures),
        section_agreement(figures),
        PEERS,
        section_not_measured(figures),
        section_setup(figures),
    ]
    return "\n".join(section for section in sections if section)


def write(figures: Figures, path: Path) -> None:
    path.write_text(render(figures), encoding="utf-8")
