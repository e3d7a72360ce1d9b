"""infonce-conformance list: losses, profiles, aliases, clauses."""

from __future__ import annotations

import argparse
from typing import Any

from infonce_ref.conformance.adapters.resolve import ALIASES
from infonce_ref.conformance.checks import NAMED, PROFILES, REQUIRED
from infonce_ref.conformance.clauses import sentences
from infonce_ref.conformance.load import losses
from infonce_ref.conformance.results import Exit


def add_parser(commands: Any) -> None:
    tell = commands.add_parser("list", help="losses, profiles, clauses, aliases")
    tell.set_defaults(function=list_command)


def list_command(_: argparse.Namespace) -> int:
    """Print every name that can be typed elsewhere."""
    print("losses\n  " + "\n  ".join(losses()))
    print("\nprofiles")
    for profile, asks in PROFILES.items():
        when = "  (required unless --profile says otherwise)" if profile in REQUIRED else ""
        print(f"  {profile:<17} {asks}{when or ('  (only when named)' if profile in NAMED else '')}")
    print("\naliases: our argument, and the parameter names that are taken for it")
    for role, names in ALIASES.items():
        print(f"  {role:<19} {', '.join(names)}")
    print("\nclauses")
    for clause, sentence in sentences().items():
        print(f"  [{clause}] {sentence}")
    return Exit.CONFORMS
