import numpy as np
import pytest
from matplotlib.figure import Figure

from gnmanifold.plotting import plot_convergence, save_figure

CURVES = {
    "one": {"cost": [10.0, 1.0, 0.1], "time": [0.0, 0.1, 0.2]},
    "two": {"cost": [10.0, 5.0], "time": [0.0, 0.3]},
}


def test_convergence_has_labels_units_and_every_run():
    figure = plot_convergence(CURVES, {"two": {"linestyle": "--"}}, ylabel="cost (m²)")
    left, right = figure.axes
    assert (left.get_xlabel(), left.get_ylabel()) == ("iteration", "cost (m²)")
    assert right.get_xlabel() == "time (s)"
    assert left.get_yscale() == right.get_xscale() == "log"
    np.testing.assert_array_equal(left.lines[0].get_ydata(), CURVES["one"]["cost"])
    assert left.lines[1].get_linestyle() == "--"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["one", "two"]


def test_a_figure_is_written_whole_or_not_at_all(tmp_path):
    path = save_figure(plot_convergence(CURVES), tmp_path / "new" / "figure.png")
    before = path.read_bytes()
    assert before.startswith(b"\x89PNG")

    class Failing(Figure):
        def savefig(self, *args, **kwargs):
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        save_figure(Failing(), path)
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["figure.png"]
