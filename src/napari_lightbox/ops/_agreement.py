"""Agreement of raters and of measurements, and how sure a mean over few cases is."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from ..errors import InputError
from . import _check

_WEIGHTS = ("none", "linear", "quadratic")
_KINDS = ("single", "average")


class BlandAltman(NamedTuple):
    """Differences of two measurements: their mean, their spread, and where 95 % of them are expected.

    Parameters
    ----------
    bias, sd : float
        Mean and standard deviation of first minus second.
    low, high : float
        Limits of agreement.
    bias_interval, low_interval, high_interval : tuple of float
        95 % confidence intervals.
    """

    bias: float
    sd: float
    low: float
    high: float
    bias_interval: tuple[float, float]
    low_interval: tuple[float, float]
    high_interval: tuple[float, float]


class Interval(NamedTuple):
    """A value with its confidence interval."""

    value: float
    low: float
    high: float


def cohen_kappa(first: np.ndarray, second: np.ndarray, weights: str = "none") -> float:
    """Return Cohen's kappa: agreement of two raters beyond chance.

    Parameters
    ----------
    first, second : ndarray
        Categories, whole numbers, of the same shape: labels of voxels, or grades of cases.
    weights : {"none", "linear", "quadratic"}
        How much a disagreement counts: all alike, or by the distance (squared) of the places of the categories in
        their order.

    Returns
    -------
    float
        1 for full agreement, 0 for that of chance. NaN where both always say the same one thing.

    Raises
    ------
    InputError
        If the shapes differ, an array holds no whole numbers, or the weights are unknown.

    References
    ----------
    J. Cohen, A coefficient of agreement for nominal scales, Educational and Psychological Measurement 20, 1960;
    weighted: Psychological Bulletin 70, 1968.

    Examples
    --------
    >>> round(cohen_kappa(np.array([1, 1, 0, 0]), np.array([1, 0, 0, 0])), 3)
    0.5
    """
    first, second = _check.labels(first, "first"), _check.labels(second, "second")
    _check.same_shape(first, second, ("first", "second"))
    _check.choice(weights, _WEIGHTS, "weights")
    names = np.union1d(first, second)
    count = len(names)
    places = np.searchsorted(names, first.ravel()) * count + np.searchsorted(names, second.ravel())
    table = np.bincount(places, minlength=count * count).reshape(count, count) / first.size
    distance = np.abs(np.subtract.outer(np.arange(count), np.arange(count))).astype(float)
    cost = {"none": (distance > 0).astype(float), "linear": distance, "quadratic": distance**2}[weights]
    chance = float((cost * np.outer(table.sum(axis=1), table.sum(axis=0))).sum())
    return 1 - float((cost * table).sum()) / chance if chance else float("nan")


def bland_altman(first: Sequence[float], second: Sequence[float]) -> BlandAltman:
    """Return bias and limits of agreement of two ways to measure the same things.

    Parameters
    ----------
    first, second : sequence of float
        One number a case, in the same order; at least three.

    Returns
    -------
    BlandAltman

    Raises
    ------
    InputError
        If the lengths differ, there are fewer than three cases, or a number is not finite.

    References
    ----------
    J. M. Bland and D. G. Altman, Statistical methods for assessing agreement between two methods of clinical
    measurement, Lancet 327, 1986.

    Examples
    --------
    >>> found = bland_altman([10.0, 12.0, 15.0], [9.0, 12.0, 13.0])
    >>> found.bias, found.sd, round(found.high, 2)
    (1.0, 1.0, 2.96)
    """
    first, second = _cases(first, "first"), _cases(second, "second")
    if len(first) != len(second):
        raise InputError(f"first has {len(first)} cases and second {len(second)}: give a number of both for each case")
    difference = first - second
    n, bias, sd = len(difference), float(difference.mean()), float(difference.std(ddof=1))
    t = float(stats.t.ppf(0.975, n - 1))
    by_bias, by_limit = t * sd / np.sqrt(n), t * sd * np.sqrt(1 / n + 1.96**2 / (2 * (n - 1)))
    low, high = bias - 1.96 * sd, bias + 1.96 * sd

    def around(value: float, by: float) -> tuple[float, float]:
        return float(value - by), float(value + by)

    return BlandAltman(bias, sd, low, high, around(bias, by_bias), around(low, by_limit), around(high, by_limit))


def icc(ratings: Sequence[Sequence[float]], model: int = 2, kind: str = "single") -> float:
    """Return an intraclass correlation coefficient.

    Parameters
    ----------
    ratings : (cases, raters) array_like
        Numbers.
    model : {1, 2, 3}
        1: every case has raters of its own; 2: the same raters, drawn from many, whose levels matter (agreement); 3:
        just these raters, whose levels do not (consistency).
    kind : {"single", "average"}
        Of one rater's number, or of the mean of all.

    Returns
    -------
    float
        1 for no differences but those of the cases; NaN where nothing differs at all.

    Raises
    ------
    InputError
        If there are fewer than two cases or raters, a number is not finite, or the model or kind is unknown.

    References
    ----------
    P. E. Shrout and J. L. Fleiss, Intraclass correlations: uses in assessing rater reliability, Psychological
    Bulletin 86, 1979.

    Examples
    --------
    >>> round(icc([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]), 2)
    0.29
    """
    try:
        table = np.asarray(ratings, float)
    except (TypeError, ValueError):
        raise InputError("ratings must be numbers, one row a case, all rows of one length") from None
    if table.ndim != 2 or min(table.shape) < 2 or not np.isfinite(table).all():
        raise InputError(f"ratings must be finite numbers, two cases and two raters or more, not {table.shape}")
    _check.choice(model, (1, 2, 3), "model")
    _check.choice(kind, _KINDS, "kind")
    if (table == table[0, 0]).all():
        return float("nan")
    n, k = table.shape
    mean = table.mean()
    between = k * ((table.mean(axis=1) - mean) ** 2).sum() / (n - 1)
    raters = n * ((table.mean(axis=0) - mean) ** 2).sum() / (k - 1)
    within = ((table - table.mean(axis=1, keepdims=True)) ** 2).sum() / (n * (k - 1))
    rest = (within * n * (k - 1) - raters * (k - 1)) / ((n - 1) * (k - 1))
    noise = within if model == 1 else rest
    by_raters = k * (raters - rest) / n if model == 2 else 0.0
    whole = between + (k - 1) * noise + by_raters if kind == "single" else between + by_raters / k
    # What rounding leaves of nothing is nothing.
    return float((between - noise) / whole) if abs(whole) > 1e-12 * (table**2).mean() else float("nan")


def bootstrap(
    values: Sequence[float],
    statistic: Callable[..., Any] = np.mean,
    *,
    confidence: float = 0.95,
    repeats: int = 9999,
    seed: int = 0,
) -> Interval:
    """Return a statistic of some cases with its confidence interval, from drawing cases again and again.

    Parameters
    ----------
    values : sequence of float
        One number a case, at least three; NaN ("does not apply") is left out.
    statistic : callable
        Takes an array and an ``axis``, as ``numpy.mean`` and ``numpy.median`` do.
    confidence : float
        Between 0 and 1.
    repeats : int
        How often cases are drawn.
    seed : int
        The same seed gives the same interval.

    Returns
    -------
    Interval
        The percentile interval.

    Raises
    ------
    InputError
        If fewer than three numbers are left, one is infinite, or the confidence lies outside 0 to 1.

    References
    ----------
    B. Efron and R. J. Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.

    Examples
    --------
    >>> found = bootstrap([0.9, 0.8, 0.85, 0.95, 0.7], seed=1)
    >>> round(found.value, 2), bool(found.low < found.value < found.high)
    (0.84, True)
    """
    values = [v for v in np.ravel(values).tolist() if v == v]
    values = _cases(values, "values")
    share, repeats = _check.number(confidence, "confidence", above=0), _check.whole(repeats, "repeats")
    if share >= 1:
        raise InputError(f"confidence must be below 1, not {confidence!r}: 0.95 is usual")
    rng = np.random.default_rng(seed)
    drawn = np.concatenate([
        statistic(values[rng.integers(0, len(values), (part, len(values)))], axis=1)
        for part in _parts(repeats, max(1, (1 << 22) // len(values)))
    ])  # fmt: skip
    low, high = np.quantile(drawn, [(1 - share) / 2, (1 + share) / 2])
    return Interval(float(statistic(values, axis=0)), float(low), float(high))


def compare_paired(first: Sequence[float], second: Sequence[float], *, seed: int = 0) -> dict[str, float]:
    """Compare two models over the same cases.

    Parameters
    ----------
    first, second : sequence of float
        One score a case, in the same order; cases in which either is NaN are left out.
    seed : int
        Of the bootstrap.

    Returns
    -------
    dict
        ``cases``, ``difference`` (mean of second minus first), ``low`` and ``high`` (95 % interval by paired
        bootstrap; NaN, like the mean, where one of the two has an infinite distance), ``better`` and ``worse`` (cases
        in which the second has more, or less), and ``p``, two-sided, of Wilcoxon's signed-rank test; 1 where nothing
        differs.

    Raises
    ------
    InputError
        If the lengths differ, or fewer than three cases are left.

    References
    ----------
    F. Wilcoxon, Individual comparisons by ranking methods, Biometrics Bulletin 1, 1945.

    Examples
    --------
    >>> compare_paired([0.7, 0.8, 0.9], [0.8, 0.9, 0.95])["better"]
    3
    """
    first, second = np.asarray(first, float).ravel(), np.asarray(second, float).ravel()
    if len(first) != len(second):
        raise InputError(f"first has {len(first)} cases and second {len(second)}: give a score of both for each case")
    applies = ~np.isnan(first) & ~np.isnan(second)
    first, second = first[applies], second[applies]
    # Two infinite distances do not differ.
    difference = np.subtract(second, first, out=np.zeros(len(first)), where=first != second)
    if len(difference) < 3:
        raise InputError(f"{len(difference)} cases have a score of both, and three are needed: give more cases")
    nothing = Interval(float("nan"), float("nan"), float("nan"))
    found = bootstrap(difference, seed=seed) if np.isfinite(difference).all() else nothing
    # Only the order of the differences counts for the test.
    largest = np.abs(difference[np.isfinite(difference)]).max(initial=0)
    ranked = np.clip(difference, -2 * largest - 1, 2 * largest + 1)
    p = float(stats.wilcoxon(ranked).pvalue) if ranked.any() else 1.0
    return {
        "cases": len(difference),
        "difference": found.value,
        "low": found.low,
        "high": found.high,
        "better": int((difference > 0).sum()),
        "worse": int((difference < 0).sum()),
        "p": p,
    }


def _cases(values, name: str) -> np.ndarray:
    try:
        values = np.asarray(values, float).ravel()
    except (TypeError, ValueError):
        raise InputError(f"{name} must be numbers, one a case") from None
    if len(values) < 3:
        raise InputError(f"{name} must be numbers of three cases or more, not {len(values)}")
    if not np.isfinite(values).all():
        raise InputError(f"{name} hold a number that is not finite: leave that case out, or count it apart")
    return values


def _parts(total: int, step: int) -> list[int]:
    return [min(step, total - start) for start in range(0, total, step)]
