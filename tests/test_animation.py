"""Animations of a matplotlib figure."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image, ImageSequence

from mamp_mmaction.utils.animation import save_animation


@pytest.fixture
def figure():
    return Figure((2, 1), dpi=50)


def save(path, figure, num_frames=3, **options):
    """Frame i is grey of the level i / 2."""
    save_animation(
        path,
        figure,
        lambda frame: figure.set_facecolor(str(frame / 2)),
        num_frames,
        **options,
    )


def test_gif_has_the_frames_in_their_order_and_time(figure, tmp_path):
    path = tmp_path / 'new' / 'out.gif'
    save(path, figure, fps=20, dpi=40)
    with Image.open(path) as image:
        frames = [f.convert('L') for f in ImageSequence.Iterator(image)]
        assert image.size == (80, 40)
        assert image.info['duration'] == 50
    levels = [np.asarray(frame).mean() for frame in frames]
    np.testing.assert_allclose(levels, [0, 127, 255], atol=2)


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('out.mp4', r'out.mp4: .* needs the program ffmpeg.*ends in \.gif'),
        ('out.png', r"ends in \.gif or \.mp4; found the suffix '\.png'"),
    ],
)
def test_what_cannot_be_written_is_refused(
    name, message, figure, tmp_path, monkeypatch
):
    monkeypatch.setenv('PATH', str(tmp_path))
    with pytest.raises(ValueError, match=message):
        save(tmp_path / name, figure)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('frame', [0, 1])
def test_failure_leaves_the_old_file(figure, tmp_path, frame):
    path = tmp_path / 'out.gif'
    save(path, figure)
    old = path.read_bytes()
    with pytest.raises(ZeroDivisionError):
        save_animation(path, figure, lambda i: 1 / (i - frame), 3)
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]
