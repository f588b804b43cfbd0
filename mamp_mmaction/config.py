"""What configs call, :func:`use_dataset`, and how commands read configs."""

import copy
import difflib
import inspect
import logging
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from mmaction.utils import register_all_modules
from mmengine.config import Config, ConfigDict, DictAction
from mmengine.logging import print_log
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmengine.utils import import_modules_from_strings

from .compat.config_path import find_config
from .layouts import SkeletonLayout, get_layout

PARTS = ('train', 'val', 'test')
# What each data set of a union says for itself.
MEMBER = ('ann_file', 'stored_layout', 'split')
# What is a number or a word of the mask.
MASK = ('mask_ratio', 'tau', 'tube', 'part')
# What else the toolbox reads of a config than its runner's arguments.
SETTINGS = (
    *('custom_imports', 'test_pipeline', 'runner_type', 'compile'),
    *('vis_backends', 'model_layout'),
    *('activation_checkpointing', 'efficient_conv_bn_eval', 'sync_bn'),
    *('find_unused_parameters', 'model_wrapper_cfg', 'gpu_ids'),
    'begin_from',  # what the launcher makes of load_from beside --resume
)
CONFIG_FILES = ('.py', '.yml', '.yaml', '.json')
COUNTS = ('num_classes', 'num_frames', 'num_person', 'min_crop_frames', 'tube')
WORDS = dict(
    channels=('xyz', 'xyz+score', 'xy', 'xy+score'),
    fill=('zero', 'loop'),
    center=(True, False),
    masked=(True, False, 'train'),
)


@dataclass(frozen=True)
class DatasetOptions:
    """What one data set has of its own; None keeps what the config has.

    Attributes:
        ann_file (str): The annotation file.
        num_classes (int): The number of its classes.
        layout (str): Name of the skeleton (:mod:`mamp_mmaction.layouts`),
            which says how many joints there are, which one is the origin and
            what the bones and the graph are.
        stored_layout (str): Name of the skeleton in the annotation file
            where that is another, of which :class:`MapJoints` makes
            ``layout``. Where the inherited config maps joints already, its
            ``layout`` need not be repeated.
        union (Sequence[dict]): Several data sets for one training, each a
            ``dict(ann_file=, stored_layout=, split=)``. Their classes, if
            they are to be learned, must be the same.
        split (str | tuple[str, str]): ``'xsub'`` for the splits
            ``xsub_train`` and ``xsub_val``, or the two names.
        num_frames (int): Frames of a clip, T.
        num_person (int): Persons of a sample, M.
        fill (str): What stands for persons that a sample lacks: ``'zero'``,
            or ``'loop'`` for those that are there once more.
        center (bool): Whether the layout's origin joint becomes the origin.
        min_crop_frames (int): Frames that a training crop keeps at least.
        max_angle (float | Sequence[float]): Radians that training samples
            are turned by at most; or one number for each of x, y and z.
        channels (str): ``'xyz'``, or ``'xy'`` for pixels of an image, which
            are scaled to it and not rotated; ``+score`` keeps the confidence
            as a further channel, which is neither masked by nor predicted.
        mask_ratio (float): Share of the tokens that is masked, where the
            recipe masks.
        tau (float): Temperature of the mask, where the recipe masks.
        tube (int): Segments of a joint that are masked together, where the
            recipe masks.
        part (str): What is masked together, where the recipe masks:
            ``'joint'``, or ``'limb'``, which needs ``layout``.
        masked (bool | str): Whether the samples get a mask; ``'train'`` for
            those of training alone.
        stream (str): Stream of :class:`SkeletonStream`; needs ``layout``.
        imports (Sequence[str]): Modules of yours to import first, such as
            the one that registers the layout.
    """

    ann_file: str | None = None
    num_classes: int | None = None
    layout: str | None = None
    stored_layout: str | None = None
    union: Sequence[dict] | None = None
    split: str | Sequence[str] | None = None
    num_frames: int | None = None
    num_person: int | None = None
    fill: str | None = None
    center: bool | None = None
    min_crop_frames: int | None = None
    max_angle: float | Sequence[float] | None = None
    channels: str | None = None
    mask_ratio: float | None = None
    tau: float | None = None
    tube: int | None = None
    part: str | None = None
    masked: bool | str | None = None
    stream: str | None = None
    imports: Sequence[str] = ()

    def __post_init__(self) -> None:
        for key in COUNTS:
            value = getattr(self, key)
            if value is not None and (type(value) is not int or value < 1):
                raise ValueError(
                    f'{key}={value!r}: expected an integer of 1 or more.'
                )
        for key, known in WORDS.items():
            if getattr(self, key) not in (None, *known):
                raise ValueError(
                    f'{key}={getattr(self, key)!r} is none of {known}.'
                )
        if isinstance(self.imports, str):
            raise ValueError(
                f'imports={self.imports!r}: expected a list of modules, such '
                f'as [{self.imports!r}].'
            )
        limb = self.part == 'limb'
        if self.layout is None and (self.stream or self.center or limb):
            raise ValueError(
                f'stream={self.stream!r}, center={self.center} and '
                f"part={self.part!r} need the layout's name, which says what "
                'the bones, the origin and the limbs are.'
            )
        for member in self.union or ():
            if set(member) != set(MEMBER):
                raise ValueError(
                    f'union has the member {dict(member)}: expected a dict '
                    f'of {", ".join(MEMBER)}.'
                )
        outside = [key for key in MEMBER if getattr(self, key) is not None]
        if self.union and outside:
            raise ValueError(
                f'{" and ".join(outside)} stands beside union, whose members '
                'have their own.'
            )
        if self.split is not None and len(self.splits) != 2:
            raise ValueError(
                f"split={self.split!r} must be a name, such as 'xsub' for "
                'xsub_train and xsub_val, or the names of the two splits.'
            )

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits of training and of validation."""
        if isinstance(self.split, str):
            return f'{self.split}_train', f'{self.split}_val'
        return tuple(self.split)

    @property
    def in_channels(self) -> int:
        """Numbers per joint and frame, C."""
        return self.num_coords + self.channels.endswith('+score')

    @property
    def num_coords(self) -> int:
        """Coordinates among them."""
        return len(self.channels.partition('+')[0])


def use_dataset(cfg: ConfigDict, **options) -> None:
    """Put a data set into a config: loaders, pipelines and model follow.

    A config calls it below ``_base_`` on what it inherits::

        _base_ = ['./mine.py', 'mamp_mmaction::_base_/mamp_pretrain.py']

        from mamp_mmaction.config import use_dataset

        use_dataset(_base_, split='xview')

    where ``mine.py`` says ``dataset = dict(ann_file=..., num_classes=...,
    layout=...)``. What neither says stays as it is, so that a child of any
    config of this project can change the data set, or a part of it. The
    call's own lines come before those of the config.

    Args:
        cfg (ConfigDict): The inherited config, which is changed: loaders of
            :class:`SkeletonDataset` (mmengine's ``ConcatDataset`` of them for
            a union), ``test_pipeline``, which of a union is for skeletons of
            ``layout``, ``model``, and ``model_layout``, the name of
            ``layout``, for inference. Its variable ``dataset`` is used up.
        options: Attributes of :class:`DatasetOptions`; they go before those
            of ``dataset``.

    Raises:
        ValueError: If an option is unknown or wrong, or the config has
            nothing that could take it.
    """
    given = {**cfg.pop('dataset', {}), **options}
    known = [field.name for field in fields(DatasetOptions)]
    for name in given:
        if name not in known:
            raise ValueError(
                f'use_dataset knows no option {name!r}; it knows '
                f'{", ".join(known)}.'
            )
    data = DatasetOptions(**given)
    if data.imports:
        import_modules_from_strings(list(data.imports))
        imports = cfg.custom_imports.imports
        imports.extend(name for name in data.imports if name not in imports)
    layout = data.layout and get_layout(data.layout)
    _check_complete(cfg, data)
    steps = set()
    for part in PARTS:
        for dataset, its in _members(cfg, part, data):
            _set_loader(dataset, its, layout, part)
            if part == 'train':
                steps.update(step.type for step in dataset.pipeline)
    unmasked = set(MASK).intersection(options)
    if unmasked and 'MotionAwareMask' not in steps:
        raise ValueError(
            f'{" and ".join(sorted(unmasked))} would change nothing: the '
            'inherited pipeline has no mask. Add masked=True.'
        )
    tested = cfg.test_dataloader.dataset
    cfg.test_pipeline = copy.deepcopy(
        tested.get('datasets', [tested])[0].pipeline
    )
    if 'datasets' in tested:
        _drop(cfg.test_pipeline, 'MapJoints')
    if layout is not None:
        cfg.model_layout = data.layout
    if 'model' in cfg:
        _fit_model(cfg.model, data, layout)


def _check_complete(cfg: ConfigDict, data: DatasetOptions) -> None:
    """A recipe's first data set must be described as far as recipes need."""
    train = cfg.get('train_dataloader', {}).get('dataset', {})
    needed = ('num_classes', 'layout', 'split')
    if data.union:
        needed = (
            needed[:2] if 'cls_head' in cfg.get('model', {}) else ('layout',)
        )
    elif data.ann_file is None or 'ann_file' in train or 'datasets' in train:
        return
    lacking = [name for name in needed if getattr(data, name) is None]
    if lacking:
        what = 'union' if data.union else f'data set {data.ann_file!r}'
        raise ValueError(
            f'the {what} lacks {" and ".join(lacking)}: '
            'give it to use_dataset or in the variable `dataset`.'
        )


def _members(
    cfg: ConfigDict, part: str, data: DatasetOptions
) -> list[tuple[ConfigDict, DatasetOptions]]:
    """The data sets of one loader, each with its options."""
    loader = cfg.get(f'{part}_dataloader', {})
    dataset = loader.get('dataset', {})
    members = dataset.get('datasets', [dataset])
    if 'pipeline' not in members[0]:
        raise ValueError(
            f'use_dataset found no {part}_dataloader with a pipeline in '
            'the inherited config: inherit a recipe, such as '
            "'mamp_mmaction::_base_/mamp_linear.py'."
        )
    if data.union:
        members[0].pop('num_classes', None)
        loader.dataset = ConfigDict(
            type='ConcatDataset',
            ignore_keys=['classes'],
            datasets=[copy.deepcopy(members[0]) for _ in data.union],
        )
        options = [replace(data, union=None, **its) for its in data.union]
        return list(zip(loader.dataset.datasets, options))
    if data.ann_file is not None:
        if 'datasets' in dataset and not (data.stored_layout or data.layout):
            raise ValueError(
                'the inherited config is a union of data sets, whose files '
                'hold different joints: say by stored_layout which are in '
                f'{data.ann_file!r}, or by layout if the model is to have '
                'them too.'
            )
        loader.dataset = members[0]
        members = [loader.dataset]
    return [(member, data) for member in members]


def _given(**values) -> dict:
    return {key: v for key, v in values.items() if v is not None}


def _set_loader(
    dataset: ConfigDict,
    data: DatasetOptions,
    layout: SkeletonLayout | None,
    part: str,
) -> None:
    """Set one loader's data set and the numbers of its pipeline."""
    dataset.update(
        _given(ann_file=data.ann_file, num_classes=data.num_classes)
    )
    if data.split is not None:
        dataset.split = data.splits[part != 'train']
    pipeline = dataset.pipeline
    _map_joints(pipeline, data)
    # What is there, or not, at all.
    if data.channels is not None:
        turn = [step for step in pipeline if step.type == 'RandomRotate3D']
        _drop(pipeline, 'ScaleToImage', 'RandomRotate3D', 'DropScore')
        if data.num_coords == 2:
            pipeline.insert(0, ConfigDict(type='ScaleToImage'))
        elif part == 'train':
            step = turn[0] if turn else dict(type='RandomRotate3D')
            _insert(pipeline, step, 'FormatGCNInput')
        if not data.channels.endswith('+score'):
            _insert(pipeline, dict(type='DropScore'), 'FormatGCNInput')
    if data.stream is not None:
        _drop(pipeline, 'SkeletonStream')
        if data.stream != 'joint':
            stream = dict(type='SkeletonStream', stream=data.stream)
            _insert(pipeline, stream, 'FormatGCNInput')
    if data.masked is not None:
        _drop(pipeline, 'MotionAwareMask')
        if data.masked is True or data.masked == part:
            mask = dict(type='MotionAwareMask', mask_ratio=0.9, tau=0.8)
            seed = {} if part == 'train' else dict(seed=0)
            _insert(pipeline, {**mask, **seed}, 'PackActionInputs')
    # Then its numbers.
    if layout is not None or data.center is not None:
        step = _find(pipeline, 'CenterSkeleton')
        center = data.center
        if center is None:
            center = step.get('center_joint', layout.origin) is not None
        step.center_joint = layout.origin if center else None
    least = data.min_crop_frames
    crop = _given(num_frames=data.num_frames, min_crop_frames=least)
    form = _given(num_person=data.num_person, mode=data.fill)
    turn = _given(max_angle=data.max_angle) if part == 'train' else {}
    for kind, values in dict(
        TemporalCropResize=crop, FormatGCNInput=form, RandomRotate3D=turn
    ).items():
        if values:
            _find(pipeline, kind).update(values)
    for step in pipeline:
        if step.type == 'SkeletonStream':
            step.update(_given(layout=data.layout))
        elif step.type == 'MotionAwareMask':
            step.update(_given(**{key: getattr(data, key) for key in MASK}))
            if step.get('part') == 'limb':
                step.update(_given(layout=data.layout))
            _set_num_coords(step, data)


def _map_joints(pipeline: list, data: DatasetOptions) -> None:
    """Let a pipeline begin with the step from the stored to the layout."""
    old = next((step for step in pipeline if step.type == 'MapJoints'), None)
    source, target = data.stored_layout, data.layout
    if old is not None:
        if target is None or data.ann_file is None:
            source = source or old.source
        target = target or old.target
    _drop(pipeline, 'MapJoints')
    if source is None:
        return
    if target is None:
        raise ValueError(
            f'stored_layout={source!r} needs `layout`, the name of the '
            'skeleton that the model gets.'
        )
    step = dict(type='MapJoints', source=source, target=target)
    pipeline.insert(0, ConfigDict(step))


def _fit_model(
    model: ConfigDict, data: DatasetOptions, layout: SkeletonLayout | None
) -> None:
    """Set what a model has to know of its data."""
    size = _given(
        num_frames=data.num_frames,
        num_joints=layout and layout.num_joints,
    )
    backbone = model.backbone
    sized = [backbone]
    if 'graph_cfg' in backbone:
        # A graph convolution; the decoder cannot ask it for its size.
        sized = [model[key] for key in ('neck', 'motion_neck') if key in model]
        if layout is not None:
            backbone.graph_cfg.layout = layout.graph()
        if 'num_person' in backbone:
            backbone.update(_given(num_person=data.num_person))
    for module in sized:
        module.update(size)
    if data.channels is not None:
        for module in {id(m): m for m in (backbone, *sized)}.values():
            if module.get('in_channels', 3) != data.in_channels:
                module.in_channels = data.in_channels
    for key in ('head', 'motion_head'):
        if key in model:
            _set_num_coords(model[key], data)
    if backbone.type == 'MAMPTransformer':
        _set_num_coords(backbone, data)
    if 'cls_head' in model:
        model.cls_head.update(_given(num_classes=data.num_classes))
        if model.cls_head.type == 'MAMPFinetuneHead' and layout is not None:
            model.cls_head.num_joints = layout.num_joints


def _set_num_coords(module: ConfigDict, data: DatasetOptions) -> None:
    """Tell a component that not all channels are coordinates."""
    if data.channels is None:
        return
    module.pop('num_coords', None)
    if data.num_coords < data.in_channels:
        module.num_coords = data.num_coords


def _find(pipeline: list, kind: str) -> ConfigDict:
    for step in pipeline:
        if step.type == kind:
            return step
    raise ValueError(
        f'use_dataset found no {kind} in the inherited pipeline '
        f'{[step.type for step in pipeline]} to set.'
    )


def _insert(pipeline: list, step: dict, before: str) -> None:
    place = pipeline.index(_find(pipeline, before))
    pipeline.insert(place, ConfigDict(step))


def _drop(pipeline: list, *kinds: str) -> None:
    pipeline[:] = [step for step in pipeline if step.type not in kinds]


def check_settings(cfg: ConfigDict) -> None:
    """Refuse variables of a config that look like settings, but set nothing.

    Others that nothing reads, such as ``load_form``, are warned of.

    A name such as ``ann_file`` or ``num_classes`` at the top level of a
    config is no more than a variable. It is refused where model and loaders
    have that name too, and only with other values, and where it is an option
    of :func:`use_dataset` that nobody has.

    Args:
        cfg (ConfigDict): A whole config.

    Raises:
        ValueError: If there is such a variable; it is named.
    """
    read = {*inspect.signature(Runner).parameters, *SETTINGS}
    options = {field.name for field in fields(DatasetOptions)}
    parts = [cfg.get('model')] + [cfg.get(f'{p}_dataloader') for p in PARTS]
    for name, value in cfg.items():
        if name in read:
            continue
        key = 'pipeline' if name.endswith('_pipeline') else name
        used = list(_values(parts, key))
        if (used or name in options) and value not in used:
            there = f'{key}={used[0]!r}' if used else f'no {key}'
            raise ValueError(
                f'{name}={value!r} at the top level of the config changes '
                f'nothing: model and loaders have {there}. Call '
                'mamp_mmaction.config.use_dataset(_base_, ...) in the config, '
                'or name the whole path, such as '
                'train_dataloader.dataset.ann_file; a variable of your own '
                'needs another name.'
            )
        others = {key: x for key, x in cfg.items() if key != name}
        if not used and value not in _values(others):
            close = difflib.get_close_matches(name, read, n=1)
            print_log(
                f'{name}={value!r} at the top level of the config is no '
                'setting, and nothing has its value'
                + (f': did you mean {close[0]!r}?' if close else '.'),
                logger='current',
                level=logging.WARNING,
            )


def _values(node, key: str | None = None) -> Iterator:
    """All values under this key, or any, at any depth."""
    if isinstance(node, dict):
        if key is None:
            yield from node.values()
        elif key in node:
            yield node[key]
        node = node.values()
    if not isinstance(node, str) and hasattr(node, '__iter__'):
        for child in node:
            yield from _values(child, key)


def load_config(
    path: str | Path, options: Sequence[str] = (), needed: Sequence[str] = ()
) -> Config:
    """Read a config, with the settings of a command line.

    Its scope becomes the default one, and all of the toolbox is registered.

    Args:
        path (str | Path): The file, or ``mamp_mmaction::`` or ``mmaction::``
            and its path among the configs of the package.
        options (Sequence[str]): ``KEY=VALUE``, which replace settings of the
            config. Defaults to none.
        needed (Sequence[str]): What it has to have. Defaults to nothing.

    Returns:
        Config: The config.

    Raises:
        OSError: There is no such file.
        ValueError: It is no config by its name, or lacks something needed.
    """
    if Path(path).suffix not in CONFIG_FILES:
        raise ValueError(f'{path} is no config, expected a .py file.')
    # The toolbox's engine too, whose initialisers some of its models name.
    register_all_modules(init_default_scope=False)
    cfg = Config.fromfile(find_config(str(path)))
    if options:
        parser = ArgumentParser()
        parser.add_argument('--cfg-options', nargs='+', action=DictAction)
        read = parser.parse_args(['--cfg-options', *options])
        cfg.merge_from_dict(read.cfg_options)
    for part in needed:
        if not cfg.get(part):
            raise ValueError(f'{path} has no {part}.')
    init_default_scope(cfg.get('default_scope') or 'mmaction')
    return cfg
