"""A failing check as a short script that needs the target and its array library, and nothing of the suite.

The script holds the inputs, the call as the suite resolved it, the number that is expected at the worst place and its
bound; it prints what it gets, and its exit code is 1 while the failure is there.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

import infonce_ref
from infonce_ref.conformance.family import LOSSES
from infonce_ref.conformance.fresh import fresh_questions
from infonce_ref.conformance.load import vector_questions
from infonce_ref.conformance.problem import Problem
from infonce_ref.conformance.question import Question
from infonce_ref.conformance.recorded import Line
from infonce_ref.conformance.report.text import visible

UNFIT = re.compile(r"[^A-Za-z0-9._@-]+")
NUMBER = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?")
# What the arguments of a resolved call consist of. A report is data: nothing else of it becomes code.
HARMLESS = (ast.Call, ast.Name, ast.Constant, ast.BinOp, ast.Div, ast.UnaryOp, ast.USub, ast.List, ast.Tuple, ast.Dict)


@dataclass(frozen=True)
class Library:
    """How a script speaks to an array library."""

    module: str  # what it is called in the script
    imports: tuple[str, ...]

    def dtype(self, name: str) -> str:
        if name == "bool" and self.module not in ("torch", "xp"):
            return "bool"
        return "ml_dtypes.bfloat16" if (self.module, name) == ("np", "bfloat16") else f"{self.module}.{name}"

    def array(self, value: str, dtype: str) -> str:
        maker = "tensor" if self.module == "torch" else ("asarray" if self.module == "xp" else "array")
        return f"{self.module}.{maker}({value}, dtype={self.dtype(dtype)})"


def library_of(framework: str, dtype: str) -> Library | None:
    """The library that a framework of this name is; None for what isn't called from Python."""
    kind, _, module = framework.partition(":")
    if kind == "array-api" and re.fullmatch(r"[\w.]+", module):
        return Library("xp", (f"import {module} as xp",))
    bfloat = ("import ml_dtypes",) if dtype == "bfloat16" else ()
    known = {
        "numpy": Library("np", (*bfloat, "import numpy as np")),
        "torch": Library("torch", ("import torch",)),
        "jax": Library("jnp", ("import jax", "import jax.numpy as jnp")),
        "cupy": Library("cp", ("import cupy as cp",)),
    }
    return known.get(framework)


@dataclass
class Reproducer:
    """Writes the scripts of one run."""

    header: Line
    vectors: Any = None  # a folder in place of the suite's own vectors
    scripts: dict[str, str | None] = field(default_factory=dict)

    @cached_property
    def questions(self) -> Mapping[tuple[str, str], Question]:
        """Every question that the run could have asked, by id and dtype."""
        loss, seed = self.header["loss"], self.header["seed"]
        if loss not in LOSSES:  # a report of another version
            return {}
        same = self.header.get("suite") == infonce_ref.__version__  # another version may draw other fresh problems
        asked = chain(vector_questions(loss, self.vectors), fresh_questions(loss, seed) if same else ())
        return {(question.id, question.dtype): question for question in asked}

    def question(self, line: Line) -> Question | None:
        """What a check asked, where it asked one thing."""
        identity, _, dtype = str(line["id"]).rpartition("/")[0].rpartition("/")
        return self.questions.get((identity, dtype))

    def script(self, line: Line) -> str | None:
        """The script of a result line; None where there is no single call that shows it."""
        name = str(line["id"])
        if name not in self.scripts:
            self.scripts[name] = self._script(line)
        return self.scripts[name]

    def _script(self, line: Line) -> str | None:
        question = self.question(line)
        if question is None:
            return None
        library = library_of(str(self.header.get("framework")), question.dtype)
        problem = Problem.from_json(question.problem)
        call = call_for(str(self.header.get("resolved")), problem)
        if library is None or call is None:
            return None
        output = wanted(line)
        parts = (
            title(self.header, line),
            imports(library, str(self.header["target"]), call),
            inputs(library, question, problem, output, call),
            asking(library, call, output),
            comparison(line, question, output),
        )
        return "\n\n".join(parts) + "\n"

    def write(self, lines: Sequence[Line], folder: Path) -> list[Path]:
        """A file for each of the failing `lines` that has a script."""
        folder.mkdir(parents=True, exist_ok=True)
        written = []
        for line in lines:
            text = self.script(line)
            if text is not None:
                written.append(folder / filename(str(line["id"])))
                written[-1].write_text(text, encoding="utf-8", errors="backslashreplace")
        return written


def filename(identity: str) -> str:
    """The name of a check's script."""
    return UNFIT.sub("_", identity).strip("._") + ".py"


def wanted(line: Line) -> str:
    """The output that the script looks at."""
    part = str(line["id"]).rpartition("/")[2]
    named = str(line.get("worst", {}).get("output") or part)
    return named if named.isidentifier() and named not in ("grad", "refused") else "loss"


# --- the call ------------------------------------------------------------------------------------------------------


def call_for(resolved: str, problem: Problem) -> ast.Call | None:
    """The resolved call without the arguments that this problem hasn't; None if it isn't a Python call."""
    try:
        call = ast.parse(resolved, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    if not isinstance(call, ast.Call) or not is_plain(call):
        return None
    given = {*problem.arrays, *scalars(problem), "log", "info_nce"}
    for part in (call, call.func):  # of a class, its constructor too
        if isinstance(part, ast.Call):
            part.keywords = [word for word in part.keywords if names_in(word.value) <= given]
    return call


def is_plain(call: ast.Call) -> bool:
    """Whether it is name(…) or name(…)(…), the name dotted, with keywords that only name, count and take logarithms."""
    inner = call.func.func if isinstance(call.func, ast.Call) else call.func
    keywords = [*call.keywords, *(call.func.keywords if isinstance(call.func, ast.Call) else ())]
    nodes = [node for word in keywords for node in ast.walk(word.value) if not isinstance(node, ast.expr_context)]
    logs = all(ast.unparse(node.func) == "log" for node in nodes if isinstance(node, ast.Call))
    dotted = re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*", ast.unparse(inner)) is not None
    positional = call.args or (isinstance(call.func, ast.Call) and call.func.args)
    return dotted and not positional and logs and all(isinstance(node, HARMLESS) for node in nodes)


def names_in(tree: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def scalars(problem: Problem) -> dict[str, Any]:
    """The arguments of a problem that aren't arrays, by name."""
    others = {field.name for field in fields(problem)} - {"dtype", "arrays", "loss", "options"}
    return {**{name: getattr(problem, name) for name in sorted(others)}, **problem.options}


# --- the script's parts --------------------------------------------------------------------------------------------


def title(header: Line, line: Line) -> str:
    """The comment that the script begins with: which check, of what, what came out."""
    versions = ", ".join(f"{name} {version}" for name, version in header.get("versions", {}).items())
    said = (
        f"{line['id']}: {line['status']}",
        str(line.get("reason", "")),
        f"{header['target']} in {versions}; edition {header.get('edition')}, suite {header.get('suite')}",
    )
    return "\n".join(f"# {visible(text, one_line=True)}" for text in said if text)


def imports(library: Library, target: str, call: ast.Call) -> str:
    """The library, and the target: from the current folder too, as the suite looks for it."""
    module, _, attribute = target.partition(":")
    found = re.fullmatch(r"[\w.]+:[\w.]+", target)
    name = ast.unparse(call.func).partition("(")[0]
    lines = ["import math", "import sys", "from decimal import Decimal", "", *library.imports, ""]
    if library.module == "jnp":
        lines += ['jax.config.update("jax_enable_x64", True)']
    lines += ['sys.path.insert(0, "")']
    lines += [f"from {module} import {attribute.partition('.')[0]}" if found else f"# import {name} here"]
    words = [word.value for part in (call, call.func) if isinstance(part, ast.Call) for word in part.keywords]
    if any("info_nce" in names_in(word) for word in words):  # the loss that a nested one is made of
        lines += ["from infonce_ref import info_nce"]
    return "\n".join(lines)


def inputs(library: Library, question: Question, problem: Problem, output: str, call: ast.Call) -> str:
    """The arguments; Python's repr of a float is that float exactly."""
    dtypes = {name: array["dtype"] for name, array in question.problem["arrays"].items()}
    lines = ["nan, inf = math.nan, math.inf  # each literal below is exactly a number of its dtype"]
    lines += [f"{name} = {library.array(literal(array), dtypes[name])}" for name, array in problem.arrays.items()]
    needed = names_in(call)
    for name, value in scalars(problem).items():
        if name not in needed:
            continue
        lines.append(f"{name} = {library.array(repr(value), question.dtype) if name == output else repr(value)}")
    return "\n".join(lines)


def literal(array: np.ndarray, depth: int = 1) -> str:
    """Nested lists, a row of numbers a line."""
    if array.ndim < 2 or array.size == 0:
        return repr(array.tolist())
    pad, end = "    " * depth, "    " * (depth - 1)
    return "[\n" + "".join(f"{pad}{literal(row, depth + 1)},\n" for row in array) + f"{end}]"


SPLIT = "loss, gradients = returned if type(returned) is tuple else (returned, {})"
AS_DICT = 'gradients = gradients._asdict() if hasattr(gradients, "_asdict") else gradients'


def asking(library: Library, call: ast.Call, output: str) -> str:
    """The call, and `output` from what it returns: the loss, or a gradient, returned or found by the library."""
    logs = {"torch": "torch.log", "jnp": "jnp.log"}.get(library.module, "math.log")
    lines = [f"log = {logs if output == 'temperature' else 'math.log'}"] if "log" in names_in(call) else []
    words = ast.unparse(call)
    if output == "loss":
        return "\n".join([*lines, f"returned = {words}", SPLIT, "output = loss"])
    theirs = next((w.arg for w in call.keywords if w.arg and ast.unparse(w.value) == output), output)
    get = f'gradients["{output}"]' if theirs == output else f'gradients.get("{output}", gradients.get("{theirs}"))'
    if library.module == "torch":
        lines += [f"{output}.requires_grad_()", f"returned = {words}", SPLIT, AS_DICT]
        by_torch = f"torch.autograd.grad(loss.sum(), {output})[0]"
        return "\n".join([*lines, f"output = {get} if gradients else {by_torch}"])
    if library.module == "jnp":
        inside = [f"returned = {words}", SPLIT, AS_DICT, "return jnp.sum(loss), gradients"]
        lines += [f"def total({output}):", *(f"    {line}" for line in inside), ""]
        lines += ["", f"derivative, gradients = jax.grad(total, has_aux=True)({output})"]
        return "\n".join([*lines, f"output = {get} if gradients else derivative"])
    lines += [f"function = {ast.unparse(call.func)}", 'function = getattr(function, "value_and_grad", function)']
    call = ast.Call(ast.Name("function"), call.args, call.keywords)
    return "\n".join([*lines, f"returned = {ast.unparse(call)}", SPLIT, AS_DICT, f"output = {get}"])


def comparison(line: Line, question: Question, output: str) -> str:
    """What is expected of `output`, what came, and whether they agree: the exit code."""
    if question.expect == "refused":
        return 'print(f"accepted, and returned {output}: this input must be refused")\nsys.exit(1)'
    worst = line.get("worst", {})
    expected, bound = str(worst.get("expected", "")), str(worst.get("bound", ""))
    index = ", ".join(str(int(i)) for i in worst.get("index", ()))
    entry = f"float(output[{index}])" if index else "float(output)"
    if NUMBER.fullmatch(expected) and NUMBER.fullmatch(bound):
        return COMPARED.format(entry=entry, expected=expected, bound=bound)
    if expected:
        return f"got = {entry}\n{NOT_FINITE}"
    shape = question.shapes.get(output, ())
    return f'print(f"{{output!r}}, where shape {shape} is expected")\nsys.exit(tuple(output.shape) != {shape})'


COMPARED = """\
got, expected, bound = {entry}, Decimal("{expected}"), Decimal("{bound}")
error = abs(Decimal(got) - expected) if math.isfinite(got) else Decimal("inf")
r = error / bound if bound else error * Decimal("inf") if error else 0
print(f"expected  {{expected}}\\ngot       {{got!r}}\\nbound     {{bound}}   r = {{float(r):.3g}}")
sys.exit(r > 1)"""
NOT_FINITE = """\
print(f"got       {got!r}, where NaN or an infinity is expected")
sys.exit(math.isfinite(got))"""
