"""The judge: r = |computed − exact| / B, exactly."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from mpmath import mp, mpf

from infonce_ref.conformance.judge import measure, ratio, shown, two_doubles

THIRD = "3.333333333333333333333333333333333333333e-1"


def of(*values: object) -> dict[str, object]:
    return {"shape": [len(values)], "values": list(values)}


@pytest.mark.parametrize("text", [THIRD, "-2.718281828459045235360287471352662497757e20", "1e-250", "0", "1e308"])
def test_two_doubles_hold_a_decimal_to_1e_32(text: str) -> None:
    """hi + lo is the decimal to 1e-31 relative, more digits than any comparison needs."""
    hi, lo = two_doubles(text)
    exact = Fraction(Decimal(text))
    assert abs(Fraction(hi) + Fraction(lo) - exact) <= abs(exact) * Fraction(1, 10**31)


def test_two_doubles_of_an_mpf_agree_with_those_of_its_decimal() -> None:
    """The oracle's own numbers and the decimals in vectors are held alike."""
    with mp.workdps(60):
        hi, lo = two_doubles(mpf(1) / 3)
    assert (hi, lo) == two_doubles("0." + "3" * 60)


def test_ratio_is_the_error_in_units_of_the_bound() -> None:
    """A number one unit in the last place off by a bound of two units has r = ½, whatever the decimal rounds to."""
    computed = np.array([np.nextafter(1 / 3, 1)])
    error = abs(Fraction(float(computed[0])) - Fraction(Decimal(THIRD)))
    assert ratio(computed, of(THIRD), of("1e-16")) == pytest.approx(float(error / Fraction(1, 10**16)), rel=1e-12)


def test_ratio_sees_an_error_below_the_rounding_of_the_expected_value() -> None:
    """The rounded expected value itself is off by its rounding error, however small the bound."""
    error = abs(Fraction(1 / 3) - Fraction(Decimal(THIRD)))
    assert ratio(np.array([1 / 3]), of(THIRD), of("1e-25")) == pytest.approx(float(error) / 1e-25, rel=1e-9)


def test_the_worst_entry_counts() -> None:
    """One wrong entry among right ones decides, and is named."""
    found = measure(np.array([1.0, 2.5, 3.0]), of("1", "2", "3"), of("0.1", "0.1", "0.1"))
    assert found.index == (1,)
    assert found.r == pytest.approx(5.0)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_infinitely_wrong(wrong: float) -> None:
    """NaN and infinities have r = inf where a finite number is expected."""
    assert ratio(np.array([wrong]), of("1"), of("1e300")) == np.inf


@pytest.mark.parametrize("shape", [(1, 2), (1,), (), (3,)])
def test_another_shape_is_infinitely_wrong(shape: tuple[int, ...]) -> None:
    """Nothing is broadcast."""
    assert ratio(np.ones(shape), of("1", "1"), of("1", "1")) == np.inf


def test_a_value_that_is_null_is_not_compared() -> None:
    """Vectors leave out what a NaN in the input spoils."""
    assert ratio(np.array([np.nan, 1.0]), of(None, "1"), of(None, "1e-9")) == 0.0


def test_infinity_is_right_where_the_format_overflows() -> None:
    """7e4 is beyond float16: +inf is right there, −inf isn't, and in float32 it isn't either."""
    expected, bound = of("7e4"), of("10")
    assert measure(np.array([np.inf]), expected, bound, "float16").r == 0.0
    assert measure(np.array([-np.inf]), expected, bound, "float16").r == np.inf
    assert measure(np.array([np.inf]), expected, bound, "float32").r == np.inf


def test_subnormal_numbers_are_judged_exactly() -> None:
    """Below 1e-280 the second double underflows; fractions take over: 0 for 2e-324 is 0.4 of the smallest subnormal."""
    tiny = 2.0**-1074
    got = ratio(np.array([0.0]), of("2e-324"), of(repr(tiny)))
    assert got == pytest.approx(float(Fraction(Decimal("2e-324")) / Fraction(tiny)))


def test_slack_widens_every_bound() -> None:
    """A device that flushes subnormal numbers is given the smallest normal one."""
    assert measure(np.array([0.0]), of("1e-39"), of("1e-45"), "float32").r > 1
    assert measure(np.array([0.0]), of("1e-39"), of("1e-45"), "float32", slack=1.2e-38).r < 1


def test_exact_numbers_are_shown_with_twenty_digits() -> None:
    """What people compare by eye."""
    assert shown(THIRD) == "0.33333333333333333333"
