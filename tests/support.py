"""The table of docs/libraries.md, from the results of a test run.

    pytest --junitxml=results.xml
    python -m tests.support results.xml                 # writes the table into docs/libraries.md

Several files of results are taken together: those of a machine with CuPy's simulated device or a GPU
(tests/test_cupy.py), those of libraries that the tests don't install (tests/test_other_libraries.py).
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

PAGE = Path(__file__).parents[1] / "docs" / "libraries.md"
START, END = "<!-- from test results: python -m tests.support -->\n", "<!-- end -->\n"
LIBRARIES = {
    "numpy": "NumPy",
    "torch": "PyTorch",
    "jax": "JAX",
    "strict": "strict",
    "cupy": "CuPy, simulated",
    "dask": "Dask",
    "mlx": "MLX",
    "ndonnx": "ndonnx",
    "dpnp": "dpnp",
}  # as the tests' parameters name them, and as the page does

# What is shown, by the tests that show it: "file::function", or those with "[a parameter]"; and the library where the
# parameters don't say it.
FEATURES: Mapping[str, Mapping[str, str | None]] = {
    "loss and gradients within the bound, float64 and float32": {
        "test_info_nce::test_loss_and_gradients_are_exact_within_the_bound": None,
        "test_family::test_loss_and_gradients_are_exact_within_the_bound": None,
        "test_other_libraries::test_loss_and_gradients_are_exact_within_the_bound": None,
        "test_cupy::test_every_loss[reference]": "cupy",
    },
    "half precision": {
        "test_info_nce::test_half_precision_is_storage": None,
        "test_family::test_half_precision_is_storage": None,
    },
    "tiny losses to their last digits": {
        "test_precise::test_tiny_losses_and_their_gradients": None,
        "test_precise::test_blocks_are_as_precise": None,
    },
    "in blocks": {
        "test_info_nce::test_blocks_of_any_size": None,
        "test_family::test_blocks_of_any_size": None,
    },
    "compiled": {
        "test_family::test_compiled_by_jax": "jax",
        "test_library_independence::test_torch_compiles_it_without_a_graph_break": "torch",
    },
    "differentiated by the library": {
        "test_gradients::test_autodiff_gives_the_analytic_gradient": None,
        "test_family::test_torch_differentiates_the_code_as_it_is": "torch",
    },
    "second derivatives by the library": {
        "test_gradients::test_second_derivatives_by_autodiff": None,
        "test_gradients::test_double_backward_in_torch": "torch",
        "test_family::test_torch_second_derivatives": "torch",
        "test_family::test_jax_hessian": "jax",
    },
    "vmap": {
        "test_library_independence::test_jax_vmap_is_a_loop": "jax",
        "test_library_independence::test_torch_func_vmap_is_a_loop": "torch",
    },
    "mining hard negatives": {"test_mining::test_it_is_one_sort_of_all_scores": None},
    "masks of false negatives": {
        "test_false_negatives::test_what_scores_above_the_limit_is_no_negative": None,
        "test_false_negatives::test_a_guides_embeddings": None,
    },
    "a queue of keys": {"test_queue::test_every_library": None},
    "backend in tiles, within the bound": {
        "test_backend_numpy::test_exact_within_the_bound": "numpy",
        "test_backend_torch::test_exact_within_the_bound": "torch",
        "test_backend_jax::test_every_loss": "jax",
        "test_backend_jax::test_tiles": "jax",
        "test_cupy::test_every_loss[backend]": "cupy",
        "test_cupy::test_tiles": "cupy",
    },
    "backend accepted by the suite, as exact as the reference (JAX: `precise` alone)": {
        "test_backend_numpy::test_conforms_to_all_profiles": "numpy",
        "test_backend_torch::test_conforms_to_all_profiles": "torch",
        "test_backend_torch::test_matryoshka_conforms_to_all_profiles": "torch",
        "test_backend_jax::test_conforms_to_precise": "jax",
        "test_cupy::test_conforms_to_all_profiles": "cupy",
    },
}


class Result(NamedTuple):
    test: str  # file::function
    parameters: str
    outcome: str  # "passed", "failed", "skipped"
    said: Mapping[str, str]  # what it recorded, by name


def results(path: Path) -> Iterator[Result]:
    """What a file of pytest's JUnit XML says of each test."""
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        function, _, parameters = case.attrib["name"].partition("[")
        children = {child.tag for child in case}
        outcome = "failed" if children & {"failure", "error"} else "skipped" if "skipped" in children else "passed"
        test = f"{case.attrib['classname'].rpartition('.')[2]}::{function}"
        said = {found.attrib["name"]: found.attrib["value"] for found in case.iter("property")}
        yield Result(test, parameters.rstrip("]"), outcome, said)


def library_of(parameters: str) -> str | None:
    """The library among a test's parameters."""
    found = [name for name in re.split(r"[-: ]", parameters) if name in LIBRARIES]
    return found[0] if found else None


def counts(runs: Iterable[Result]) -> dict[tuple[str, str], Counter[str]]:
    """How often each outcome was seen, by feature and library."""
    shown = {test: (feature, where) for feature, tests in FEATURES.items() for test, where in tests.items()}
    table: dict[tuple[str, str], Counter[str]] = {}
    for test, parameters, outcome, _ in runs:
        names = [test, *(f"{test}[{parameter}]" for parameter in parameters.split("-"))]
        feature, where = next((shown[name] for name in names if name in shown), (None, None))
        library = where or library_of(parameters)
        if feature is not None and library is not None and outcome != "skipped":
            table.setdefault((feature, library), Counter())[outcome] += 1
    return table


def cell(found: Counter[str] | None) -> str:
    """"✓ 12": all of 12 passed; "✗ 2 of 12": two did not; "–": none was run."""
    if not found:
        return "–"
    return f"✗ {found['failed']} of {found.total()}" if found["failed"] else f"✓ {found['passed']}"


def markdown(runs: Iterable[Result]) -> str:
    table = counts(runs)
    rows = [["", *LIBRARIES.values()], ["---"] * (len(LIBRARIES) + 1)]
    rows += [[feature, *(cell(table.get((feature, name))) for name in LIBRARIES)] for feature in FEATURES]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", nargs="+", type=Path, help="files of pytest --junitxml")
    files = parser.parse_args(arguments).results
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
    table = markdown(result for path in files for result in results(path))
    PAGE.write_text(before + START + "\n" + table + "\n" + END + rest.partition(END)[2], encoding="utf-8")


if __name__ == "__main__":
    main()
