"""The shapes and types in the annotations, enforced in a run of their own."""

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent
FAST = (
    "test_metrics.py",
    "test_network.py",
    "test_models.py",
    "test_factorization.py",
    "test_submersion.py",
    "test_geometry.py::test_curvatures_are_the_known_ones",
    "test_geometry.py::test_loss_metrics_are_their_formulas",
    "test_geometry.py::test_hessian_matrix_of_a_loss_metric_is_the_operator",
    "test_geometry.py::test_a_linear_model_under_softmax_is_a_sphere",
    "test_geometry.py::test_log_inverts_exp_and_dist_is_its_length[cylinder]",
    "test_geometry.py::test_transport_along_a_parallel_of_a_sphere",
    "test_methods.py::test_kronecker_tensor_solves_what_it_multiplies",
    "test_methods.py::test_filtered_newton_by_lanczos_is_that_of_all_eigenvalues",
    "test_methods.py::test_newton_against_a_dense_solve",
)
WRONG = ("-k", "not out_of_the_image")  # hands over a wrong type on purpose


def test_annotated_shapes_hold():
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *FAST, *WRONG],
        cwd=TESTS,
        env={**os.environ, "GNMANIFOLD_CHECK_SHAPES": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-1000:]
