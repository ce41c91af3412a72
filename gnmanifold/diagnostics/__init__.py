"""Diagnostics: curvature, convexity and nonlinearity of a fit, as numbers."""

from gnmanifold.diagnostics.convexity import (
    CurveProfile,
    HessianTerms,
    PathProfile,
    along_geodesic,
    along_path,
    extreme_eigenvalues,
    hessian_terms,
)
from gnmanifold.diagnostics.critical_points import CriticalPoint, classify
from gnmanifold.diagnostics.density import Estimate, SpectralDensity
from gnmanifold.diagnostics.diagnose import diagnose
from gnmanifold.diagnostics.lanczos import Eigenvalues
from gnmanifold.diagnostics.nonlinearity import Nonlinearity, nonlinearity
from gnmanifold.diagnostics.polyak_lojasiewicz import (
    PolyakLojasiewicz,
    polyak_lojasiewicz_along,
    polyak_lojasiewicz_over,
)
from gnmanifold.diagnostics.profile import Profile, profile
from gnmanifold.diagnostics.rates import (
    FittedRate,
    LocalRate,
    contraction_factor,
    fitted_rate,
    local_factor,
)
from gnmanifold.diagnostics.region import RegionConvexity, region_convexity
from gnmanifold.diagnostics.report import Diagnosis
from gnmanifold.diagnostics.sloppiness import Boundary, Sloppiness, follow_to_boundary, sloppiness
from gnmanifold.diagnostics.spectrum import Spectrum, hessian_density, hessian_trace, spectrum

__all__ = [
    "Boundary",
    "CriticalPoint",
    "CurveProfile",
    "Diagnosis",
    "Eigenvalues",
    "Estimate",
    "FittedRate",
    "HessianTerms",
    "LocalRate",
    "Nonlinearity",
    "PathProfile",
    "PolyakLojasiewicz",
    "Profile",
    "RegionConvexity",
    "Sloppiness",
    "SpectralDensity",
    "Spectrum",
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
