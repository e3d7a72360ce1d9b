"""Who may import whom: the rooms of the house and their one direction, docs/decisions/0001 and the README's promise."""

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ARRAY_LIBRARIES = ("numpy", "scipy", "ml_dtypes", "torch", "jax", "jaxlib", "cupy", "dask", "array_api_strict")


def imported(source: str) -> Iterator[str]:
    """The dotted names that a module imports, anywhere in it; what is imported by a computed name is `dynamic`.

    `import infonce_ref` counts as importing what is then taken from it.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name != "infonce_ref" or alias.asname)
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "infonce_ref":
            yield f"infonce_ref.{node.attr}"
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__"):
            yield "dynamic"


def within(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def standard(name: str) -> bool:
    return name.split(".")[0] in sys.stdlib_module_names


def reference_may(path: Path, name: str) -> bool:
    """infonce_ref: the standard library, itself, and array_api_compat's own functions, none of its namespaces."""
    if within(name, "infonce_ref"):
        return not within(name, "infonce_ref.backends", "infonce_ref.conformance")
    return standard(name) or (name.startswith("array_api_compat.") and name.split(".")[1] not in NAMESPACES)


def backend_may(path: Path, name: str) -> bool:
    """backends: the reference, the library that the file is named for, and no other; __init__.py none at all.

    PyTorch's may work on its processor's memory by NumPy, which is installed wherever the reference is; NumPy's may ask
    threadpoolctl, if it is there, how many threads the linear algebra has.
    """
    if within(name, "infonce_ref"):
        return not within(name, "infonce_ref.conformance")
    if path.name == "__init__.py" and name == "dynamic":  # loading one by its name when it is asked for
        return True
    library = path.stem.removeprefix("_").split("_")[0]  # _torch.py, _torch_tiles.py
    threads = library == "numpy" and within(name, "threadpoolctl")
    numpy = library == "torch" and within(name, "numpy")
    return standard(name) or threads or numpy or within(name, "array_api_compat", library)


def suite_may(path: Path, name: str) -> bool:
    """conformance: of infonce_ref only itself, its version and place; what is judged is reached through an adapter."""
    if "adapters" in path.parts or not within(name, "infonce_ref"):
        return True
    return within(name, "infonce_ref.conformance") or name.startswith("infonce_ref.__")


def anyone_may(path: Path, name: str) -> bool:
    """Everywhere: true and absolute names, so that no module is loaded twice."""
    return not name.startswith(".") and not within(name, "backends", "conformance")


NAMESPACES = ("numpy", "torch", "cupy", "dask", "common")
RULES: dict[str, tuple[Callable[[Path, str], bool], ...]] = {
    "infonce_ref": (reference_may, anyone_may),
    "backends": (backend_may, anyone_may),
    "conformance": (suite_may, anyone_may),
    "tests": (anyone_may,),
}


def violations(root: Path) -> list[str]:
    """Every import under `root` that its room forbids; the links inside infonce_ref aren't followed."""
    return [
        f"{path.relative_to(root)} imports {name}: {rule.__name__}"
        for room, rules in RULES.items()
        for path in sorted((root / room).rglob("*.py"))
        for name in imported(path.read_text(encoding="utf-8"))
        for rule in rules
        if not rule(path.relative_to(root), name)
    ]


def test_every_room_imports_only_what_it_may() -> None:
    """The reference needs array_api_compat alone, a backend its library, the suite no implementation."""
    assert violations(ROOT) == []


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("infonce_ref/embed.py", "import numpy as np"),
        ("infonce_ref/losses/info_nce.py", "def f():\n    from torch import nn"),
        ("infonce_ref/embed.py", "import array_api_compat.numpy"),
        ("infonce_ref/embed.py", "from array_api_compat import torch"),
        ("infonce_ref/embed.py", "import importlib\nnp = importlib.import_module('num' + 'py')"),
        ("infonce_ref/embed.py", "from infonce_ref.conformance import problem"),
        ("infonce_ref/embed.py", "from . import link"),
        ("backends/_torch.py", "import jax"),
        ("backends/_torch.py", "from infonce_ref.conformance import problem"),
        ("backends/__init__.py", "import torch"),
        ("conformance/judge.py", "from infonce_ref import info_nce"),
        ("conformance/judge.py", "import infonce_ref\ninfonce_ref.info_nce()"),
        ("conformance/judge.py", "import infonce_ref as r"),
        ("conformance/oracle/definition.py", "import infonce_ref.losses.info_nce"),
        ("conformance/judge.py", "from conformance.problem import Problem"),
        ("tests/test_x.py", "import backends"),
    ],
)
def test_a_forbidden_import_is_found(tmp_path: Path, file: str, line: str) -> None:
    """Each rule sees its own violation, at the top of a module or inside a function."""
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(line + "\n")
    assert len(violations(tmp_path)) >= 1


def test_what_the_rules_allow_passes(tmp_path: Path) -> None:
    """A backend imports its library, an adapter loads what it judges."""
    for file, line in (
        ("infonce_ref/embed.py", "import math\nfrom array_api_compat import device\nfrom infonce_ref.link import x"),
        ("backends/_torch.py", "import torch.nn\nfrom infonce_ref.link import x"),
        ("conformance/adapters/load.py", "import importlib\nx = importlib.import_module('infonce_ref')"),
        ("conformance/judge.py", "import mpmath\nfrom infonce_ref import __version__"),
    ):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(line + "\n")
    assert violations(tmp_path) == []


def loaded_by(statement: str, path: Path) -> set[str]:
    """The modules that a fresh interpreter holds after `statement`, `path` being first on its search path."""
    code = f"import sys; sys.path.insert(0, {str(path)!r}); {statement}; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split())


def libraries_loaded(modules: set[str]) -> set[str]:
    namespaces = {f"array_api_compat.{name}" for name in NAMESPACES} - {"array_api_compat.common"}
    return {m for m in modules if m.split(".")[0] in ARRAY_LIBRARIES or within(m, *namespaces)}


def test_importing_the_reference_imports_no_array_library() -> None:
    """`import infonce_ref` leaves the choice, and the cost, of a library to the caller."""
    assert libraries_loaded(loaded_by("import infonce_ref", ROOT)) == set()


@pytest.mark.parametrize("line", ["import numpy", "import array_api_compat.numpy"])
def test_an_imported_library_is_seen(tmp_path: Path, line: str) -> None:
    """The same question put to a package that does import one."""
    (tmp_path / "infonce_ref.py").write_text(line + "\n")
    assert libraries_loaded(loaded_by("import infonce_ref", tmp_path)) != set()


def test_a_call_imports_the_libraries_of_its_arrays_only() -> None:
    """A call with NumPy's arrays doesn't bring in torch or JAX."""
    call = "import numpy; from infonce_ref import info_nce; info_nce.value_and_grad(numpy.eye(2), numpy.eye(2))"
    others = set(ARRAY_LIBRARIES) - {"numpy"}
    assert {m for m in loaded_by(call, ROOT) if m.split(".")[0] in others} == set()
