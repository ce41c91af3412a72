"""Diagnostics: curvature, convexity and nonlinearity of a fit, as numbers."""
