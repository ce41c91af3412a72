"""Which theorem holds here: constants, thresholds, rates, and certificates that combine them.

| statement                                          | function                                 |
|----------------------------------------------------|------------------------------------------|
| (8), L for one hidden layer; sharper; any model    | jacobian_lipschitz, ..._estimate         |
| Lip_f                                              | output_lipschitz                         |
| Assumptions 1 and 2, λ0 and λ_n                    | start_constants                          |
| (9), r0 = λ0/L                                     | nondegenerate_radius                     |
| (20), r and R_B = 2rλ0/L                           | ball_ratio, ball_radius                  |
| kernel in expectation, and at a point              | expected_ntk, empirical_ntk              |
| Theorem 5, Corollary 9, any schedule               | path_threshold, flow_rate                |
| Lemma 4 and Corollary 9 with the paper's α         | lemma4_threshold, corollary9_threshold   |
| Theorem 7, discrete time                           | discrete_threshold, discrete_rate        |
| Theorem 10, generalized Gauss-Newton               | generalized_threshold, flow_rate         |
| Lemma 13, Corollary 14, deep networks              | deep_width, deep_threshold               |
| Lemma 28, second fundamental form                  | second_form_bound                        |
| Lemma 21, geodesic convexity of balls              | convexity_radius, convexity_modulus      |
| Theorem 22, convexity on the surface               | convexity_threshold                      |
| Theorem 25, and in discrete time                   | contained_threshold, discrete_...        |
| all hypotheses at a start, p >= n and p <= n       | overparameterized, underparameterized    |

S. Cayci, arXiv 2412.14031v5. Thresholds are conservative: certificates, and no defaults.
"""

from gnmanifold.theory.certificate import Certificate
from gnmanifold.theory.certificates import overparameterized, underparameterized
from gnmanifold.theory.constants import (
    ActivationConstants,
    Constant,
    StartConstants,
    activation_constants,
    ball_radius,
    ball_ratio,
    jacobian_lipschitz,
    loss_infimum,
    nondegenerate_radius,
    output_lipschitz,
    start_constants,
)
from gnmanifold.theory.estimate import jacobian_lipschitz_estimate
from gnmanifold.theory.hypotheses import Hypothesis
from gnmanifold.theory.kernels import empirical_ntk, expected_ntk
from gnmanifold.theory.rates import (
    discrete_rate,
    exponential_envelope,
    flow_rate,
    geometric_envelope,
)
from gnmanifold.theory.thresholds import (
    Setting,
    contained_bound,
    contained_threshold,
    convexity_modulus,
    convexity_radius,
    convexity_threshold,
    corollary9_threshold,
    deep_threshold,
    deep_width,
    discrete_contained_threshold,
    discrete_threshold,
    generalized_bound,
    generalized_threshold,
    kernel_peak,
    lemma4_bound,
    lemma4_threshold,
    paper_contained_threshold,
    path_bound,
    path_threshold,
    second_form_bound,
)

__all__ = [
    "ActivationConstants",
    "Certificate",
    "Constant",
    "Hypothesis",
    "Setting",
    "StartConstants",
    "activation_constants",
    "ball_radius",
    "ball_ratio",
    "contained_bound",
    "contained_threshold",
    "convexity_modulus",
    "convexity_radius",
    "convexity_threshold",
    "corollary9_threshold",
    "deep_threshold",
    "deep_width",
    "discrete_contained_threshold",
    "discrete_rate",
    "discrete_threshold",
    "empirical_ntk",
    "expected_ntk",
    "exponential_envelope",
    "flow_rate",
    "generalized_bound",
    "generalized_threshold",
    "geometric_envelope",
    "jacobian_lipschitz",
    "jacobian_lipschitz_estimate",
    "kernel_peak",
    "lemma4_bound",
    "lemma4_threshold",
    "loss_infimum",
    "nondegenerate_radius",
    "output_lipschitz",
    "overparameterized",
    "paper_contained_threshold",
    "path_bound",
    "path_threshold",
    "second_form_bound",
    "start_constants",
    "underparameterized",
]
