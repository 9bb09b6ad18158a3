"""E-values for two streams of rare events, in log space (nats), with plain floats.

An *e-value* for a hypothesis is a non-negative number whose expectation is at most 1 when the hypothesis is
true. Multiplied over intervals it is an *e-process*: the probability that it *ever* reaches 1/alpha is at
most alpha (Ville's inequality), so it may be looked at as often as one likes. The mean of e-values is an
e-value whatever their dependence (Vovk & Wang 2021).

Symbols, per interval: ``n_c, k_c`` requests and events of the candidate, ``n_b, k_b`` of stable, ``k = k_c +
k_b``, ``w = n_c / (n_c + n_b)``; ``p_c, p_b`` are the true rates of the interval, which may change from one
interval to the next.

Why the ratio forms hold at any rate, not only for rare events: both have the form c^k_c d^k_b, so for
independent requests E = (1 + p_c (c - 1))^n_c (1 + p_b (d - 1))^n_b <= exp(n_c p_c (c - 1) + n_b p_b (d -
1)), and the exponent is 0 on the boundary of the hypothesis (put c and d in) and negative inside it.

Bursts: let ``deflation`` = d. When requests fail in clusters of at most d requests, in any way inside a
cluster but independently between clusters, every form here raised to the power 1/d is still an e-value: x ->
c^x is convex, so for the S <= d events of a cluster c^(S/d) <= 1 + (S/d)(c - 1), and the proof above goes
through with clusters in place of requests.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import exp, floor, inf, lgamma, log, log1p, sqrt

RATIOS = (1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0)
"""Alternatives psi = p_c / p_b that the evidence against a candidate is averaged over."""
SHRINKS = (0.001, 0.1, 0.3, 0.6)
"""Alternatives p_1 / delta that the evidence for a negligible rate is averaged over; the first stands for
"no event at all"."""
SPLIT_ODDS = (0.5, 1 / 1.2, 1 / 1.05, 1.05, 1.2, 2.0)
"""Alternatives for the odds of the traffic split, as multiples of the intended odds."""

EXACT_RATE = 0.05
"""Above this pooled rate the exact conditional form replaces the binomial one, which loses power there."""
EXACT_LIMIT = 1_000_000
"""With more events than this in one interval the sum of the exact form takes too long; the binomial form is
valid, too."""
LARGEST_LOG = 600.0
"""Evidence is shown as exp(this) at the most, so that every number stays finite."""
_NEGLIGIBLE_TERM = 1e-18


def log_mean_exp(logs: Iterable[float]) -> float:
    """Return the log of the mean of exp(logs), without overflow; the weights are equal."""
    values = list(logs)
    return weighted_log_mean(values, [1.0 / len(values)] * len(values))


def weighted_log_mean(logs: Sequence[float], weights: Sequence[float]) -> float:
    """Return the log of sum(weights * exp(logs)), without overflow."""
    top = max(logs)
    if top == -inf:
        return -inf
    return top + log(sum(weight * exp(each - top) for each, weight in zip(logs, weights, strict=True)))


def as_number(value: float) -> float:
    """Return exp(value) with six significant digits, cut off where a float would overflow."""
    return float(f"{exp(min(value, LARGEST_LOG)):.6g}")


def odds_times(factor: float, rate: float) -> float:
    """Return the rate whose odds are ``factor`` times those of ``rate``; for small rates that is factor *
    rate."""
    return factor * rate / (1.0 - rate + factor * rate)


def log_worse(psi: float, n_c: int, k_c: int, n_b: int, k_b: int, *, exact: bool = True) -> float:
    """Return the log e-value against "the candidate's rate is at most stable's", betting on p_c = psi p_b.

    e(psi) = psi^k_c / E[psi^J], where J is the candidate's share of the k events when the rates are equal:
    binomial(k, w), or above a pooled rate of 5 % the exact hypergeometric (Fisher's conditional test). The
    binomial form is never larger (Hoeffding 1963: drawing without replacement is smaller in convex order),
    and the choice depends on k alone, on which everything is conditioned; so mixing the two keeps the
    guarantee. ``exact=False`` keeps to the binomial form.
    """
    k = k_c + k_b
    if k == 0 or n_c == 0 or n_b == 0:
        return 0.0
    if exact and EXACT_RATE * (n_c + n_b) < k <= EXACT_LIMIT:
        return k_c * log(psi) - log_hypergeometric_moment(psi, k, n_c, n_b)
    w = n_c / (n_c + n_b)
    return k_c * log(psi) - k * log1p(w * (psi - 1.0))


def log_hypergeometric_moment(psi: float, k: int, n_c: int, n_b: int) -> float:
    """Return log E[psi^J] for J hypergeometric: k events drawn among n_c + n_b requests, J of them the
    candidate's.

    The sum over j runs outwards from its largest term (the mode of Fisher's noncentral hypergeometric
    distribution, Fog 2008) until terms stop mattering, so it costs about sqrt(k) steps.
    """
    low, high = max(0, k - n_b), min(k, n_c)
    mode = min(high, max(low, _tilted_mode(psi, k, n_c, n_b)))
    total = 1.0
    term, j = 1.0, mode
    while j < high and term > _NEGLIGIBLE_TERM:
        term *= psi * (n_c - j) * (k - j) / ((j + 1) * (n_b - k + j + 1))
        total += term
        j += 1
    term, j = 1.0, mode
    while j > low and term > _NEGLIGIBLE_TERM:
        term *= j * (n_b - k + j) / (psi * (n_c - j + 1) * (k - j + 1))
        total += term
        j -= 1
    largest = _log_choose(n_c, mode) + _log_choose(n_b, k - mode) - _log_choose(n_c + n_b, k)
    return mode * log(psi) + largest + log(total)


def _tilted_mode(psi: float, k: int, n_c: int, n_b: int) -> int:
    """Return the j with the largest term C(n_c, j) C(n_b, k - j) psi^j (psi > 1)."""
    a = psi - 1.0
    b = psi * (n_c + k + 2.0) + n_b - k
    c = psi * (n_c + 1.0) * (k + 1.0)
    return floor(2.0 * c / (b + sqrt(b * b - 4.0 * a * c)))


def _log_choose(n: int, k: int) -> float:
    return lgamma(n + 1.0) - lgamma(k + 1.0) - lgamma(n - k + 1.0)


def log_above(p_1: float, p_0: float, n: int, k: int) -> float:
    """Return the log e-value against "the rate is at most p_0", betting on p_1 > p_0: the likelihood ratio.

    Swapped (p_1 < p_0) it is the e-value against "the rate is at least p_0". Valid for the whole side, since
    the likelihood ratio is monotone in k.
    """
    return k * log(p_1 / p_0) + (n - k) * (log1p(-p_1) - log1p(-p_0))


def log_good_ratio(r: float, n_c: int, k_c: int, n_b: int, k_b: int) -> float:
    """Return the log e-value against "the candidate's rate is at least r times stable's", betting on equal
    rates.

    With th = r w / (1 + (r - 1) w): e = (w / th)^k_c ((1 - w) / (1 - th))^k_b = (1 + (r - 1) w)^k r^(-k_c).
    """
    if n_c == 0 or n_b == 0:
        return 0.0
    w = n_c / (n_c + n_b)
    return (k_c + k_b) * log1p((r - 1.0) * w) - k_c * log(r)


def log_negligible(delta: float, n: float, k: float) -> float:
    """Return the log e-value against "the rate is at least delta", averaged over much smaller rates
    (``SHRINKS``)."""
    return log_mean_exp(
        k * log(shrink) + (n - k) * (log1p(-shrink * delta) - log1p(-delta)) for shrink in SHRINKS
    )


def log_split(odds: float, share: float, n_c: int, n_b: int) -> float:
    """Return the log e-value against "each request goes to the candidate with probability ``share``".

    The alternative multiplies the odds: share_1 = odds share / (1 - share + odds share). As in Lindon &
    Malek (2022, "Anytime-valid inference for multinomial count data") with a discrete prior on the odds in
    place of a Dirichlet on the shares, so that the intended share may change between intervals. An imbalance
    of less than about 2.5 % of the odds is never reported, at whatever count: it does not matter.
    """
    return n_c * log(odds) - (n_c + n_b) * log1p(share * (odds - 1.0))
