"""Animations: GIF files, and MP4 files where ffmpeg is installed."""

import subprocess
from collections.abc import Callable
from pathlib import Path

from .atomic import written_whole

SUFFIXES = ('.gif', '.mp4')
# Of a GIF, and frames that tell which ones.
NUM_COLORS, NUM_KEY_FRAMES = 255, 8


def check_animation_path(path: str | Path) -> None:
    """Check that an animation of this name can be written here.

    It may be asked before a long computation; :func:`save_animation` asks it
    itself, too.

    Args:
        path (str | Path): The file.

    Raises:
        ValueError: The suffix is neither ``.gif`` nor ``.mp4``, matplotlib is
            missing, or ffmpeg is, which an ``.mp4`` needs.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(
            f'{path}: an animation is a file that ends in .gif or .mp4; found '
            f'the suffix {path.suffix!r}.'
        )
    try:
        from matplotlib.animation import FFMpegWriter
    except ImportError:
        raise ValueError(
            f'{path}: an animation needs matplotlib: pip install matplotlib'
        ) from None
    if path.suffix.lower() == '.mp4' and not FFMpegWriter.isAvailable():
        raise ValueError(
            f'{path}: an MP4 file needs the program ffmpeg, which is not '
            'installed: install it (apt-get install ffmpeg, or conda install '
            'ffmpeg), or give a name that ends in .gif.'
        )


def save_animation(
    path: str | Path,
    figure: object,
    update: Callable[[int], object],
    num_frames: int,
    fps: float = 15,
    dpi: int = 80,
) -> None:
    """Write an animation of a figure.

    Args:
        path (str | Path): The file, ``.gif`` or ``.mp4``; on failure nothing
            is left under its name. Missing folders are made.
        figure (matplotlib.figure.Figure): The figure. One made by
            ``matplotlib.figure.Figure`` needs no window and no closing.
        update (Callable): Draws one frame into the figure, given its number
            from 0. What it returns is not used.
        num_frames (int): How many frames there are, at least one.
        fps (float): Frames a second. A GIF's frames last a whole number of
            hundredths of a second. Defaults to 15.
        dpi (int): Pixels an inch of the figure's size. Defaults to 80.

    Raises:
        ValueError: The file cannot be written here, as
            :func:`check_animation_path` says, or ffmpeg fails.
        OSError: The file cannot be written.
    """
    check_animation_path(path)
    from matplotlib.animation import FFMpegWriter, PillowWriter

    is_gif = Path(path).suffix.lower() == '.gif'
    writer = (PillowWriter if is_gif else FFMpegWriter)(fps=fps)
    # Else the writer's end, without a frame, would hide the first's error.
    update(0)
    with written_whole(path) as temporary:
        try:
            with writer.saving(figure, str(temporary), dpi):
                for frame in range(num_frames):
                    update(frame)
                    writer.grab_frame()
        except subprocess.CalledProcessError as error:
            raise ValueError(f'{path}: ffmpeg failed ({error}).') from error
        if is_gif:
            _share_palette(temporary)


def _share_palette(path: Path) -> None:
    """Give all frames of a GIF the same colours, without dithering.

    What stands still is then the same from frame to frame, and costs nothing:
    such files are half as large.
    """
    from PIL import Image, ImageSequence

    with Image.open(path) as file:
        options = dict(
            save_all=True, loop=0, duration=file.info.get('duration')
        )
        frames = [x.convert('RGB') for x in ImageSequence.Iterator(file)]
    keys = frames[:: -(-len(frames) // NUM_KEY_FRAMES)]
    width, height = keys[0].size
    every = Image.new('RGB', (width, height * len(keys)))
    for place, frame in enumerate(keys):
        every.paste(frame, (0, place * height))
    palette = every.quantize(NUM_COLORS)
    frames = [x.quantize(palette=palette, dither=0) for x in frames]
    frames[0].save(path, 'gif', append_images=frames[1:], **options)
