"""The table of libraries says what the tests said."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.support import END, FEATURES, LIBRARIES, PAGE, START, library_of, markdown, results

HERE = Path(__file__).parent
XML = """<testsuites><testsuite>
<testcase classname="tests.test_family" name="test_half_precision_is_storage[torch-float16-clip: plain]"/>
<testcase classname="tests.test_family" name="test_half_precision_is_storage[torch-float16-gte: plain]">
<failure/></testcase>
<testcase classname="tests.test_family" name="test_half_precision_is_storage[numpy-float16-clip: plain]"/>
<testcase classname="tests.test_family" name="test_half_precision_is_storage[jax-float16-clip: plain]">
<skipped/></testcase>
<testcase classname="tests.test_cupy" name="test_tiles[float32-cosine]"/>
<testcase classname="tests.test_cupy" name="test_every_loss[1-float32-clip-backend]"/>
<testcase classname="tests.test_cupy" name="test_every_loss[1-float32-clip-reference]"/>
</testsuite></testsuites>"""


def test_cells_count_what_passed_failed_and_ran(tmp_path: Path) -> None:
    """One that fails is seen; one that is skipped proves nothing; what no parameter tells is told by the table."""
    (tmp_path / "results.xml").write_text(XML)
    rows = {line.split(" | ")[0]: line for line in markdown(results(tmp_path / "results.xml")).splitlines()}

    def cells(feature: str) -> dict[str, str]:
        those = rows[f"| {feature}"].strip("|").split("|")[1:]
        return {name: cell.strip() for name, cell in zip(LIBRARIES, those, strict=True) if cell.strip() != "–"}

    assert cells("half precision") == {"numpy": "✓ 1", "torch": "✗ 1 of 2"}
    assert cells("backend in tiles, within the bound") == {"cupy": "✓ 2"}


def test_a_library_is_found_among_parameters() -> None:
    """jax-jit is JAX; strict's second device is strict; nothing is nobody's."""
    assert [library_of(x) for x in ("0.07-jax-jit", "strict-device1-float32", "float32")] == ["jax", "strict", None]


def test_every_test_that_is_named_exists() -> None:
    """A renamed test would leave its row empty without a word."""
    for tests in FEATURES.values():
        for test in tests:
            file, _, function = test.partition("[")[0].partition("::")
            tree = ast.parse((HERE / f"{file}.py").read_text(encoding="utf-8"))
            assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, test


def test_nothing_failed_on_the_page() -> None:
    """The table that is kept has every feature and library, and no failure."""
    table = PAGE.read_text(encoding="utf-8").partition(START)[2].partition(END)[0]
    assert table.count("\n| ") == len(FEATURES) + 2
    assert table.count("✓") >= 40
    assert "✗" not in table
    assert all(f"| {feature} |" in table for feature in FEATURES)
    assert len(table.splitlines()[1].split("|")) == len(LIBRARIES) + 3
