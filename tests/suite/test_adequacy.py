"""The suite's own adequacy: every clause is checked twice, and its page says what is there."""

from __future__ import annotations

from tests.suite.adequacy import Evidence, evidence, gaps


def test_every_clause_has_two_independent_checks() -> None:
    """Two vectors, kinds of fresh problems or tests that don't share their input, for each clause."""
    assert gaps(evidence()) == []


def test_a_clause_with_one_check_is_a_gap() -> None:
    """The guard can fail."""
    assert gaps({"one": Evidence(vectors={"a"}), "two": Evidence(vectors={"a"}, tests={"b"})}) == ["one"]
