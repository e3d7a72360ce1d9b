"""infonce-conformance init: what a repository needs to be judged: an adapter, a CI workflow, known failures."""

from __future__ import annotations

import argparse
import ast
import contextlib
import textwrap
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import infonce_ref
from infonce_ref.conformance.adapters.declare import READINGS
from infonce_ref.conformance.adapters.resolve import roles_of
from infonce_ref.conformance.commands.run import add_renaming, opened
from infonce_ref.conformance.family import LOSSES
from infonce_ref.conformance.known import DEFAULT_FILE, KnownFailures
from infonce_ref.conformance.results import Exit, Usage
from infonce_ref.conformance.run import Options, runner_for

ADAPTER, WORKFLOW = "infonce_adapter.py", ".github/workflows/infonce-conformance.yml"
# What to install beside the suite, what an adapter imports, and how it takes the logarithm of a number or an array.
INSTALL = {"numpy": "", "torch": " torch", "jax": " jax"}
LOGARITHM = {
    "numpy": ("import numpy as np", "np.log(1 / temperature)"),
    "torch": ("import torch", "-torch.as_tensor(temperature).log()"),
    "jax": ("import jax.numpy as jnp", "-jnp.log(temperature)"),
}


def add_parser(commands: Any) -> None:
    begin = commands.add_parser(
        "init",
        help="write an adapter, a CI workflow and a file of known failures",
        description="Write an adapter, a CI workflow and a file of known failures.",
    )
    begin.add_argument(
        "folder", metavar="DIR", nargs="?", type=Path, default=Path(), help="default: the current folder"
    )
    begin.add_argument("--target", metavar="PKG.MOD:ATTR", help="the loss; without it, a textbook's, to be replaced")
    begin.add_argument("--framework", choices=tuple(INSTALL), default="numpy", help="default: %(default)s")
    begin.add_argument("--loss", default="info_nce", help="default: %(default)s")
    begin.add_argument("--reading", choices=READINGS, help="how the target reads explicit negatives")
    add_renaming(begin)
    begin.add_argument("--force", action="store_true", help="overwrite what is there (but no known failures)")
    begin.set_defaults(function=init_command)


def init_command(arguments: argparse.Namespace) -> int:
    """Write the three files, and say what to type next."""
    folder: Path = arguments.folder
    content = {
        folder / ADAPTER: adapter_for(arguments),
        folder / WORKFLOW: workflow_for(arguments),
        folder / DEFAULT_FILE: str(template(DEFAULT_FILE.removeprefix("infonce-")).template),
    }
    there = [path for path in content if path.exists()]
    if there and not arguments.force:
        raise Usage(f"{there[0]} is there already: --force overwrites it")
    for path, text in content.items():
        if path.name == DEFAULT_FILE and path.exists() and KnownFailures.load(path).entries:
            print(f"kept   {path}: it has entries")
            continue
        write(path, text)
        print(f"wrote  {path}")
    within = "" if folder == Path() else f"cd {folder} && "
    loss = "" if arguments.loss == "info_nce" else f" --loss {arguments.loss}"
    print(f"next:  {within}infonce-conformance run infonce_adapter:ours{loss}")
    return Exit.CONFORMS


def write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Usage(f"can't make {path.parent}: {error.strerror}") from error
    with opened(path) as stream:
        stream.write(text)


def template(name: str) -> Template:
    place = files("infonce_ref.conformance.commands").joinpath("templates").joinpath(name)
    return Template(place.read_text(encoding="utf-8"))


def workflow_for(arguments: argparse.Namespace) -> str:
    """A job that installs what is needed, judges, and keeps the reports."""
    suite = f"infonce-ref[conformance]=={infonce_ref.__version__}"
    return template("workflow.yml").substitute(
        requirements=INSTALL[arguments.framework], suite=suite, loss=arguments.loss
    )


def adapter_for(arguments: argparse.Namespace) -> str:
    """An adapter that calls the target as the suite has understood it, or else the textbook's loss."""
    if arguments.target is None:
        if arguments.loss != "info_nce":
            raise Usage(f"say which function computes {arguments.loss}: --target PKG.MOD:ATTR")
        return str(template(f"textbook-{arguments.framework}.txt").template)
    module, _, attribute = arguments.target.partition(":")
    call = resolved(arguments)
    roles = {node.id for node in ast.walk(ast.parse(call, mode="eval")) if isinstance(node, ast.Name)}
    imports = [f"import {module}", "from infonce_ref.conformance import adapter"]
    needed, logarithm = LOGARITHM[arguments.framework]
    if "log(1/temperature)" in call:
        call, imports = call.replace("log(1/temperature)", logarithm), [needed, *imports]
    call = call.replace("1/temperature", "1 / temperature")
    return template("adapter.txt").substitute(
        imports="\n".join(imports),
        loss=arguments.loss,
        framework=arguments.framework,
        declared=f', readings=("{arguments.reading}",)' if arguments.reading else "",
        signature=wrapped("def ours({}): ...", signature(arguments.loss, roles), 8),
        call=wrapped("{}", f"{module}.{attribute.rpartition('.')[0]}{'.' if '.' in attribute else ''}{call}", 8),
    )


def wrapped(around: str, text: str, indent: int) -> str:
    """`text` in lines, if it is long and still the same Python where it stands."""
    lines = f"\n{' ' * indent}".join(textwrap.wrap(text, 100, break_long_words=False, break_on_hyphens=False))
    with contextlib.suppress(SyntaxError):
        if ast.dump(ast.parse(around.format(lines))) == ast.dump(ast.parse(around.format(text))):
            return lines
    return text


def resolved(arguments: argparse.Namespace) -> str:
    """The call of the target, as an expression; Unusable where the target can't be found or told."""
    options = Options(
        loss=arguments.loss,
        framework=arguments.framework,
        reading=arguments.reading,
        map=dict(arguments.map),
        const=dict(arguments.const),
    )
    if not arguments.folder.is_dir():
        raise Usage(f"{arguments.folder} is no folder: the target is looked for in it")
    with contextlib.chdir(arguments.folder):
        runner = runner_for(arguments.target, options)
        try:
            call = str(runner.start()["resolved"])
        finally:
            runner.close()
    dotted = arguments.target.partition(":")[2]
    return f"{dotted.rpartition('.')[2]}{call.removeprefix(dotted)}"


def known_roles(loss: str) -> tuple[str, ...]:
    """The names that stand for the suite's arguments in a resolved call."""
    return tuple(role for role in roles_of(loss) if role not in ("scale", "log_scale"))


def signature(loss: str, roles: set[str]) -> str:
    """The adapter's parameters: what every call has first, the rest by name, with the defaults of the definition."""
    first = [name for name in LOSSES[loss].arrays if name in roles]
    usual = defaults(loss)
    rest = [
        name if name not in usual else f"{name}={usual[name]!r}"
        for name in known_roles(loss)
        if name in roles - {*first}
    ]
    return ", ".join([*first, "*", *sorted(rest, key=lambda text: "=" in text)] if rest else first)


def defaults(loss: str) -> Mapping[str, Any]:
    """Of the arguments that a call may lack."""
    known = LOSSES[loss]
    similarity = {"similarity": known.similarities[0]} if known.similarities else {}
    usual = {"in_batch_negatives": True, "margin": 0.0, "reduction": "mean"}
    return {**dict.fromkeys(known.optional), **known.options, **similarity, **usual}
