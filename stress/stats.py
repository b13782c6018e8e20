"""Exact intervals for rates of rare events. Standard library only; exact up to 1e13 trials and 1e9 events.

Every bound is the root of a binomial or Poisson tail. A tail is its largest term times a sum of ratios of
positive terms: nothing cancels, and the largest term is taken in Loader's saddle-point form, which never
subtracts two large logarithms. The logarithm of the tail is concave in the parameter, so Newton's method
converges from either side.

**Source**: F. Garwood, Biometrika 28 (1936); C. Clopper and E. Pearson, Biometrika 26 (1934); C. Loader,
"Fast and accurate computation of binomial probabilities" (2000).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

Tail = Callable[[float], tuple[float, float]]
"""Parameter -> logarithm of a tail probability, and its derivative."""

_STIRLING_FROM = 16  # from here on the series below is right to 1e-14
_SMALLEST_TERM = 1e-17  # of the sum so far: below half an ulp
_MANY = 10**8  # from here on Wilson and Hilferty's formula is right to 1e-13, and the sums below grow long
_LARGE = 10**7  # from here on, on either side, Cornish and Fisher's expansion is right to 1e-12
_CLOSE = 1e-10  # relative: Newton squares it, so the step taken last is exact


def poisson_interval(events: int, exposure: float = 1.0, confidence: float = 0.95) -> tuple[float, float]:
    """Return the two-sided Garwood interval (low, high) of the rate: events per unit of `exposure`.

    `exposure` is in any unit (seconds, executions), > 0; `confidence` in (0, 1).

    Raises:
        ValueError: an argument is out of range.
    """
    _check(events, confidence)
    if not (exposure > 0 and math.isfinite(exposure)):
        raise ValueError(f"exposure must be finite and > 0, not {exposure}")
    alpha = (1 - confidence) / 2
    return _poisson_low(events, alpha) / exposure, _poisson_high(events, alpha) / exposure


def binomial_interval(events: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the two-sided Clopper-Pearson interval (low, high) of the probability per trial.

    0 trials exclude nothing: (0, 1).

    Raises:
        ValueError: `events` is not in 0..`trials`, or `confidence` not in (0, 1).
    """
    _check(events, confidence, trials)
    alpha = (1 - confidence) / 2
    return _binomial_low(events, trials, alpha), _binomial_high(events, trials, alpha)


def upper_bound_95(events: int, trials: int) -> float:
    """Return the one-sided 95 % Clopper-Pearson upper bound of the probability per trial, in [0, 1].

    One-sided, so that 0 of n gives 3.0/n (the two-sided interval would end at 3.7/n). 0 trials exclude
    nothing: 1.0. Executions within one start share alignment and phase and are not independent: the bound
    speaks of executions like the ones made, and restarts are what widens that.

    Raises:
        ValueError: `events` is not in 0..`trials`.
    """
    _check(events, 0.95, trials)
    return _binomial_high(events, trials, 0.05)


def rise_p(before: tuple[int, int | float], after: tuple[int, int | float], factor: float = 1.0) -> float:
    """Return how likely at least so many of all events fell into `after`, had its rate been `factor` times the other's.

    Each side is (events, exposure > 0), the exposure in executions or seconds. The test is exact: given their sum, the
    events of one of two Poisson processes are binomial, and neither rate needs to be known. `factor` >= 1: a p that is
    small says that the rate rose by more than that. Without events there is nothing to test: 1.

    **Source**: J. Przyborowski and H. Wilenski, Biometrika 31 (1940).

    Raises:
        ValueError: an argument is out of range.
    """
    (few, short), (many, long) = before, after
    if min(few, many) < 0 or not (short > 0 and long > 0) or not 1 <= factor < math.inf:
        raise ValueError(
            f"events must be >= 0, exposures > 0 and factor >= 1, not {before}, {after}, {factor}"
        )
    n, p = few + many, factor * long / (short + factor * long)
    if many == 0 or p >= 1:
        return 1.0
    if few == 0:
        return p**n
    if many > n * p:  # above the mean the terms fall
        total = _sum_ratios(few, -1, many + 1, 1, p / (1 - p))
        return math.exp(min(0.0, _log_binomial(many, n, p) + math.log(total)))
    if many == 1:
        return -math.expm1(n * math.log1p(-p))
    below = _sum_ratios(many - 1, -1, few + 2, 1, (1 - p) / p)
    return -math.expm1(min(0.0, _log_binomial(many - 1, n, p) + math.log(below)))


def rate_text(events: int, trials: int) -> str:
    """Return the rate per trial (`1.2e-4`), or the bound where nothing was seen (`<3.0e-9`), or `-`."""
    if trials == 0:
        return "-"
    if events == 0:
        return f"<{short_rate(upper_bound_95(0, trials))}"
    return short_rate(events / trials)


def short_rate(rate: float) -> str:
    """Return a rate with two digits and as short an exponent as can be: `1.2e-4`."""
    mantissa, exponent = f"{rate:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def _check(events: int, confidence: float, trials: int | None = None) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie in (0, 1), not {confidence}")
    if events < 0 or (trials is not None and events > trials):
        raise ValueError(f"events must lie in 0..trials, not {events} of {trials}")


def _bracket(k: int, alpha: float) -> tuple[float, float]:
    """Return means between which both bounds of `k` > 0 events lie, by Chernoff; `alpha` <= 1/2."""
    nats = -math.log(alpha)
    few = math.exp((math.lgamma(k + 1) - nats) / k)  # P(X >= k) <= mean^k / k!
    return max(few, k - math.sqrt(2 * k * nats)), k + nats + math.sqrt(nats * nats + 2 * k * nats)


def _guess(k: int, z: float, low: float, high: float) -> float:
    """Return about the mean of which `k` is the quantile `z` (Wilson and Hilferty), inside the bracket."""
    cube_root = 1 - 1 / (9 * k) + z / (3 * math.sqrt(k))
    return min(max(k * cube_root**3, low), high)


def _z(alpha: float) -> float:
    return -NormalDist().inv_cdf(alpha)


def _poisson_low(k: int, alpha: float) -> float:
    if k == 0:
        return 0.0

    def at_least_k(mean: float) -> tuple[float, float]:
        total = _sum_ratios(mean, 0, k + 1, 1)
        return _log_poisson(k, mean) + math.log(total), k / (mean * total)

    low, _ = _bracket(k, alpha)
    guess = _guess(k, -_z(alpha), low, k)
    return guess if k >= _MANY else _solve(at_least_k, math.log(alpha), low, k, guess)


def _poisson_high(k: int, alpha: float) -> float:
    if k == 0:
        return -math.log(alpha)

    def at_most_k(mean: float) -> tuple[float, float]:
        total = _sum_ratios(k, -1, mean, 0)
        return _log_poisson(k, mean) + math.log(total), -1 / total

    _, high = _bracket(k, alpha)
    guess = _guess(k + 1, _z(alpha), k, high)
    return guess if k >= _MANY else _solve(at_most_k, math.log(alpha), k, high, guess)


def _binomial_low(k: int, n: int, alpha: float) -> float:
    if k == 0:
        return 0.0
    if k == n:
        return math.exp(math.log(alpha) / n)
    if min(k, n - k) >= _LARGE:
        return _beta(k, n - k + 1, -_z(alpha))

    def at_least_k(p: float) -> tuple[float, float]:
        total = _sum_ratios(n - k, -1, k + 1, 1, p / (1 - p))
        return _log_binomial(k, n, p) + math.log(total), k / (p * total)

    low, _ = _bracket(k, alpha)
    start = _guess(k, -_z(alpha) * math.sqrt(1 - k / n), low, k)
    return _solve(at_least_k, math.log(alpha), low / n, k / n, start / n)


def _binomial_high(k: int, n: int, alpha: float) -> float:
    if k == n:
        return 1.0
    if k == 0:
        return -math.expm1(math.log(alpha) / n)
    if min(k, n - k) >= _LARGE:
        return _beta(k + 1, n - k, _z(alpha))

    def at_most_k(p: float) -> tuple[float, float]:
        total = _sum_ratios(k, -1, n - k + 1, 1, (1 - p) / p)
        return _log_binomial(k, n, p) + math.log(total), -(n - k) / ((1 - p) * total)

    high = min(_bracket(k, alpha)[1], n)
    # Halfway from k/n to 1 at most: at 1 itself the tail is 0 and has no logarithm.
    start = _guess(k + 1, _z(alpha) * math.sqrt(1 - k / n), k, min(high, (k + n) / 2))
    return _solve(at_most_k, math.log(alpha), k / n, high / n, start / n)


def _beta(a: int, b: int, z: float) -> float:
    """Return the quantile of Beta(a, b) at `z` standard deviations of a normal one (Cornish and Fisher), both large."""
    n = a + b
    skew = 2 * (b - a) * math.sqrt(n + 1) / ((n + 2) * math.sqrt(a * b))
    excess = 6 * ((a - b) ** 2 * (n + 1) - a * b * (n + 2)) / (a * b * (n + 2) * (n + 3))
    bent = z + skew * (z * z - 1) / 6 + excess * (z**3 - 3 * z) / 24 - skew * skew * (2 * z**3 - 5 * z) / 36
    return a / n + math.sqrt(a * b / (n + 1)) / n * bent


def _solve(tail: Tail, target: float, low: float, high: float, start: float) -> float:
    """Return where between `low` and `high` `tail` is `target`: by Newton, by halving where a step leaves."""
    at = start
    for _ in range(200):
        value, slope = tail(at)
        if (value - target) * slope > 0:
            high = at
        else:
            low = at
        step = at - (value - target) / slope
        if abs(step - at) <= _CLOSE * at:
            return step
        at = step if low < step < high else (low + high) / 2
    raise ArithmeticError(f"no root between {low} and {high}: a bug in stress.stats")


def _sum_ratios(top: float, top_step: int, bottom: float, bottom_step: int, factor: float = 1.0) -> float:
    """Return 1 + r0 + r0 r1 + r0 r1 r2 ..., where r is `factor` times `top` / `bottom`, which step each time.

    The ratios fall, and about 7 sqrt(events) of the terms matter.
    """
    total = term = 1.0
    while term > _SMALLEST_TERM * total:
        term *= factor * top / bottom
        total += term
        top += top_step
        bottom += bottom_step
    return total


def _stirling_error(n: int) -> float:
    """Return log(n!) - log(sqrt(2 pi n) (n/e)^n), n > 0."""
    if n < _STIRLING_FROM:
        return math.lgamma(n + 1) - (n + 0.5) * math.log(n) + n - 0.5 * math.log(2 * math.pi)
    square = n * n
    return (1 / 12 - (1 / 360 - (1 / 1260 - 1 / 1680 / square) / square) / square) / n


def _deviance(count: int, difference: float) -> float:
    """Return count log(count / mean) + mean - count, where `difference` is mean - count."""
    return difference - count * math.log1p(difference / count)


def _log_poisson(k: int, mean: float) -> float:
    return -_stirling_error(k) - _deviance(k, mean - k) - 0.5 * math.log(2 * math.pi * k)


def _log_binomial(k: int, n: int, p: float) -> float:
    """Return log P(X = k), 0 < k < n."""
    rest = n - k
    excess = n * p - k
    corrections = _stirling_error(n) - _stirling_error(k) - _stirling_error(rest)
    spread = 0.5 * (math.log(n / k) - math.log(2 * math.pi * rest))
    return corrections - _deviance(k, excess) - _deviance(rest, -excess) + spread
