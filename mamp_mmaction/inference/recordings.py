"""Skeleton files of every known kind, read as samples of a data set."""

from collections.abc import Callable
from dataclasses import InitVar, dataclass
from pathlib import Path

import numpy as np

from ..datasets.annotation_file import (
    check_annotation,
    read_annotations,
    sample_names,
)
from ..datasets.class_names import CLASS_NAMES
from ..datasets.conversion import RawFile, make_annotation
from ..datasets.raw_files import (
    arrays,
    msr_action3d,
    ntu_rgbd,
    nw_ucla,
    openpose,
    pku_mmd,
    utd_mhad,
)
from ..datasets.sample_name import sample_name
from ..layouts import LAYOUTS, load_layout

# What a sample needs to be recognised.
KEYS = ('keypoint', 'total_frames')


@dataclass
class Recording:
    """One skeleton sequence to be recognised.

    Attributes:
        sample (dict): An annotation (:mod:`mamp_mmaction.datasets
            .annotation_file`), ``keypoint`` (M, T, V, C) and all that the
            pipeline takes beside it. Its ``label``, if any, is not used.
        where (str): File, and perhaps sample, to begin an error's message.
        layout (str, optional): Name of the layout of its joints. Defaults to
            None, unknown.
        true_class (str | int, optional): Name of its class, or the label
            where its classes have no names. Defaults to None, unknown.

    Args:
        image_size (tuple[int, int], optional): Width and height in pixels, of
            a sample in 2D that has no ``img_shape``. Defaults to None.
    """

    sample: dict
    where: str
    layout: str | None = None
    true_class: str | int | None = None
    image_size: InitVar[tuple[int, int] | None] = None

    def __post_init__(self, image_size: tuple[int, int] | None) -> None:
        if isinstance(self.sample, dict):  # the check may change it
            self.sample = dict(self.sample)
        check_annotation(self.sample, self.where, keys=KEYS)
        if (
            image_size
            and self.sample['keypoint'].shape[3] == 2
            and self.sample.get('img_shape') is None
        ):
            self.sample['img_shape'] = (image_size[1], image_size[0])

    @property
    def name(self) -> str:
        """Name of the sample."""
        return self.sample.get('frame_dir', self.where)

    def cut(self, start: int, stop: int) -> 'Recording | None':
        """Return the frames from one to before another.

        Args:
            start (int): The first frame.
            stop (int): The frame after the last.

        Returns:
            Recording: A part of this one; None where nobody is in it.
        """
        sample = dict(self.sample)
        for key in ('keypoint', 'keypoint_score'):
            if key in sample:
                sample[key] = sample[key][:, start:stop]
        if not sample['keypoint'].any():
            return None
        sample['total_frames'] = sample['keypoint'].shape[1]
        return Recording(sample, self.where, self.layout, self.true_class)


def _read_pku(path: Path) -> RawFile:
    persons = pku_mmd.read_frames(path)
    persons = persons[persons.any(axis=(1, 2, 3))]
    return RawFile([make_annotation(path.stem, 0, persons)])


# (what names end in, how they are read, layout, classes)
_RELEASES: tuple[tuple[str, Callable, str, str | None], ...] = (
    ('.skeleton', ntu_rgbd.read_sequence, 'nturgb+d', 'ntu120'),
    (
        msr_action3d.SUFFIX,
        msr_action3d.read_sequence,
        'msr_action3d',
        'msr_action3d',
    ),
    ('.json', nw_ucla.read_sequence, 'nw_ucla', 'nw_ucla'),
    ('.mat', utd_mhad.read_sequence, 'utd_mhad', 'utd_mhad'),
    ('.txt', _read_pku, 'nturgb+d', None),
)
_ENDINGS = (*(ending for ending, *_ in _RELEASES), *arrays.SUFFIXES)
KINDS = (
    f'files that end in {", ".join(_ENDINGS)}, and folders of '
    f'{openpose.PATTERN}; an annotation file (.pkl) by itself'
)


def find_recordings(path: Path) -> list[Path]:
    """List what :func:`read_recordings` is to read.

    Args:
        path (Path): A file; a folder of OpenPose's JSON files, which is one
            recording; or any other folder, which is searched in depth.

    Returns:
        list[Path]: Files and folders, sorted.

    Raises:
        OSError: There is nothing of this name, or no recording in it.
    """
    if not path.exists():
        raise FileNotFoundError(f'{path}: there is no such file or folder.')
    if not path.is_dir() or _is_openpose(path):
        return [path]
    found = [
        inner
        for inner in sorted(path.rglob('*'))
        if (
            _is_openpose(inner)
            if inner.is_dir()
            else inner.name.endswith(_ENDINGS)
            and not inner.match(openpose.PATTERN)
        )
    ]
    if not found:
        raise FileNotFoundError(f'{path}: holds no recordings: no {KINDS}.')
    return found


def _is_openpose(path: Path) -> bool:
    return path.is_dir() and any(path.glob(openpose.PATTERN))


def read_recordings(
    path: str | Path,
    layout: str | None = None,
    image_size: tuple[int, int] | None = None,
    samples: list[str] | None = None,
    on_fault: Callable[[ValueError], None] | None = None,
) -> list[Recording]:
    """Read the recordings of one file, by its ending.

    Args:
        path (str | Path): A file of NTU RGB+D (``.skeleton``), PKU-MMD
            (``.txt``), MSR-Action3D (``_skeleton3D.txt``), Northwestern-UCLA
            (``.json``) or UTD-MHAD (``.mat``); an array (:mod:`mamp_mmaction
            .datasets.raw_files.arrays`); an annotation file (``.pkl``), which
            holds several; or a folder of OpenPose's JSON files.
        layout (str, optional): Name of the layout of the joints, or a Python
            file that registers it. Defaults to None, what the file tells.
        image_size (tuple[int, int], optional): Width and height in pixels,
            for 2D that does not tell. Defaults to None.
        samples (list[str], optional): Names of those wanted of an annotation
            file. Defaults to None, all.
        on_fault (Callable, optional): Is given the error on each broken
            sample of an annotation file, which is left out. Defaults to
            None, the first one is raised.

    Returns:
        list[Recording]: Each with the layout given, or that of its format, if
        it has one. At least one, unless ``on_fault`` was given all.

    Raises:
        ValueError: The file is of another form, or nobody is in it.
        OSError: It cannot be read.
    """
    path = Path(path)
    given = layout and load_layout(layout)
    if path.suffix == '.pkl':
        name = given and given.name
        return _read_annotations(path, name, image_size, samples, on_fault)
    if samples:
        raise ValueError(
            f'{path}: only an annotation file (.pkl) has samples by name.'
        )
    true_class = None
    if path.is_dir():
        content = openpose.read_sequence(path, image_size)
        joints = content.annotations[0]['keypoint'].shape[2]
        known = openpose.LAYOUTS.get(joints)
    elif path.suffix in arrays.SUFFIXES:
        if path.suffix == '.csv':
            given = given or _layout_of_names(path)
        known = None
        content = arrays.read_sequence(
            path,
            path.stem,
            0,
            given,
            arrays.guess_channels(path, given, image_size),
            image_size,
        )
    else:
        read, known, classes = next(
            (kind for end, *kind in _RELEASES if path.name.endswith(end)),
            (None, None, None),
        )
        if read is None:
            raise ValueError(f'{path}: is no recording, expected {KINDS}.')
        content = read(path)
        if classes and content.annotations:
            true_class = CLASS_NAMES[classes][content.annotations[0]['label']]
    if not content.annotations:
        raise ValueError(f'{path}: {content.left_out[0]}.')
    known = given.name if given else known
    return [
        Recording(annotation, f'{path}', known, true_class)
        for annotation in content.annotations
    ]


def _read_annotations(
    path: Path,
    layout: str | None,
    image_size: tuple[int, int] | None,
    names: list[str] | None,
    on_fault: Callable[[ValueError], None] | None,
) -> list[Recording]:
    content = read_annotations(path)
    classes = None
    if isinstance(content, dict):
        classes = content.get('classes')
        content = content['annotations']
    if names:
        by_name = dict(zip(sample_names(content, f'{path}'), content))
        lacking = [name for name in names if name not in by_name]
        if lacking:
            raise ValueError(
                f'{path}: has no sample {lacking[0]!r}; its samples are such '
                f'as {list(by_name)[:3]}.'
            )
        content = [by_name[name] for name in names]
    if not content:
        raise ValueError(f'{path}: holds no annotations.')
    recordings = []
    for index, sample in enumerate(content):
        where = f'{path}: sample {index}'
        try:
            if isinstance(sample, dict):
                where = f'{path}: {sample_name(sample, index)}'
            check_annotation(
                sample, where, classes and len(classes), keys=KEYS
            )
        except ValueError as error:
            if on_fault is None:
                raise
            on_fault(error)
            continue
        label = sample.get('label')
        if classes and label is not None:
            label = classes[label]
        recordings.append(Recording(sample, where, layout, label, image_size))
    return recordings


def _layout_of_names(path: Path):
    """Return a known layout of the joints that a CSV file names.

    Of several the order does not matter: joints are read by their names.
    """
    names = arrays.named_joints(path)
    for layout in LAYOUTS.values():
        if set(names) == set(layout.joint_names):
            return layout
    raise ValueError(
        f'{path}: its columns name {len(names)} joints, such as {names[:3]}, '
        'which no known layout has; give theirs by --layout.'
    )


def as_recording(
    source: 'np.ndarray | dict | Recording',
    index: int,
    layout: str | None,
    image_size: tuple[int, int] | None = None,
) -> Recording:
    """Return an array or an annotation as a recording.

    Args:
        source (np.ndarray | dict | Recording): An array (T, V, C) or
            (M, T, V, C), or an annotation. With ``image_size`` three numbers
            a joint of an array are x, y and a score.
        index (int): Its place among the inputs, which names an array.
        layout (str, optional): Name of its layout, if it has none.
        image_size (tuple[int, int], optional): Width and height in pixels,
            for 2D that does not tell. Defaults to None.

    Raises:
        ValueError: It is of another form.
    """
    if isinstance(source, Recording):
        return source
    where = f'input {index}'
    if isinstance(source, np.ndarray):
        if source.ndim not in (3, 4):
            raise ValueError(
                f'{where} is an array of the shape {source.shape}, expected '
                '(frames, joints, coordinates) or (persons, frames, joints, '
                'coordinates).'
            )
        keypoint, more = source if source.ndim == 4 else source[None], {}
        if image_size and keypoint.shape[3] == 3:  # as in files
            more['keypoint_score'] = keypoint[..., 2]
            keypoint = keypoint[..., :2]
        source = make_annotation(where, 0, keypoint, **more)
        del source['label']
    if not isinstance(source, dict):
        raise ValueError(
            f'{where} is a {type(source).__name__}, expected an array, an '
            'annotation or the path of a file.'
        )
    if 'frame_dir' in source:
        where = sample_name(source)
    return Recording(source, where, layout, image_size=image_size)
