"""Diagnostics: curvature, convexity and nonlinearity of a fit, as numbers."""

from gnmanifold.diagnostics.convexity import (
    along_geodesic,
    along_path,
    extreme_eigenvalues,
    hessian_terms,
)
from gnmanifold.diagnostics.critical_points import classify
from gnmanifold.diagnostics.diagnose import diagnose
from gnmanifold.diagnostics.nonlinearity import nonlinearity
from gnmanifold.diagnostics.polyak_lojasiewicz import (
    polyak_lojasiewicz_along,
    polyak_lojasiewicz_over,
)
from gnmanifold.diagnostics.profile import profile
from gnmanifold.diagnostics.rates import contraction_factor, fitted_rate, local_factor
from gnmanifold.diagnostics.region import region_convexity
from gnmanifold.diagnostics.report import Diagnosis
from gnmanifold.diagnostics.sloppiness import follow_to_boundary, sloppiness
from gnmanifold.diagnostics.spectrum import hessian_density, hessian_trace, spectrum

__all__ = [
    "Diagnosis",
    "along_geodesic",
    "along_path",
    "classify",
    "contraction_factor",
    "diagnose",
    "extreme_eigenvalues",
    "fitted_rate",
    "follow_to_boundary",
    "hessian_density",
    "hessian_terms",
    "hessian_trace",
    "local_factor",
    "nonlinearity",
    "polyak_lojasiewicz_along",
    "polyak_lojasiewicz_over",
    "profile",
    "region_convexity",
    "sloppiness",
    "spectrum",
]
