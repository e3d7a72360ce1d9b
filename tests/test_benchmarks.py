"""The benchmarks measure, agree on what they measure, and say what they found. No test here asks for a time."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks import child, page, plots
from tests.benchmarks.figures import Figures, growth
from tests.benchmarks.inputs import LOSSES, exact, inputs, temperature, tolerance
from tests.benchmarks.points import points
from tests.benchmarks.targets import targets

ROOT = Path(__file__).parents[1]
COMMITTED = ROOT / "docs" / "results"


def invented(path: Path, seconds: dict[str, float], **more: dict[str, object]) -> Figures:
    """Figures of one environment: seconds by part/loss/size/name."""
    found: dict[str, dict[str, object]] = {}
    for key, value in seconds.items():
        point, name = key.rsplit("/", 1)
        spread = {"processor": [value] * 5, "wall": [value] * 5, "rounds": 3, "loss": 1.0}
        found.setdefault(point, {"found": {}, "exact": 1.0, "others": 0.0, "environment": 0})["found"][name] = spread
    path.write_text(json.dumps({"environments": [], "points": {**found, **more}}))
    return Figures(path)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the short mode wrote to."""
    if (os.cpu_count() or 1) < 2:
        pytest.skip("one CPU: nothing to measure two threads on")
    to = tmp_path_factory.mktemp("results")
    command = [sys.executable, "-m", "tests.benchmarks", "--short", "--to", str(to)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return to


@pytest.fixture
def figures(measured: Path) -> Figures:
    return Figures(measured / "performance" / "figures.json")


@pytest.mark.slow
def test_everything_that_is_installed_is_measured(figures: Figures) -> None:
    """No point fails, and every loss has its figures by every backend and, for its library, by the reference."""
    assert list(figures.failures()) == []
    for loss in LOSSES:
        assert {"numpy", "torch", "jax", "reference"} <= figures.names("one", loss)


@pytest.mark.slow
def test_all_agree_on_the_loss(figures: Figures) -> None:
    """Every implementation's loss is the exact one within what float32 may cost: the same is measured everywhere."""
    losses = list(figures.values())
    assert len(losses) > len(LOSSES)
    for key, name, loss, true in losses:
        assert abs(loss - true) <= page.allowed(key, true), (key, name)


@pytest.mark.slow
def test_every_ratio_is_a_finite_number(figures: Figures) -> None:
    """Of all implementations at every point, to each other, and of memory."""
    for key, point in figures.points.items():
        sizes = [found[clock][2] for found in point.get("found", {}).values() for clock in ("processor", "wall")]
        assert all(math.isfinite(a / b) and a > 0 for a in sizes for b in sizes), key
        assert math.isfinite(point.get("bytes", 0.0)), key
    assert any(target.measured is not None and math.isfinite(target.measured) for target in targets(figures))


@pytest.mark.slow
def test_the_page_says_what_was_measured(measured: Path, figures: Figures) -> None:
    """It has the section of each part, and a page rendered again from the figures alone is the same."""
    text = (measured / "performance.md").read_text()
    for heading in ("## Targets", "## One thread", "## Two threads", "## Memory", "## Growth", "## Measured with"):
        assert f"\n{heading}\n" in text
    assert page.render(figures) == text


@pytest.mark.parametrize("loss", ["info_nce", "clip"])
def test_one_loss_cant_pass_for_another(loss: str) -> None:
    """The tolerance tells clip from info_nce, which differ in one direction of two."""
    other = {"info_nce": "clip", "clip": "info_nce"}[loss]
    x = inputs(loss, 64, 128)
    assert abs(exact(loss, x) - exact(other, x)) > tolerance(64, 128, temperature(loss), exact(loss, x))


@pytest.mark.parametrize(("folder", "family"), [(COMMITTED, 26), (COMMITTED / "zen-4", 25)], ids=["zen-5", "zen-4"])
def test_a_committed_page_is_that_of_its_figures(folder: Path, family: int) -> None:
    """It is what its figures render to, with the plots that it shows beside it, and of one processor."""
    committed = Figures(folder / "performance" / "figures.json")
    text = (folder / "performance.md").read_text()
    assert page.render(committed) == text
    assert f"\nMeasured on AMD EPYC, family {family} model " in text
    for name, plot in plots.PLOTS.items():
        assert plot.has(committed) == (folder / "performance" / f"{name}.svg").exists()
        assert plot.has(committed) == (f"performance/{name}.svg" in text)


def test_plots_are_the_same_for_the_same_figures(tmp_path: Path) -> None:
    """Byte for byte, and small."""
    figures = invented(tmp_path / "figures.json", {f"one/info_nce/{n}x128/numpy": n**2 / 1e9 for n in (256, 512, 1024)})
    plots.write(figures, tmp_path)
    first = (tmp_path / "time.svg").read_bytes()
    plots.write(figures, tmp_path)
    assert (tmp_path / "time.svg").read_bytes() == first
    assert len(first) < 40_000


def test_a_target_is_reached_or_not_by_the_figures(tmp_path: Path) -> None:
    """At 4096 × 128 at most 1.3 times the quicker of the two floors, and half of autograd's time."""
    prefix = "one/info_nce/4096x128"

    def said(seconds: float) -> list[bool | None]:
        floors = {f"{prefix}/numpy-256": 2.0, f"{prefix}/numpy-512": 1.0}
        figures = invented(tmp_path / "f.json", {f"{prefix}/numpy": seconds, f"{prefix}/autograd": 2.5, **floors})
        return [t.reached for t in targets(figures) if t.what.startswith("NumPy, 4096 × 128")]

    assert said(1.2) == [True, True]
    assert said(1.29) == [True, False]
    assert said(1.31) == [False, False]


def test_the_floor_is_the_fastest_of_the_products(tmp_path: Path) -> None:
    """PyTorch's by torch.mm or by oneDNN, whichever: the harder one to reach."""
    prefix = "one/info_nce/4096x128"
    for quickest in ("torch-256", "torch-512", "torch-onednn"):
        products = {f"{prefix}/{name}": 2.0 for name in ("torch-256", "torch-512", "torch-onednn")}
        figures = invented(tmp_path / "f.json", {**products, f"{prefix}/{quickest}": 1.0, f"{prefix}/torch": 1.5})
        asked = "PyTorch, 4096 × 128: time over its own tiled products"
        assert [t.measured for t in targets(figures) if t.what == asked] == [1.5]


def test_each_dimension_has_its_row(tmp_path: Path) -> None:
    """lightly's time over ours, by D; and over 7/3 of info_nce's products: nt_xent has 7 of N × N × D, info_nce 3."""
    seconds = {"one/nt_xent/256x128/lightly": 4.0, "one/nt_xent/256x128/torch": 1.0}
    wide = {"one/nt_xent/256x512/lightly": 7.0, "one/nt_xent/256x512/torch": 3.5}
    floors = {"one/info_nce/256x512/torch-512": 1.0, "one/info_nce/256x128/jax": 1.0}
    figures = invented(tmp_path / "f.json", {**seconds, **wide, **floors})
    rows = {t.what: t for t in targets(figures) if t.what.startswith("PyTorch, D = ")}
    few, many = (rows[f"PyTorch, D = {dim}, any N ≥ 256: lightly's time over nt_xent's"] for dim in (128, 512))
    assert (few.measured, few.reached, few.where) == (4.0, True, "worst of 1 sizes, at 256 × 128")
    assert (many.measured, many.reached) == (2.0, False)
    assert many.where == "worst of 1 sizes, at 256 × 512, where bare products would make it 3.00 ×"


def test_what_was_not_measured_is_said(tmp_path: Path) -> None:
    """A target without figures is neither reached nor missed; who was left out is listed with the reason."""
    figures = invented(
        tmp_path / "figures.json",
        {"one/nt_xent/8192x128/numpy": 1.0},
        **{"one/clip/256x128": {"found": {}, "exact": None, "left out": {"open_clip": "not installed"}}},
        **{"one/clip/512x128": {"failed": "killed by signal 9 (torch, round 1 of 3)"}},
    )
    assert {target.reached for target in targets(figures)} == {None}
    text = page.render(figures)
    assert "open_clip, ClipLoss: not installed" in text
    assert "one/clip/512x128: killed by signal 9" in text


@pytest.mark.parametrize("power", [1.0, 2.0, 2.5])
def test_growth_is_the_exponent(power: float) -> None:
    """Of exact powers, to rounding."""
    found = growth((256, 1024, 4096), (3 * n**power for n in (256, 1024, 4096)))
    assert found == pytest.approx(power, rel=1e-12)


def test_keys_of_points_are_unique() -> None:
    """No figure would overwrite another's."""
    keys = [point.key for point in points(largest=True)]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(("before", "after", "cpus"), [(10.0, 13.0, 0.5), (10.0, 10.5, 0.0), (None, None, None)])
def test_others_are_what_is_not_ours(
    before: float | None, after: float | None, cpus: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """(all − ours) / time: 3 s of all processes in 4 s, 1 s of them ours; never below 0, nothing where unknown."""
    seconds = {
        "busy": [before, after],
        "times": [(1.0, 2.0, 0.0, 0.0, 9.0), (1.25, 2.25, 0.25, 0.25, 13.0)],
        "clock": [5.0, 9.0],
    }
    monkeypatch.setattr(child, "busy", lambda: seconds["busy"].pop(0))
    monkeypatch.setattr(child.os, "times", lambda: seconds["times"].pop(0))
    monkeypatch.setattr(child.time, "perf_counter", lambda: seconds["clock"].pop(0))
    with child.Others() as others:
        pass
    assert others.cpus == cpus


def test_the_page_names_the_processors(tmp_path: Path) -> None:
    """Those that a point was measured on, each once."""
    figures = invented(tmp_path / "figures.json", {f"one/clip/{n}x128/numpy": 1.0 for n in (256, 512, 1024)})
    figures.environments[:] = [{"cpu": "never used"}, {"cpu": "second"}, {"cpu": "first"}]
    for point, environment in zip(figures.points.values(), (1, 2, 1), strict=True):
        point["environment"] = environment
    assert page.section_processor(figures) == "Measured on first, second.\n"
