"""Integrals at large orders, where the integrand may peak far from 0 and from the order."""
import itertools

import numpy as np
import pytest

from mindarmour.privacy.accounting.curves import quadrature

ORDERS = (1.5, 17.5, 33.0, 128.0, 256.0, 512.0, 1024.0)


def dense(kind, rate, multiplier, order):
    """log(A - 1) on a fine grid over everything that can matter."""
    step = min(multiplier, multiplier ** 2) / 20
    x = np.arange(-12 * multiplier, 2 * order + 12 * multiplier, step)
    upper = quadrature.log_ratio(rate, (x - 0.5) / multiplier ** 2)
    lower = quadrature.log_ratio(rate, (-x - 0.5) / multiplier ** 2)
    density = -0.5 * (x / multiplier) ** 2 - 0.5 * np.log(2 * np.pi * multiplier ** 2)
    if kind == "sampled":
        terms = quadrature.log_bregman(np.array([[order]]), upper)[0] + density
    else:
        terms = quadrature.log_bregman(np.array([[order]]), upper - lower)[0] + density + lower
    return terms.max() + np.log(np.exp(terms - terms.max()).sum() * step)


@pytest.mark.parametrize("kind, moment", [("sampled", quadrature.log_moment_sampled),
                                          ("replaced", quadrature.log_moment_replaced)])
def test_no_order_is_understated(kind, moment):
    for rate, multiplier in itertools.product((0.01, 0.1, 0.3, 0.9, 0.99), (0.5, 2.0, 10.0, 20.0, 50.0)):
        logs = moment(rate, multiplier, np.array(ORDERS))
        expected = [dense(kind, rate, multiplier, order) for order in ORDERS]
        np.testing.assert_allclose(logs, expected, rtol=1e-6, atol=1e-6, err_msg=f"{rate} {multiplier}")
