import numpy as np
import pytest

import gnmanifold as gn


def test_california_housing_has_the_published_rows():
    X, y = gn.datasets.california_housing(standardize=False)
    assert X.shape == (20640, 8)
    # first and last row as scikit-learn's fetch_california_housing prints them
    first = [8.3252, 41.0, 6.984127, 1.023810, 322.0, 2.555556, 37.88, -122.23]
    last = [2.3886, 16.0, 5.254717, 1.162264, 1387.0, 2.616981, 39.37, -121.24]
    np.testing.assert_allclose(X[0], first, atol=5e-7)
    np.testing.assert_allclose(X[-1], last, atol=5e-7)
    assert (y[0], y[-1]) == (4.526, 0.894)
    assert y.mean() == pytest.approx(2.068558, abs=5e-7)
    assert y.max() == pytest.approx(5.00001)


def test_rows_are_drawn_from_rng_and_standardized():
    X, y = gn.datasets.california_housing(256, np.random.default_rng(0))
    np.testing.assert_allclose(X.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(X.std(axis=0), 1, rtol=1e-12)
    rows = np.random.default_rng(0).choice(20640, 256, replace=False)
    np.testing.assert_array_equal(y, gn.datasets.california_housing()[1][rows])
    again = gn.datasets.california_housing(256, rng=0)
    np.testing.assert_array_equal(X, again[0])
    assert np.all(np.isfinite(gn.datasets.california_housing(1, rng=0)[0]))


def test_single_index_is_its_formula():
    X, y = gn.datasets.single_index(200, 3, noise=0.0, rng=1)
    np.testing.assert_allclose(np.linalg.norm(X, axis=1), 1, rtol=1e-14)
    direction = np.linalg.lstsq(X, np.arctanh(y) / 3, rcond=None)[0]
    assert np.linalg.norm(direction) == pytest.approx(1, rel=1e-10)
    noisy = gn.datasets.single_index(200, 3, noise=0.5, rng=1)[1]
    assert np.std(noisy - y) == pytest.approx(0.5, rel=0.15)
    linear = gn.datasets.single_index(200, 3, noise=0.0, rng=1, link=lambda t: t)[1]
    np.testing.assert_allclose(linear, X @ direction, atol=1e-12)


@pytest.mark.parametrize("n", [0, -1, 2.5, 20641])
def test_bad_sizes_are_named(n):
    with pytest.raises(gn.ArgumentError, match="n must be"):
        gn.datasets.california_housing(n)


def test_bad_noise_is_named():
    with pytest.raises(gn.ArgumentError, match="noise"):
        gn.datasets.single_index(5, 2, noise=-1.0)
