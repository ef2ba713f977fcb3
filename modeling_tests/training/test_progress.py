"""The picture of a training's course: what is in the history is drawn, on axes that fit."""

import pytest
from PIL import Image

from transformers_fastvlm.training import progress

pytest.importorskip("matplotlib", reason="pictures are drawn with matplotlib (the `train` extra)")
HISTORY = [
    {"step": 1, "loss": 3.0},
    {"step": 2, "eval_loss": 2.5, "eval_anls": 0.1},
    {"step": 3, "loss": 2.0},
    {"step": 4, "eval_loss": 1.5, "eval_anls": 0.6},
]


@pytest.mark.parametrize("metric", [None, "anls", "exact_match"])
def test_losses_and_metric(metric, tmp_path, monkeypatch):
    drawn = []
    write = progress.write_picture
    monkeypatch.setattr(progress, "write_picture", lambda figure, path: (drawn.append(figure), write(figure, path))[1])
    path = progress.draw_progress(HISTORY, tmp_path / "loss.png", "base on data", metric)
    (figure,) = drawn
    lines = {line.get_label(): line.get_xydata().tolist() for line in figure.axes[0].lines}
    assert lines == {"training": [[1, 3.0], [3, 2.0]], "evaluation": [[2, 2.5], [4, 1.5]]}
    low, high = figure.axes[0].get_ylim()
    assert (low, high) == pytest.approx((1.38, 3.12))
    assert figure.get_suptitle() == "base on data"
    assert len(figure.axes) == (2 if metric == "anls" else 1)
    if metric == "anls":
        assert figure.axes[1].lines[0].get_xydata().tolist() == [[2, 0.1], [4, 0.6]]
    assert Image.open(path).size[0] == 840
