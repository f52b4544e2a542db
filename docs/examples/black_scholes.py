"""Prices of European options by the formula of Black and Scholes.

A NumPy program. Give `prices` DArrays, and it prices more options than fit in memory.
"""

import numpy as np


def normal_cdf(x):
    """Share of a standard normal distribution below x; Abramowitz and Stegun, 26.2.17."""
    t = 1 / (1 + 0.2316419 * np.abs(x))
    series = t * (
        0.319381530 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429)))
    )
    tail = np.exp(-0.5 * x * x) / np.sqrt(2 * np.pi) * series
    return np.where(x > 0, 1 - tail, tail)


def prices(spot, strike, years, rate=0.02, volatility=0.3):
    """Prices of calls and puts."""
    deviation = volatility * np.sqrt(years)
    d1 = (np.log(spot / strike) + (rate + 0.5 * volatility**2) * years) / deviation
    d2 = d1 - deviation
    discounted = strike * np.exp(-rate * years)
    call = spot * normal_cdf(d1) - discounted * normal_cdf(d2)
    put = discounted * normal_cdf(-d2) - spot * normal_cdf(-d1)
    return call, put


def market(options):
    """Made-up options: spot prices, strikes and years to expiry."""
    rng = np.random.default_rng(0)
    spot = rng.uniform(5, 30, options)
    strike = rng.uniform(1, 100, options)
    years = rng.uniform(0.25, 10, options)
    return spot, strike, years


if __name__ == "__main__":
    spot, strike, years = market(200_000)
    call, put = prices(spot, strike, years)
    print(f"mean call {np.mean(call):.4f}, mean put {np.mean(put):.4f}")
