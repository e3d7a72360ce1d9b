"""Write the pages of this folder that show what the suite says of other people's and of textbook code, and of itself.

From the root of the repository, with the extras `test` and PyTorch installed:

    python docs/results/generate.py verdicts      # info-nce-pytorch.md: seconds
    python docs/results/generate.py comparison    # comparison.html: seconds
    python docs/results/generate.py precise       # tiny-losses.md: a minute
    python docs/results/generate.py seeds         # textbook.md: 200 seeds for each of three, a quarter of an hour
    python docs/results/generate.py suite         # suite.md: 10,000 damaged inputs of each kind, ten minutes

docs/results/mutants.md is written by `python -m infonce_ref.conformance.mutants.run --write`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.progress import track

RESULTS = Path(__file__).parent
ROOT = RESULTS.parents[1]
EXAMPLES = RESULTS.parent / "examples"
SEEDS = 200
LIBRARIES = ("numpy", "torch", "jax")
TINY = ("1e-3", "1e-7", "1e-12", "1e-27")
WRONG = "rows.no-positive"  # a mutant: the positive left out of the denominator
PEER = "info_nce:InfoNCE --loss info_nce --framework torch --reading shared"


def shown(command: str, last: int | None = None) -> str:
    """A command as a reader would type it, (the last lines of) what it prints, and its exit code."""
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "110", "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-m", *command.replace("infonce-conformance", "infonce_ref.conformance").split()]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    text = "\n".join(line.rstrip() for line in done.stdout.splitlines()[-(last or 0) :])
    piped = f" | tail -n {last}" if last else ""
    return f"```text\n$ {command}{piped}\n{text}\n$ echo ${{PIPESTATUS[0]}}\n{done.returncode}\n```\n"


def verdicts() -> None:
    """info-nce-pytorch.md."""
    (RESULTS / "info-nce-pytorch.md").write_text(
        f"""# info-nce-pytorch 0.1.4, judged

<!-- written by docs/results/generate.py verdicts -->

Its value and its gradients are right on ordinary input, in float64 and float32, down to a temperature of 0.001:
`core` and `grad`, which are what is required unless a run says otherwise, are met. What it misses shows when
everything is asked for:

- `similarity.cosine.scale`: norms below its floor of 1e-12, or whose squares leave the dtype's range (at norms of 1e20
  in float32 the loss is log N and the gradient 0)
- `similarity.cosine.zero`: the gradient at a zero row is about 1e12
- `scale.temperature.domain`, `input.shape`: it accepts a negative temperature, and arrays without rows or columns
- `dtype.half`, `dtype.result`: half precision is computed and returned in half precision
- `precise.loss`, `precise.gradient`: tiny losses and their gradients are rounding noise, as in any textbook form

tests/suite/test_info_nce_pytorch.py holds these facts.

## What is required of everyone

{shown(f"infonce-conformance run {PEER}", last=1)}
## Everything

{shown(f"infonce-conformance run {PEER} --profile all")}""",
        encoding="utf-8",
    )


def comparison() -> None:
    """comparison.html: the reference, info-nce-pytorch and a wrong implementation, side by side."""
    from infonce_ref import info_nce
    from infonce_ref.conformance.mutants import MUTANTS
    from infonce_ref.conformance.report.html import page
    from infonce_ref.conformance.report.model import run_of
    from infonce_ref.conformance.run import check_loss

    wrong = next(mutant for mutant in MUTANTS if mutant.id == WRONG)
    reports = [
        check_loss(info_nce, framework="numpy"),
        check_loss("info_nce:InfoNCE", framework="torch", reading="shared"),
        check_loss(wrong.function, framework="numpy"),
    ]
    for report, name in zip(reports, ("infonce_ref:info_nce", "info_nce:InfoNCE", f"mutant {WRONG}"), strict=True):
        report.target = name
        report.diagnose()
    (RESULTS / "comparison.html").write_text(page([run_of(report) for report in reports]), encoding="utf-8")


def precise() -> None:
    """tiny-losses.md: r by the relative bound at four tiny losses, the textbook's and the reference's."""
    import textbook

    from infonce_ref import info_nce
    from infonce_ref.conformance.run import check_loss

    def row(name: str, function: Any, framework: str) -> str:
        report = check_loss(function, framework=framework, only="info_nce.aligned.1e-*/float32/precise.*")
        found = {(r.check.id.split("#")[0], r.check.id.split(".")[-1]): f"{r.r:.2g}" for r in report.results}
        cells = [", ".join(found[f"info_nce.aligned.{x}", part] for part in ("loss", "gradient")) for x in TINY]
        return f"| {name}, {framework} | {' | '.join(cells)} |"

    rows = [row("textbook", getattr(textbook, f"in_{name}"), name) for name in LIBRARIES]
    rows += [row("infonce_ref", info_nce, name) for name in LIBRARIES]
    (RESULTS / "tiny-losses.md").write_text(
        f"""# Tiny losses in float32

<!-- written by docs/results/generate.py precise -->

r of the loss and of the gradients by the relative bound of the profile `precise`, at four true losses: at most 1
conforms. The [textbook](../examples/textbook.py) rounds to the size of the logits; the reference works with differences
to the positive.

| | {" | ".join(TINY)} |
|---|{"---|" * len(TINY)}
"""
        + "\n".join(rows)
        + "\n",
        encoding="utf-8",
    )


def seeds(count: int) -> None:
    """textbook.md: how the textbook implementations fare on fresh problems of many seeds."""
    import jax
    import textbook

    from infonce_ref.conformance.run import check_loss

    def row(name: str, function: Callable[..., object]) -> str:
        """Fresh problems of core and grad, float64 and float32. Uncompiled, JAX doesn't compile every shape anew."""
        compiled = jax.disable_jit() if name == "jax" else contextlib.nullcontext()
        results = []
        with compiled:
            for seed in track(range(count), name):
                report = check_loss(function, framework=name, seed=seed, only="info_nce.fresh.*/float*")
                results += [r for r in report.results if r.check.profile in ("core", "grad") and r.ran]
        worst = max(r.r for r in results if r.r is not None)
        return f"| {name} | {len(results)} | {sum(r.failed for r in results)} | {worst:.3f} |"

    rows = [row(name, getattr(textbook, f"in_{name}")) for name in LIBRARIES]
    (RESULTS / "textbook.md").write_text(
        f"""# Textbook implementations on fresh problems

<!-- written by docs/results/generate.py seeds -->

[Normalise, multiply, cross-entropy](../examples/textbook.py) in three libraries, on the fresh problems of the seeds
0 … {count - 1}, profiles `core` and `grad`, float64 and float32. Each is right, so none may be rejected.

| library | checks | rejected | worst r |
|---|---|---|---|
"""
        + "\n".join(rows)
        + "\n",
        encoding="utf-8",
    )


def suite(count: int | None) -> None:
    """suite.md: what the suite's tests saw, with so many damaged inputs of each kind; fails if one of them fails."""
    sys.path.insert(0, str(ROOT))
    from tests.benchmarks.child import Others
    from tests.suite import figures
    from tests.support import results

    with tempfile.TemporaryDirectory() as folder:
        xml = Path(folder) / "results.xml"
        words = [sys.executable, "-m", "pytest", *figures.tests(), f"--junitxml={xml}"]
        environment = {**os.environ, "INFONCE_FUZZ": str(count or figures.MUTATIONS)}
        with Others() as others:
            code = subprocess.run(words, cwd=ROOT, env=environment, check=False).returncode
        (RESULTS / "suite.md").write_text(figures.page(results(xml), figures.machine(others.cpus)), encoding="utf-8")
    sys.exit(code)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", choices=["verdicts", "comparison", "precise", "seeds", "suite"])
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--mutations", type=int, help="damaged inputs of each kind")
    asked = parser.parse_args()
    sys.path.insert(0, str(EXAMPLES))
    pages = {
        "verdicts": verdicts,
        "comparison": comparison,
        "precise": precise,
        "seeds": lambda: seeds(asked.seeds),
        "suite": lambda: suite(asked.mutations),
    }
    pages[asked.page]()


if __name__ == "__main__":
    main()
