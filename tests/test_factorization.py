import mpmath
import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

import gnmanifold as gn
from gnmanifold.factorization import Root, factorize

EPS = np.finfo(float).eps


def matrix_of_condition(exponent, n=20, p=6, seed=0):
    rng = np.random.default_rng(seed)
    U = np.linalg.qr(rng.standard_normal((n, p)))[0]
    V = np.linalg.qr(rng.standard_normal((p, p)))[0]
    return (U * np.logspace(0, -exponent, p)) @ V.T


def linear_model(J):
    return gn.CallableModel(lambda w: J @ w, J.shape[1], jacobian=lambda w: J)


class Exact:
    """Least squares with J in 50 digits."""

    def __init__(self, J):
        self.J = mpmath.matrix(J.tolist())
        self.gram = self.J.T * self.J

    def pull(self, u):
        return mpmath.lu_solve(self.gram, self.J.T * u)

    @staticmethod
    def error(got, expected):
        difference = mpmath.matrix(got.tolist()) - expected
        return float(mpmath.norm(difference) / mpmath.norm(expected))


@pytest.fixture(autouse=True)
def fifty_digits():
    with mpmath.workdps(50):
        yield


@pytest.mark.parametrize("exponent", range(1, 13))
@pytest.mark.parametrize(("n", "p"), [(20, 6), (40, 12)])
def test_accuracy_against_fifty_digits(exponent, n, p):
    J = matrix_of_condition(exponent, n, p, seed=exponent)
    lin = gn.Linearization(linear_model(J), np.zeros(p))
    exact = Exact(J)
    singular = np.linalg.svd(J, compute_uv=False)
    cond = singular[0] / singular[-1]
    rng = np.random.default_rng(1)
    x, a, c = rng.standard_normal(n), rng.standard_normal(p), rng.standard_normal(p)
    u, x50 = J @ a, mpmath.matrix(x.tolist())
    assert exact.error(lin.project(x), exact.J * exact.pull(x50)) <= 100 * cond * EPS
    assert exact.error(lin.pull(u), exact.pull(mpmath.matrix(u.tolist()))) <= 100 * cond * EPS
    c50 = mpmath.matrix(c.tolist())
    lifted = exact.J * mpmath.lu_solve(exact.gram, c50)
    assert exact.error(lin.lift(c), lifted) <= 100 * cond * EPS
    pulled = exact.pull(x50)
    normal = float(mpmath.norm(x50 - exact.J * pulled))
    bound = cond + cond**2 * normal / (singular[0] * float(mpmath.norm(pulled)))
    assert exact.error(lin.pull(x), pulled) <= 100 * EPS * bound


def test_plain_cholesky_would_miss_the_accuracy():
    """Why the normal equations need refinement and a limit: they fail the test above."""
    for exponent in (5, 12):
        J = matrix_of_condition(exponent, seed=exponent)
        a = np.random.default_rng(1).standard_normal(6)
        u = J @ a
        try:
            plain = scipy.linalg.cho_solve(scipy.linalg.cho_factor(J.T @ J), J.T @ u)
        except np.linalg.LinAlgError:
            continue  # the factorization may fail, but need not
        exact = Exact(J).pull(mpmath.matrix(u.tolist()))
        assert Exact.error(plain, exact) > 100 * 10**exponent * EPS


def test_cholesky_serves_well_conditioned_roots_only():
    names = [type(factorize(Root(matrix_of_condition(e)))).__name__ for e in range(1, 13)]
    assert names[:4] == ["_CholeskyFactor"] * 4
    assert names[5:] == ["_QRFactor"] * 7


@given(st.integers(0, 10**6), st.integers(1, 8), st.integers(0, 8), st.floats(-4, 4))
@settings(deadline=None, max_examples=60, derandomize=True)
def test_four_operations_against_dense_formulas(seed, p, extra, spread):
    """Tall, square, damped and undamped roots with columns of any scale."""
    rng = np.random.default_rng(seed)
    n = p + extra
    # orthonormal columns, scaled: bounded conditioning, so that 1e-10 means something
    M = (
        np.linalg.qr(rng.standard_normal((n, p)))[0] * 10 ** rng.uniform(-abs(spread), spread, p)
        if spread > 0
        else np.linalg.qr(rng.standard_normal((n, p)))[0]
    )
    diagonal = rng.uniform(0.5, 2, p) if seed % 2 else None
    check_operations(M, diagonal, rng)


@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 30))
@settings(deadline=None, max_examples=40, derandomize=True)
def test_kernel_form_of_wide_damped_roots(seed, n, extra):
    rng = np.random.default_rng(seed)
    p = n + extra
    check_operations(rng.standard_normal((n, p)), rng.uniform(0.5, 2, p), rng)


def check_operations(M, diagonal, rng):
    B = M if diagonal is None else np.vstack([M, np.diag(diagonal)])
    factor = factorize(Root(M, diagonal))
    u, c = rng.standard_normal(len(B)), rng.standard_normal(M.shape[1])
    pinv = np.linalg.pinv(B)
    assert factor.rank == factor.full_rank == M.shape[1]

    def same(got, expected):
        assert np.linalg.norm(got - expected) <= 1e-10 * np.linalg.norm(expected)

    same(factor.lstsq(u), pinv @ u)
    same(factor.lstsq(u[: len(M)]), pinv[:, : len(M)] @ u[: len(M)])
    same(factor.lift(c), pinv.T @ c)
    same(factor.solve(c), pinv @ (pinv.T @ c))
    same(factor.project(u), B @ (pinv @ u))


def test_wide_roots_give_minimum_norm_solutions():
    J = np.random.default_rng(0).standard_normal((4, 9))
    factor = factorize(Root(J))
    u, c = np.random.default_rng(1).standard_normal(4), np.random.default_rng(2).standard_normal(9)
    pinv = np.linalg.pinv(J)
    np.testing.assert_allclose(factor.lstsq(u), pinv @ u, rtol=1e-11)
    np.testing.assert_allclose(factor.lift(c), pinv.T @ c, rtol=1e-11)
    np.testing.assert_allclose(factor.solve(c), pinv @ (pinv.T @ c), rtol=1e-10)
    np.testing.assert_array_equal(factor.project(u), u)
    assert factor.condition == pytest.approx(factor.singular_values[0] / factor.singular_values[-1])


def test_kernel_form_never_allocates_p_by_p():
    import tracemalloc

    rng = np.random.default_rng(0)
    n, p = 20, 3000
    root = Root(rng.standard_normal((n, p)), np.full(p, 0.1))
    u = rng.standard_normal(n)
    tracemalloc.start()
    factorize(root).lstsq(u)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * p * p / 10


@pytest.mark.parametrize("shape", [(8, 4), (4, 8)])
def test_rank_deficiency_is_found_and_solved_in_the_minimum_norm_sense(shape):
    rng = np.random.default_rng(0)
    J = rng.standard_normal((shape[0], 3)) @ rng.standard_normal((3, shape[1]))
    factor = factorize(Root(J))
    assert (factor.rank, factor.full_rank) == (3, 4)
    u, c = rng.standard_normal(shape[0]), rng.standard_normal(shape[1])
    pinv = np.linalg.pinv(J, rcond=1e-10)
    np.testing.assert_allclose(factor.lstsq(u), pinv @ u, rtol=1e-9)
    np.testing.assert_allclose(factor.lift(c), pinv.T @ c, rtol=1e-9)
    np.testing.assert_allclose(factor.project(u), J @ (pinv @ u), rtol=1e-9)
    with pytest.raises(gn.RankDeficientError, match="numerical rank is 3") as caught:
        factor.require_full_rank("do this")
    assert caught.value.rank == 3
    assert caught.value.expected == 4
    assert "do this" in str(caught.value)
    assert caught.value.singular_values[-1] < 1e-14


def test_badly_scaled_columns_are_not_rank_deficiency():
    rng = np.random.default_rng(0)
    J = rng.standard_normal((10, 4)) * np.array([1e-150, 1e-8, 1.0, 1e120])
    factor = factorize(Root(J))
    assert factor.rank == 4
    assert factor.condition < 100
    a = np.array([1e150, 1e8, 1.0, 1e-120])
    np.testing.assert_allclose(factor.lstsq(J @ a), a, rtol=1e-12)


def test_zero_column_is_rank_deficiency():
    J = np.random.default_rng(0).standard_normal((6, 3))
    J[:, 1] = 0
    factor = factorize(Root(J))
    assert factor.rank == 2
    assert np.isinf(factor.condition)
    np.testing.assert_allclose(factor.lstsq(J @ np.ones(3)), [1, 0, 1], atol=1e-13)


def test_nonfinite_jacobian_names_the_entry():
    J = np.ones((3, 2))
    J[2, 1] = np.inf
    with pytest.raises(gn.NonFiniteError, match="derivative of output 2 by parameter 1"):
        factorize(Root(J))


def test_deficient_roots_with_columns_of_very_different_size():
    rng = np.random.default_rng(0)
    first, second = rng.standard_normal((2, 10))
    J = np.column_stack([first, 3.3 * first, first - 2.2 * first, 1e-17 * second])
    factor = factorize(Root(J))
    assert factor.rank == 2
    np.testing.assert_allclose(factor.project(second), second, rtol=1e-12)
    u = J @ np.array([1.0, 2.0, 3.0, 1e17])
    np.testing.assert_allclose(J @ factor.lstsq(u), u, rtol=1e-12)


def test_damping_below_rounding_is_rank_deficiency_in_either_form():
    rng = np.random.default_rng(0)
    column = rng.standard_normal(5)
    for shape in ((5, 3), (3, 5)):
        J = np.outer(column[: shape[0]], rng.standard_normal(shape[1]))
        factor = factorize(Root(J, np.full(shape[1], 1e-17)))
        assert factor.rank == 1
        assert factor.full_rank == shape[1]


def test_a_zero_root_has_rank_zero():
    factor = factorize(Root(np.zeros((5, 3))))
    assert factor.rank == 0
    np.testing.assert_array_equal(factor.lstsq(np.ones(5)), np.zeros(3))
    np.testing.assert_array_equal(factor.lift(np.ones(3)), np.zeros(5))
    with pytest.raises(gn.RankDeficientError, match="no output depends on parameter 0, 1, 2"):
        factor.require_full_rank("drop them")
