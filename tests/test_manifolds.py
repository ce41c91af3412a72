import copy
import pickle

import autograd.numpy as anp
import numpy as np
import pymanopt
import pytest
from zoo import ZOO, linear, network, rank_deficient, saturation, targets

import gnmanifold as gn
from gnmanifold.manifolds import OutputPoint


@pytest.fixture
def surface():
    return gn.OutputManifold(network(), retraction="second_order")


@pytest.fixture
def psi(surface):
    return surface.point(surface.model.initial_parameters + 0.1)


def test_a_point_is_a_plain_array_after_arithmetic(psi):
    plain = np.asarray(psi)
    for value in (psi + 1, 2 * psi, -psi, psi[2:], psi[:], np.abs(psi), psi @ np.eye(20)):
        assert type(value) is np.ndarray
    np.testing.assert_array_equal(psi - plain, np.zeros(20))
    for value in (psi.sum(), psi @ psi, np.linalg.norm(psi), psi.mean(), psi.max(), psi[3]):
        assert type(value) is np.float64
    assert type(np.concatenate([psi, psi])) is np.ndarray
    assert type(np.array(psi)) is np.ndarray


def test_a_point_cannot_be_changed(psi):
    with pytest.raises(ValueError, match="read-only"):
        psi[0] = 1.0
    with pytest.raises(ValueError, match="read-only"):
        psi += 1.0
    with pytest.raises(ValueError, match="read-only"):
        psi.parameters[0] = 1.0


def test_copies_and_pickles_stay_points(surface, psi):
    for twin in (copy.copy(psi), copy.deepcopy(psi), psi.copy(), pickle.loads(pickle.dumps(psi))):
        assert isinstance(twin, OutputPoint)
        np.testing.assert_array_equal(twin.parameters, psi.parameters)
        np.testing.assert_array_equal(np.asarray(twin), np.asarray(psi))
        assert surface.norm(twin, surface.projection(twin, np.ones(20))) > 0


def test_a_reshaped_view_is_no_point(surface, psi):
    with pytest.raises(gn.ForeignPointError, match="made by manifold"):
        surface.projection(psi.reshape(4, 5), np.ones(20))


def test_a_point_holds_no_jacobian(surface, psi):
    surface.projection(psi, np.ones(20))
    assert len(pickle.dumps(psi)) < 1000 + 8 * (20 + 12)
    assert set(vars(psi)) == {"parameters", "origin"}


def test_costs_written_in_psi_for_autograd(surface, psi):
    """pymanopt's own differentiation of a cost of the predictions agrees with ours."""
    y = targets(surface.model, psi.parameters)

    @pymanopt.function.autograd(surface)
    def cost(point):
        return anp.sum((point - y) ** 2 + anp.exp(0.1 * point))

    problem = pymanopt.Problem(surface, cost)
    assert gn.check_gradient(problem, psi)
    assert gn.check_hessian(problem, psi)
    gradient = problem.riemannian_gradient(psi)
    assert type(gradient) is np.ndarray
    euclidean = 2 * (psi - y) + 0.1 * np.exp(0.1 * psi)
    np.testing.assert_allclose(problem.euclidean_gradient(psi), euclidean, rtol=1e-13)
    np.testing.assert_allclose(gradient, surface.projection(psi, euclidean), atol=1e-12)


def test_costs_written_in_parameters_for_autograd():
    for metric in (gn.GaussNewtonMetric(), gn.GaussNewtonMetric(0.3), gn.EuclideanMetric()):
        manifold = gn.ParameterManifold(saturation(), metric, retraction="second_order")

        @pymanopt.function.autograd(manifold)
        def cost(w):
            return anp.sum(anp.sin(w) * w) + anp.prod(w)

        problem = pymanopt.Problem(manifold, cost)
        w = manifold.point([3.0, 1.2, 0.5])
        assert gn.check_gradient(problem, w)
        assert gn.check_hessian(problem, w)


def test_second_order_retraction_is_needed_and_enough_for_autograd_costs():
    manifold = gn.ParameterManifold(saturation(), retraction="first_order")

    @pymanopt.function.autograd(manifold)
    def cost(w):
        return anp.sum(w**2)

    assert not gn.check_hessian(pymanopt.Problem(manifold, cost), manifold.point([3.0, 1.2, 0.5]))


def test_points_of_another_model_are_refused(surface, psi):
    other = gn.OutputManifold(network())
    for call in (
        lambda: other.projection(psi, np.ones(20)),
        lambda: other.retraction(psi, np.ones(20)),
        lambda: gn.CompositeProblem(other, gn.SquaredError(np.ones(20))).cost(psi),
    ):
        with pytest.raises(gn.ForeignPointError, match="another model"):
            call()
    assert other.point(psi.parameters).origin == other.model.identity
    with pytest.raises(gn.ForeignPointError, match="got predictions: use"):
        gn.ParameterManifold(surface.model).norm(psi, np.ones(12))
    # the same surface with another retraction is no other surface
    gn.OutputManifold(surface.model).projection(psi, np.ones(20))


def test_plain_arrays_are_no_points(surface):
    with pytest.raises(gn.ForeignPointError, match=r"array of shape \(20,\)"):
        surface.projection(np.ones(20), np.ones(20))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda m: gn.OutputManifold(lambda w: w), gn.ArgumentError, "model must be"),
        (lambda m: gn.ParameterManifold(m, "gn"), gn.ArgumentError, "metric must be"),
        (lambda m: gn.OutputManifold(m, retraction="exp"), gn.ArgumentError, "retraction must be"),
        (lambda m: gn.OutputManifold(m, typical_dist=0), gn.ArgumentError, "typical_dist"),
        (
            lambda m: gn.OutputManifold(m).point(np.ones(3)),
            gn.ShapeError,
            r"w must have shape \(12,",
        ),
        (lambda m: gn.OutputManifold(m).point(np.full(12, np.nan)), gn.NonFiniteError, r"w\[0\]"),
        (lambda m: gn.ParameterManifold(m).point(["a"]), gn.ArgumentError, "w must be an array"),
        (
            lambda m: gn.ParameterManifold(m).retraction(m.initial_parameters, np.ones(3)),
            gn.ShapeError,
            "tangent_vector must have shape",
        ),
    ],
)
def test_bad_arguments_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make(network())


def test_more_parameters_than_outputs_make_no_surface():
    X = np.random.default_rng(0).standard_normal((5, 3))
    with pytest.raises(gn.UnderdeterminedError, match="use ParameterManifold with"):
        gn.OutputManifold(gn.FeedforwardNetwork(X, (8,)))


def test_rank_deficiency_is_a_typed_error_with_the_remedy():
    for manifold in (gn.OutputManifold(rank_deficient()), gn.ParameterManifold(rank_deficient())):
        point = manifold.point([0.3, 0.4])
        with pytest.raises(gn.RankDeficientError, match=r"rank is 1 .*damp the metric"):
            manifold.at(point).gradient(np.ones(3))
    damped = gn.ParameterManifold(rank_deficient(), gn.GaussNewtonMetric(0.1))
    assert np.all(np.isfinite(damped.at(damped.point([0.3, 0.4])).gradient(np.ones(3))))


def test_nonfinite_output_names_the_output_and_the_size_of_the_parameters():
    model = gn.AutogradModel(lambda w: anp.array([w[0], anp.log(w[0]), w[0]]), 1)
    for manifold in (gn.OutputManifold(model), gn.ParameterManifold(model)):
        with pytest.raises(gn.NonFiniteError, match=r"output 1 is -inf at \|w\| = 0"):
            manifold.point([0.0])


def test_one_slot_remembers_the_last_point(surface, psi):
    counts = surface.evaluations
    surface.projection(psi, np.ones(20))
    before = copy.copy(counts)
    for _ in range(3):
        surface.projection(psi, np.ones(20))
        surface.weingarten(psi, surface.projection(psi, np.ones(20)), np.zeros(20))
    assert (counts.jacobians, counts.factorizations) == (before.jacobians, before.factorizations)
    assert counts.values == before.values


def test_changing_the_array_of_a_point_in_place_is_noticed():
    manifold = gn.ParameterManifold(saturation())
    w = np.array([3.0, 1.2, 0.5])
    first = manifold.at(w).lin.jacobian
    w[1] = 2.0
    assert not np.allclose(manifold.at(w).lin.jacobian, first)


def test_vector_transport_agrees_between_the_manifolds():
    model = saturation()
    surface, parameters = gn.OutputManifold(model), gn.ParameterManifold(model)
    start, end = np.array([3.0, 1.2, 0.5]), np.array([3.1, 1.1, 0.6])
    a = np.array([0.3, -0.2, 0.1])
    u = model.jvp(start, a)
    moved = surface.transport(surface.point(start), surface.point(end), u)
    velocity = parameters.transport(start, end, a)
    np.testing.assert_allclose(moved, model.jvp(end, velocity), rtol=1e-12)


def test_typical_distance_comes_from_the_problem_unless_given():
    model = network()
    y = np.full(20, 3.0)
    for manifold in (gn.OutputManifold(model), gn.ParameterManifold(model)):
        alone = manifold.typical_dist
        assert alone == pytest.approx(2.0 * np.sqrt(20))
        gn.CompositeProblem(manifold, gn.SquaredError(y, weight=5.0))
        assert manifold.typical_dist == pytest.approx(8 * np.linalg.norm(y))
    given = gn.OutputManifold(model, typical_dist=7.0)
    gn.CompositeProblem(given, gn.SquaredError(y))
    assert given.typical_dist == 7.0
    euclidean = gn.ParameterManifold(model, gn.EuclideanMetric())
    assert euclidean.typical_dist == pytest.approx(np.sqrt(12))


def test_random_points_and_vectors_follow_rng():
    for make in (gn.OutputManifold, gn.ParameterManifold):
        first, second = make(network(), rng=3), make(network(), rng=3)
        np.testing.assert_array_equal(first.random_point(), second.random_point())
        point = first.random_point()
        vector = first.random_tangent_vector(point)
        assert first.norm(point, vector) == pytest.approx(1.0)


def test_exponential_on_a_sphere_is_a_great_circle():
    manifold = gn.OutputManifold(ZOO[0].model)
    psi = manifold.point([1.1, 0.4])
    u = manifold.projection(psi, np.array([0.3, -1.0, 0.5]))
    radius, length = 2.0, np.linalg.norm(u)
    expected = np.cos(length / radius) * psi + radius * np.sin(length / radius) * u / length
    np.testing.assert_allclose(np.asarray(manifold.exp(psi, u)), expected, atol=1e-10)
    parameters = gn.ParameterManifold(ZOO[0].model)
    w = parameters.exp([1.1, 0.4], manifold.at(psi).lin.pull(u))
    np.testing.assert_allclose(ZOO[0].model(w), expected, atol=1e-10)


def test_exponential_retraction_of_a_linear_model_is_a_straight_line():
    manifold = gn.ParameterManifold(linear(), retraction="exponential")
    np.testing.assert_allclose(manifold.retraction(np.zeros(3), np.ones(3)), 1.0, rtol=1e-12)


def test_a_geodesic_that_leaves_the_domain_is_a_typed_error():
    """A tractrix-like chart: the metric e^(-2w) dw² has an end at finite distance 1."""
    model = gn.CallableModel(
        lambda w: np.exp(-w),
        1,
        jacobian=lambda w: -np.exp(-w)[:, None],
        second_derivative=lambda w, a, b: np.exp(-w) * a * b,
    )
    manifold = gn.ParameterManifold(model)
    assert manifold.exp([0.0], [0.5])[0] == pytest.approx(np.log(2), rel=1e-10)
    with pytest.raises((gn.GeodesicError, gn.RankDeficientError, gn.NonFiniteError)):
        manifold.exp([0.0], [1.5])
