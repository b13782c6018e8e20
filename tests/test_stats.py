"""Exact intervals, held against scipy where scipy holds, and against 60-digit sums of the tails where it
does not.

scipy 1.17 is off by 1e-8 at 999 of 10^6, by 0.3 % at 999 of 10^9, and by 140 times at 999 of 10^13.
"""

from __future__ import annotations

import math
import time
from decimal import Decimal, localcontext

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from scipy.special import bdtr, gammaincc

from stress import stats
from stress.stats import binomial_interval, poisson_interval, rate_text, upper_bound_95

EVENTS = [0, 1, 2, 3, 7, 50, 999, 10_000, 1_000_000, 1_000_000_000]


def binomial_at_most(events: int, trials: int, p: float) -> Decimal:
    """Return P(X <= events), summed term by term with 60 digits."""
    with localcontext(prec=60):
        chance = Decimal(p)
        term = ((1 - chance).ln() * trials).exp()
        total = term
        for j in range(events):
            term *= Decimal(trials - j) / (j + 1) * chance / (1 - chance)
            total += term
        return total


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.999])
@pytest.mark.parametrize("events", EVENTS)
def test_poisson_interval_equals_garwood_by_scipy(events: int, confidence: float) -> None:
    alpha = (1 - confidence) / 2
    low, high = poisson_interval(events, confidence=confidence)
    assert low == pytest.approx(scipy_stats.chi2.ppf(alpha, 2 * events) / 2 if events else 0, rel=1e-9)
    assert high == pytest.approx(scipy_stats.chi2.isf(alpha, 2 * events + 2) / 2, rel=1e-9)


@pytest.mark.parametrize("trials", [1, 2, 10, 1000, 10**6])
@pytest.mark.parametrize("events", EVENTS)
def test_binomial_interval_equals_clopper_pearson_by_scipy(events: int, trials: int) -> None:
    events = min(events, trials)
    low, high = binomial_interval(events, trials)
    rest = trials - events
    assert low == pytest.approx(scipy_stats.beta.ppf(0.025, events, rest + 1) if events else 0, rel=1e-7)
    assert high == pytest.approx(scipy_stats.beta.ppf(0.975, events + 1, rest) if rest else 1, rel=1e-7)


@pytest.mark.parametrize("trials", [20_000, 10**6, 10**9, 10**13])
@pytest.mark.parametrize("events", [1, 3, 999, 10_000])
def test_binomial_interval_puts_exactly_its_share_in_both_tails(events: int, trials: int) -> None:
    low, high = binomial_interval(events, trials)
    assert float(binomial_at_most(events, trials, high)) == pytest.approx(0.025, rel=1e-11)
    assert float(1 - binomial_at_most(events - 1, trials, low)) == pytest.approx(0.025, rel=1e-11)


@pytest.mark.parametrize("trials", [2, 3, 100, 10**6, 10**13])
def test_all_but_one_is_the_mirror_of_one(trials: int) -> None:
    low, high = binomial_interval(trials - 1, trials)
    mirrored_low, mirrored_high = binomial_interval(1, trials)
    assert (1 - low, 1 - high) == pytest.approx((mirrored_high, mirrored_low), rel=1e-6, abs=2e-13)


def test_a_rare_binomial_is_a_poisson() -> None:
    binomial, poisson = binomial_interval(10**9, 10**13), poisson_interval(10**9, 1e13)
    assert binomial == pytest.approx(poisson, rel=1e-8)


@settings(deadline=None)
@given(st.integers(1, 3000), st.integers(1, 3000))
def test_the_bound_puts_exactly_five_percent_in_the_tail(events: int, more: int) -> None:
    trials = events + more
    bound = upper_bound_95(events, trials)
    assert float(bdtr(events, trials, bound)) == pytest.approx(0.05, rel=1e-9)


@settings(deadline=None)
@given(st.integers(0, 100_000))
def test_the_poisson_bound_puts_exactly_its_share_in_the_tail(events: int) -> None:
    _, high = poisson_interval(events, confidence=0.95)
    assert float(gammaincc(events + 1, high)) == pytest.approx(0.025, rel=1e-7)


def test_zero_events_give_the_rule_of_three() -> None:
    assert upper_bound_95(0, 10**9) == pytest.approx(-math.log(0.05) * 1e-9, rel=1e-8)
    assert poisson_interval(0, 1e9)[1] == pytest.approx(3.689e-9, rel=1e-3)
    assert upper_bound_95(0, 10**13) == pytest.approx(2.9957e-13, rel=1e-4)


def test_no_trial_excludes_nothing() -> None:
    assert upper_bound_95(0, 0) == 1.0
    assert binomial_interval(0, 0) == (0.0, 1.0)


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 10**13), st.integers(1, 10**6))
def test_clean_trials_lower_the_bound_and_events_raise_it(events: int, clean: int, more: int) -> None:
    bound = upper_bound_95(events, events + clean)
    assert events / max(1, events + clean) <= bound <= 1
    assert upper_bound_95(events, events + clean + more) <= bound * (1 + 1e-12)
    assert upper_bound_95(events + 1, events + 1 + clean) >= bound * (1 - 1e-12)


@pytest.mark.parametrize("events", [10**8, 10**8 + 7, 10**10, 10**12])
def test_a_great_many_events_are_bounded_as_exactly(events: int) -> None:
    low, high = poisson_interval(events)
    assert low == pytest.approx(scipy_stats.chi2.ppf(0.025, 2 * events) / 2, rel=1e-11)
    assert high == pytest.approx(scipy_stats.chi2.isf(0.025, 2 * events + 2) / 2, rel=1e-11)


def test_large_counts_take_no_noticeable_time() -> None:
    assert poisson_interval(10**12)
    begun = time.process_time()
    for events in range(100):
        upper_bound_95(1_000_000 + events, 10**13)
    assert time.process_time() - begun < 5


@pytest.mark.parametrize(("events", "trials"), [(-1, 5), (6, 5), (1, 0)])
def test_impossible_counts_are_refused(events: int, trials: int) -> None:
    with pytest.raises(ValueError, match="events must lie in"):
        upper_bound_95(events, trials)


@pytest.mark.parametrize("confidence", [0.0, 1.0, math.nan, 2.0])
def test_impossible_confidences_are_refused(confidence: float) -> None:
    with pytest.raises(ValueError, match="confidence"):
        poisson_interval(1, confidence=confidence)


@pytest.mark.parametrize("exposure", [0.0, -1.0, math.inf, math.nan])
def test_impossible_exposures_are_refused(exposure: float) -> None:
    with pytest.raises(ValueError, match="exposure"):
        poisson_interval(1, exposure)


def test_rates_read_as_a_rate_a_bound_or_nothing() -> None:
    assert rate_text(12, 100_000) == "1.2e-4"
    assert rate_text(0, 10**9) == "<3.0e-9"
    assert rate_text(10**13, 10**13) == "1.0e0"
    assert rate_text(0, 0) == "-"


@pytest.mark.parametrize("trials", [2 * 10**7, 3 * 10**7, 10**9, 10**13])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_the_expansion_for_many_events_is_what_the_tails_give(
    monkeypatch: pytest.MonkeyPatch, trials: int, confidence: float
) -> None:
    events = 10**7
    near = stats.binomial_interval(events, trials, confidence)
    monkeypatch.setattr(stats, "_LARGE", trials)
    assert near == pytest.approx(stats.binomial_interval(events, trials, confidence), rel=1e-12)
