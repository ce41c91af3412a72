import os

# Small problems gain nothing from BLAS threads, and on a busy machine lose a factor of twenty.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from jaxtyping import install_import_hook

# Types and shapes are checked while the tests run, and only then; not where a test hands over a
# wrong type on purpose, to read the package's own error.
CHECKED = [
    f"gnmanifold.{name}"
    for name in (
        "models.base",
        "models.network",
        "models.autograd",
        "models.callables",
        "models.differences",
        "factorization",
        "linearization",
        "metrics",
        "geometry",
    )
]
with install_import_hook(CHECKED, "beartype.beartype"):
    import gnmanifold  # noqa: F401
