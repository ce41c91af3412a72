"""The checks pass on what is right and fail on what is wrong, here deliberately."""

import numpy as np
import pymanopt
import pytest
from zoo import network, saturation, targets

import gnmanifold as gn
from gnmanifold.plotting import plot_check

START = np.array([3.0, 1.2, 0.5])


@pytest.fixture(autouse=True)
def seeded_pymanopt():
    """pymanopt draws points, and vectors that are no arrays, from NumPy's global state."""
    np.random.seed(0)  # noqa: NPY002


class Problem:
    """The least that the checks need of a problem, with a right and a wrong part to choose."""

    def __init__(
        self, gradient_error=0.0, hessian_error=0.0, asymmetry=0.0, retraction="second_order"
    ):
        self.manifold = gn.OutputManifold(saturation(), retraction=retraction)
        y = targets(saturation(), START)
        self.right = gn.CompositeProblem(self.manifold, gn.SquaredError(y))
        self.gradient_error, self.hessian_error = gradient_error, hessian_error
        self.asymmetry = asymmetry
        self.cost = self.right.cost

    def riemannian_gradient(self, point):
        gradient = self.right.riemannian_gradient(point)
        return (1 + self.gradient_error) * gradient

    def riemannian_hessian(self, point, vector):
        image = (1 + self.hessian_error) * self.right.riemannian_hessian(point, vector)
        first = self.manifold.projection(point, np.eye(9)[0])
        second = self.manifold.projection(point, np.eye(9)[1])
        return image + self.asymmetry * first * (second @ vector)


def test_right_derivatives_pass():
    problem = Problem()
    point = problem.manifold.point(START)
    gradient, hessian = gn.check_gradient(problem, point), gn.check_hessian(problem, point)
    assert gradient
    assert abs(gradient.slope - 2) < 0.05
    assert "passed" in str(gradient)
    assert hessian
    assert abs(hessian.slope - 3) < 0.1
    assert hessian.identities["symmetry"] < 1e-12


@pytest.mark.parametrize("error", [1.0, 1e-2, 1e-5])
def test_wrong_gradients_fail(error):
    problem = Problem(gradient_error=error)
    check = gn.check_gradient(problem, problem.manifold.point(START))
    assert not check
    assert abs(check.slope - 1) < 0.05
    assert "FAILED (the gradient" in str(check)


@pytest.mark.parametrize("error", [1.0, 1e-2])
def test_wrong_hessians_fail(error):
    problem = Problem(hessian_error=error)
    check = gn.check_hessian(problem, problem.manifold.point(START))
    assert not check
    assert abs(check.slope - 2) < 0.1


def test_asymmetric_hessians_and_normal_gradients_fail_by_their_identities():
    problem = Problem(asymmetry=1e-6)
    check = gn.check_hessian(problem, problem.manifold.point(START))
    assert not check
    assert check.identities["symmetry"] > 1e-10

    class Normal(Problem):
        def riemannian_gradient(self, point):
            return self.right.euclidean_gradient(point)

    problem = Normal()
    check = gn.check_gradient(problem, problem.manifold.point(START))
    assert abs(check.slope - 2) < 0.05  # the normal part is invisible to the slope
    assert not check
    assert check.identities["tangency"] > 1e-3


def test_a_first_order_retraction_fails_the_hessian_check_and_the_order_two_check():
    problem = Problem(retraction="first_order")
    point = problem.manifold.point(START)
    assert not gn.check_hessian(problem, point)
    assert gn.check_retraction(problem.manifold, point, order=1)
    check = gn.check_retraction(problem.manifold, point, order=2)
    assert not check
    assert "not of order 2" in str(check)


def test_a_wrong_retraction_fails():
    class Wrong(gn.OutputManifold):
        def retraction(self, point, tangent_vector):
            return super().retraction(point, 1.5 * tangent_vector)

    manifold = Wrong(saturation())
    check = gn.check_retraction(manifold, manifold.point(START))
    assert not check
    assert abs(check.slope - 1) < 0.1


def test_a_wrong_manifold_fails_by_name():
    class Wrong(gn.OutputManifold):
        def projection(self, point, vector):
            return 0.5 * super().projection(point, vector)

        def transport(self, point_a, point_b, tangent_vector_a):
            return tangent_vector_a

    manifold = Wrong(saturation())
    check = gn.check_manifold(manifold, manifold.point(START))
    assert not check
    assert "projection is idempotent" in check.failures
    assert "transport ends in the tangent space" in check.failures
    assert "inner product is symmetric" not in check.failures
    assert "FAIL projection is idempotent" in str(check)


@pytest.mark.parametrize(
    "manifold",
    [
        pymanopt.manifolds.Sphere(5),
        pymanopt.manifolds.Stiefel(5, 2),
        pymanopt.manifolds.Grassmann(5, 2),
        pymanopt.manifolds.SpecialOrthogonalGroup(4),
        pymanopt.manifolds.SymmetricPositiveDefinite(3),
        pymanopt.manifolds.FixedRankEmbedded(5, 4, 2),
        pymanopt.manifolds.Product([pymanopt.manifolds.Sphere(4), pymanopt.manifolds.Euclidean(3)]),
    ],
    ids=str,
)
def test_pymanopts_own_manifolds_pass(manifold):
    check = gn.check_manifold(manifold)
    assert check, str(check)


def test_pymanopts_own_problems_pass():
    sphere = pymanopt.manifolds.Sphere(5)
    A = np.diag(np.arange(5.0))

    @pymanopt.function.autograd(sphere)
    def cost(x):
        return x @ A @ x

    problem = pymanopt.Problem(sphere, cost)
    assert gn.check_gradient(problem, rng=3)
    assert gn.check_hessian(problem, rng=3)
    assert gn.check_retraction(sphere, order=2, rng=3)


def test_an_exact_model_has_an_infinite_slope():
    space = pymanopt.manifolds.Euclidean(3)

    @pymanopt.function.autograd(space)
    def cost(x):
        return x @ x

    check = gn.check_hessian(pymanopt.Problem(space, cost), np.ones(3))
    assert np.isinf(check.slope)
    assert check


def test_bad_arguments_are_named():
    manifold = gn.OutputManifold(network())
    with pytest.raises(gn.ArgumentError, match="order must be 1 or 2"):
        gn.check_retraction(manifold, order=3)
    with pytest.raises(gn.ArgumentError, match="pass both"):
        gn.check_retraction(manifold, tangent_vector=np.ones(20))
    with pytest.raises(gn.ArgumentError, match="nothing to compare"):
        gn.check_retraction(pymanopt.manifolds.FixedRankEmbedded(5, 4, 2))


def test_same_seed_same_check():
    problem = Problem()
    point = problem.manifold.point(START)
    first, second = (gn.check_gradient(problem, point, rng=5) for _ in range(2))
    np.testing.assert_array_equal(first.errors, second.errors)
    assert first.slope != gn.check_gradient(problem, point, rng=6).slope


def test_a_check_can_be_drawn(tmp_path):
    problem = Problem()
    axes = plot_check(gn.check_hessian(problem, problem.manifold.point(START)))
    assert axes.get_xscale() == axes.get_yscale() == "log"
    assert "slope" in axes.get_title()
    axes.figure.savefig(tmp_path / "check.png")


def test_a_check_that_sees_nothing_does_not_pass():
    space = pymanopt.manifolds.Euclidean(2)
    backend = pymanopt.function.numpy(space)
    problem = pymanopt.Problem(
        space,
        backend(lambda x: 1e12 + x @ x),
        euclidean_gradient=backend(lambda x: -7 * x),
    )
    check = gn.check_gradient(problem, np.array([1e-6, 2e-6]))
    assert not check
    assert "nothing to see" in str(check)


def test_a_wrong_hessian_that_cannot_be_seen_does_not_pass():
    space = pymanopt.manifolds.Euclidean(2)
    backend = pymanopt.function.numpy(space)
    slope = np.array([1e8, 0.0])
    problem = pymanopt.Problem(
        space,
        backend(lambda x: slope @ x + 1e-9 * x @ x),
        euclidean_gradient=backend(lambda x: slope + 2e-9 * x),
        euclidean_hessian=backend(lambda x, v: -77e-9 * v),
    )
    check = gn.check_hessian(problem, np.array([1.0, 2.0]))
    assert not check
    assert "nothing to see" in str(check)


def test_gradients_pass_at_a_minimizer_and_next_to_it():
    space = pymanopt.manifolds.Euclidean(2)
    backend = pymanopt.function.numpy(space)
    problem = pymanopt.Problem(
        space,
        backend(lambda x: 1.0 + x @ x),
        euclidean_gradient=backend(lambda x: 2 * x),
    )
    for distance in (0.0, 1e-18):
        check = gn.check_gradient(problem, np.full(2, distance))
        assert check, str(check)
        assert abs(check.slope - 2) < 0.05


def test_a_cost_that_is_nan_along_the_steps_does_not_pass():
    space = pymanopt.manifolds.Euclidean(2)
    backend = pymanopt.function.numpy(space)
    problem = pymanopt.Problem(
        space,
        backend(lambda x: 1.0 if np.all(x == 1.0) else np.nan),
        euclidean_gradient=backend(lambda x: x),
    )
    assert not gn.check_gradient(problem, np.ones(2))
