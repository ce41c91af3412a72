import os

# Small problems gain nothing from BLAS threads, and on a busy machine lose a factor of twenty.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from jaxtyping import install_import_hook

# Types and shapes are checked in a run of its own, test_shapes.py, since that makes small calls
# ten times slower; not where tests hand over wrong types on purpose, to read the package's errors.
CHECKED = [
    f"gnmanifold.{name}"
    for name in (
        "models.base",
        "models.network",
        "models.autograd",
        "models.callables",
        "models.differences",
        "models.square_root",
        "factorization",
        "linearization",
        "metrics.ambient",
        "metrics.induced",
        "metrics.filtered",
        "metrics.kronecker",
        "metrics.products",
        "geometry",
    )
]
if os.environ.get("GNMANIFOLD_CHECK_SHAPES"):
    with install_import_hook(CHECKED, "beartype.beartype"):
        import gnmanifold  # noqa: F401
