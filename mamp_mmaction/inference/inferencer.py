"""The inferencer of skeleton recognisers."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn as nn
from mmaction.registry import INFERENCERS
from mmengine.config import Config, ConfigDict
from mmengine.dataset import Compose
from mmengine.infer import BaseInferencer
from mmengine.registry import init_default_scope

from ..config import load_config
from ..datasets.annotation_file import MAX_BODY, MIN_BODY, body_size
from ..datasets.class_names import CLASS_NAMES
from ..datasets.transforms import MapJoints
from ..evaluation.extraction import unwrap_dataset
from ..layouts import (
    LAYOUTS,
    SkeletonLayout,
    get_layout,
    joint_indices,
    load_layout,
)
from ..models.state_dict_checks import TEMPORAL_EMBED
from ..utils import usable_device
from ..utils.pictures import is_image
from .recordings import Recording, as_recording, read_recordings

# Steps that only 2D, or only 3D, skeletons pass.
IMAGE_STEPS = {'ScaleToImage', 'PreNormalize2D', 'GeneratePoseTarget'}
SPACE_STEPS = {'PreNormalize3D', 'RandomRotate3D'}


@dataclass
class Window:
    """What a model says of a part of a recording.

    Attributes:
        start (int): The first frame, from 0.
        stop (int): The frame after the last.
        scores (np.ndarray, optional): Probabilities of the classes; None
            where nobody is in these frames.
    """

    start: int
    stop: int
    scores: np.ndarray | None


@INFERENCERS.register_module()
class SkeletonInferencer(BaseInferencer):
    """Recognise actions in skeleton sequences.

    It takes the config of any recogniser of skeletons, of this package or
    the toolbox, runs the config's test pipeline, and gives probabilities::

        inferencer = SkeletonInferencer('config.py', 'epoch_100.pth')
        inferencer('S001C001P001R001A001.skeleton')['predictions'][0]

    Args:
        model (str | Config): The config, or its path, which may begin with
            ``mamp_mmaction::`` or ``mmaction::``.
        weights (str): Path or URL of the checkpoint, which is read without
            running anything in it.
        device (str, optional): Such as ``'cpu'`` or ``'cuda:0'``. Defaults
            to None, an accelerator where there is one.
        classes (Sequence[str], optional): The names of the classes. Defaults
            to None: those of the checkpoint's data set, else of the config's
            (``metainfo``), else of the data set that its annotation file is
            named after; else numbers.
        check_units (bool): Refuse skeletons in 3D that cannot be in metres.
            Defaults to True.

    Attributes:
        classes (list[str]): The names of the classes.
        layout (SkeletonLayout | None): What the model takes, if it is known:
            by the config's ``model_layout`` (which :func:`mamp_mmaction
            .config.use_dataset` writes), its ``MapJoints`` or its graph.
        stored_layout (SkeletonLayout | None): What skeletons have that do
            not tell, as the config's own data set.
        num_joints (int | None): Joints that the model takes, if it is known.

    Raises:
        ValueError: The config is of no recogniser, the weights do not fit, or
            the names do not fit the classes.
        OSError: A file is missing.
        CheckpointError: The checkpoint is none, or would run code.
    """

    preprocess_kwargs = {'layout', 'image_size'}  # noqa: RUF012

    def __init__(
        self,
        model: str | Config,
        weights: str,
        device: str | None = None,
        classes: Sequence[str] | None = None,
        check_units: bool = True,
    ) -> None:
        cfg = load_config(str(model)) if _is_path(model) else model
        init_default_scope(cfg.get('default_scope') or 'mmaction')
        if 'cls_head' not in cfg.get('model', {}):
            raise ValueError(
                f'{getattr(cfg, "filename", None) or "the config"} has no '
                'model with a cls_head: give the config of a recogniser, such '
                'as one of fine-tuning.'
            )
        self.check_units = check_units
        self._given_classes = classes
        super().__init__(
            cfg, str(weights), usable_device(device), show_progress=False
        )
        self._find_layouts(self._dataset_cfg(self.cfg))

    # What BaseInferencer leaves to its subclasses

    def _init_visualizer(self, cfg: ConfigDict) -> None:
        return None

    def _init_pipeline(self, cfg: ConfigDict) -> Compose:
        dataset = self._dataset_cfg(cfg)
        # Joints are mapped by the layout of each recording instead.
        return Compose(
            [s for s in dataset.pipeline if s['type'] != 'MapJoints']
        )

    @staticmethod
    def _dataset_cfg(cfg: ConfigDict) -> ConfigDict:
        dataset = cfg.get('test_dataloader', {}).get('dataset')
        if dataset is None:
            raise ValueError(
                'The config has no test_dataloader, whose pipeline is needed.'
            )
        dataset = unwrap_dataset(dataset)
        return dataset.get('datasets', [dataset])[0]

    def _load_weights_to_model(
        self, model: nn.Module, checkpoint: dict, cfg: ConfigDict
    ) -> None:
        weights = checkpoint.get('state_dict', checkpoint)
        weights = {k.removeprefix('module.'): v for k, v in weights.items()}
        own = model.state_dict()
        wrong = [
            f'{key}: {tuple(weights[key].shape)} in the checkpoint, '
            f'{tuple(value.shape)} in the model'
            for key, value in own.items()
            if key in weights
            and weights[key].shape != value.shape
            and not key.endswith(TEMPORAL_EMBED)  # it is interpolated
        ]
        wrong += [f'missing {key}' for key in own if key not in weights]
        if wrong:
            raise ValueError(
                f"The checkpoint does not fit the config's "
                f'{type(model).__name__} ({"; ".join(wrong[:3])}'
                f'{f"; and {len(wrong) - 3} more" if wrong[3:] else ""}): '
                'give the config and the checkpoint of one recogniser.'
            )
        model.load_state_dict(weights, strict=False)
        meta = checkpoint.get('meta', {}).get('dataset_meta') or {}
        self.classes = self._find_classes(cfg, meta.get('classes'))

    def _find_classes(
        self, cfg: ConfigDict, stored: Sequence[str] | None
    ) -> list[str]:
        dataset = self._dataset_cfg(cfg)
        count = cfg.model.cls_head.num_classes
        for what, classes in (
            ('the names given', self._given_classes),
            ("the checkpoint's data set", stored),
            (
                "the config's metainfo",
                dataset.get('metainfo', {}).get('classes'),
            ),
        ):
            if classes is None:
                continue
            if len(classes) != count:
                raise ValueError(
                    f'{what} names {len(classes)} classes, but the head has '
                    f'num_classes={count}: give as many names, one a line, '
                    'by --classes FILE.'
                )
            return [str(name) for name in classes]
        file = Path(str(dataset.get('ann_file', ''))).name
        for name, classes in CLASS_NAMES.items():
            if file.startswith(name) and len(classes) == count:
                return list(classes)
        return [str(label) for label in range(count)]

    def _find_layouts(self, dataset: ConfigDict) -> None:
        model, steps = self.cfg.model.get('backbone', {}), dataset.pipeline
        mapped = [step for step in steps if step['type'] == 'MapJoints']
        graph = model.get('graph_cfg', {}).get('layout')
        name = self.cfg.get('model_layout')
        if mapped:
            name = mapped[0].target
        elif name is None and graph is not None:
            name = _layout_of_graph(graph)
        self.layout = name and get_layout(name)
        self.stored_layout = (
            get_layout(mapped[0].source) if mapped else self.layout
        )
        if self.layout:
            self.num_joints = self.layout.num_joints
        elif isinstance(graph, dict):
            self.num_joints = graph['num_node']
        else:
            self.num_joints = model.get('num_joints')
            if any(step['type'] == 'GeneratePoseTarget' for step in steps):
                # Of PoseC3D a channel is a joint.
                self.num_joints = model.get('in_channels')

    # From inputs to predictions

    def __call__(
        self,
        inputs: object,
        return_datasamples: bool = False,
        batch_size: int = 1,
        layout: str | None = None,
        image_size: tuple[int, int] | None = None,
    ) -> dict:
        """Recognise what is in some skeletons.

        Args:
            inputs (object): One input or a list of them: paths of files that
                :func:`read_recordings` knows; arrays (T, V, C) or (M, T, V,
                C); annotations; or what :func:`read_recordings` gave.
            return_datasamples (bool): Give ``ActionDataSample`` rather than
                dicts. Defaults to False.
            batch_size (int): How many are computed at once. Defaults to 1.
            layout (str, optional): Layout of the inputs, or a Python file
                that registers it. Defaults to None, what a file tells, else
                that of the config's data set.
            image_size (tuple[int, int], optional): Width and height, for
                files in 2D that do not tell. Defaults to None.

        Returns:
            dict: ``predictions``, a list in the order of the inputs, each a
            dict of the sample's ``name``; ``pred_scores``, the probabilities
            of all classes; ``pred_label``, the most probable one, and
            ``pred_class``, its name. ``visualization`` is None.

        Raises:
            ValueError: An input is broken, its joints or coordinates are not
                the model's and cannot be mapped, or its units are no metres.
            OSError: A file cannot be read.
        """
        return super().__call__(
            inputs,
            return_datasamples,
            batch_size,
            layout=layout,
            image_size=image_size,
        )

    def _inputs_to_list(self, inputs: object) -> list:
        return list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]

    def preprocess(
        self,
        inputs: list,
        batch_size: int = 1,
        layout: str | None = None,
        image_size: tuple[int, int] | None = None,
    ) -> Iterator:
        """Read inputs and run the pipeline; see :meth:`__call__`.

        Yields:
            dict: A batch for the model's ``test_step``.
        """
        samples = (
            self.prepare(recording)
            for recording in _read(inputs, layout, image_size)
        )
        for chunk in self._get_chunk_data(samples, batch_size):
            yield self.collate_fn(chunk)

    @torch.no_grad()
    def forward(self, inputs: dict) -> list:
        """Run the model on a batch.

        Returns:
            list[ActionDataSample]: With probabilities as ``pred_score``.
        """
        names = inputs.pop('name')
        results = self.model.test_step(inputs)
        head = self.model.cls_head
        for name, result in zip(names, results):
            score = result.pred_score
            if head.average_clips != 'prob':
                score = score.softmax(dim=-1)
                if score.ndim > 1:
                    score = score.mean(dim=0)
            result.set_pred_score(score)
            result.set_pred_label(score.argmax(dim=-1, keepdim=True))
            result.set_metainfo(dict(name=name))
        return results

    def visualize(self, inputs: list, preds: list) -> None:
        """Draw nothing: see :mod:`mamp_mmaction.inference.drawing`."""

    def postprocess(
        self,
        preds: list,
        visualization: None,
        return_datasample: bool = False,
    ) -> dict:
        """Turn predictions into plain values; see :meth:`__call__`."""
        if not return_datasample:
            preds = [self.pred2dict(pred) for pred in preds]
        return dict(predictions=preds, visualization=visualization)

    def pred2dict(self, data_sample: object) -> dict:
        """Return one prediction as a dict; see :meth:`__call__`."""
        label = data_sample.pred_label.item()
        return dict(
            name=data_sample.name,
            pred_label=label,
            pred_class=self.classes[label],
            pred_scores=data_sample.pred_score.tolist(),
        )

    def predict_windows(
        self,
        recording: Recording,
        window: int,
        stride: int,
        batch_size: int = 1,
    ) -> list[Window]:
        """Recognise what happens when in a long recording.

        Args:
            recording (Recording): The recording.
            window (int): Frames that are looked at together.
            stride (int): Frames from the start of one window to the next. The
                last window ends with the recording.
            batch_size (int): Windows computed at once. Defaults to 1.

        Returns:
            list[Window]: In the order of time.

        Raises:
            ValueError: ``window`` or ``stride`` is below 1, or as
                :meth:`__call__`.
        """
        if window < 1 or stride < 1:
            raise ValueError(
                f'window={window} and stride={stride} must be 1 or more.'
            )
        frames = recording.sample['keypoint'].shape[1]
        last = max(frames - window, 0)
        starts = [*range(0, last, stride), last]
        return self._predict_parts(
            recording,
            [(start, min(start + window, frames)) for start in starts],
            batch_size,
        )

    def predict_so_far(
        self, recording: Recording, stops: Sequence[int], batch_size: int = 1
    ) -> list[Window]:
        """Recognise a recording from its beginning up to several frames.

        Args:
            recording (Recording): The recording.
            stops (Sequence[int]): Frames after the last that is seen.
            batch_size (int): How many are computed at once. Defaults to 1.

        Returns:
            list[Window]: One for each stop.
        """
        parts = [(0, stop) for stop in stops]
        return self._predict_parts(recording, parts, batch_size)

    def _predict_parts(
        self, recording: Recording, parts: list, batch_size: int
    ) -> list[Window]:
        self.check(recording)
        cuts = [recording.cut(start, stop) for start, stop in parts]
        there = [cut for cut in cuts if cut is not None]
        scores = iter(
            np.array(prediction['pred_scores'])
            for prediction in self(there, batch_size=batch_size)['predictions']
        )
        return [
            Window(*part, None if cut is None else next(scores))
            for part, cut in zip(parts, cuts)
        ]

    # Checks

    def mapping(self, recording: Recording) -> tuple | None:
        """Say which layouts joints are mapped between.

        Args:
            recording (Recording): The recording.

        Returns:
            tuple[str, str]: Names of its layout and the model's; None where
            nothing is to be mapped, or a layout is not known.

        Raises:
            ValueError: The joints are not the model's and cannot be mapped.
        """
        joints = recording.sample['keypoint'].shape[2]
        source, target = self.stored_layout, self.layout
        if recording.layout is not None:
            source = get_layout(recording.layout)
            if joints != source.num_joints:
                raise ValueError(
                    f'{recording.where} has {joints} joints, but its layout '
                    f'{source.name!r} has {source.num_joints}.'
                )
        if source is not None and joints != source.num_joints:
            raise ValueError(self._explain(recording.where, joints))
        if target is None and joints != (self.num_joints or joints):
            raise ValueError(self._explain(recording.where, joints))
        if source is None or target is None or source == target:
            return None
        try:
            joint_indices(source.name, target.name)
        except ValueError as error:
            raise ValueError(
                f'{recording.where} cannot be given to a model of layout '
                f'{target.name!r} by MapJoints: {error}'
            ) from None
        return source.name, target.name

    def _explain(self, where: str, joints: int) -> str:
        """Say what is wrong with a number of joints, and what would help."""
        wanted = self.stored_layout
        told = f'{where} has {joints} joints, but the model takes '
        if wanted is None:
            return f"{told}{self.num_joints}, of a layout it doesn't tell."
        told += f'{wanted.num_joints} (layout {wanted.name!r}). '
        same = [v for v in LAYOUTS.values() if v.num_joints == joints]
        same = {layout.name: layout for layout in same}
        if not same:
            return (
                f'{told}No known layout has {joints} joints: if yours has '
                "all of the model's, register it in a file and give it by "
                '--layout FILE.py; MapJoints then takes them.'
            )
        able = [name for name in same if _maps(name, self.layout)]
        names = ' and '.join(map(repr, able or same))
        if able:
            return (
                f'{told}Layout {names} has them among its {joints}: give it '
                'by --layout, and MapJoints takes them.'
            )
        return (
            f'{told}Known with {joints} joints: {names}, which lacks some of '
            "the model's, so that MapJoints cannot help."
        )

    def check(self, recording: Recording) -> None:
        """Check the joints, the units and the coordinates of a recording.

        Args:
            recording (Recording): The recording.

        Raises:
            ValueError: They are not the model's.
        """
        self.mapping(recording)
        keypoint, where = recording.sample['keypoint'], recording.where
        steps = {s['type'] for s in self._dataset_cfg(self.cfg).pipeline}
        for expected, wanted in ((2, IMAGE_STEPS), (3, SPACE_STEPS)):
            if keypoint.shape[3] != expected and steps & wanted:
                raise ValueError(
                    f'{where} has {keypoint.shape[3]} coordinates a joint, '
                    f'but the model takes {expected}.'
                )
        name = recording.layout
        size = body_size(keypoint)
        if (
            self.check_units
            and keypoint.shape[3] == 3
            and not is_image(keypoint, name and get_layout(name))
            and not MIN_BODY <= size <= MAX_BODY
        ):
            raise ValueError(
                f'{where}: the units cannot be metres: a body measures '
                f'{size:.4g} along its longest axis, expected {MIN_BODY} to '
                f'{MAX_BODY}. Scale the coordinates; --any-units is for '
                'models that were trained on other units.'
            )

    def prepare(self, recording: Recording) -> dict:
        """Check one recording and run the test pipeline on it.

        Args:
            recording (Recording): The recording.

        Returns:
            dict: ``inputs`` and ``data_samples`` as of the pipeline, and the
            recording's ``name``.

        Raises:
            ValueError: See :meth:`__call__`.
        """
        self.check(recording)
        sample = copy.deepcopy(recording.sample)
        sample.pop('label', None)
        sample.setdefault('modality', 'Pose')
        sample.setdefault('start_index', 0)
        names = self.mapping(recording)
        if names is not None:
            sample = MapJoints(*names)(sample)
        try:
            packed = self.pipeline(sample)
        except (ValueError, KeyError, AssertionError, IndexError) as error:
            raise ValueError(
                f"{recording.where}: the config's test pipeline fails with "
                f'{type(error).__name__}: {error}'
            ) from error
        self._check_channels(packed['inputs'], recording.where)
        return dict(packed, name=recording.name)

    def _check_channels(self, inputs: torch.Tensor, where: str) -> None:
        """Check numbers a joint of skeletons (clips, M, T, V, C)."""
        backbone = self.cfg.model.backbone
        channels = backbone.get('in_channels', 3)
        if inputs.ndim == 5 and inputs.shape[-1] != channels:
            raise ValueError(
                f"{where} has {inputs.shape[-1]} numbers a joint (the score's "
                f'included) after the pipeline, but the model takes '
                f'{channels}.'
            )


def _read(
    inputs: list, layout: str | None, image_size: tuple[int, int] | None
) -> Iterator[Recording]:
    name = layout and load_layout(layout).name
    for index, source in enumerate(inputs):
        if _is_path(source):
            yield from read_recordings(source, layout, image_size)
        else:
            yield as_recording(source, index, name)


def _is_path(value: object) -> bool:
    return isinstance(value, (str, Path))


def _maps(source: str, target: SkeletonLayout | None) -> bool:
    try:
        return target is not None and bool(joint_indices(source, target.name))
    except ValueError:
        return False


def _layout_of_graph(graph: str | dict) -> str | None:
    """Name of the layout whose graph is given, as the toolbox writes it."""
    if isinstance(graph, str):
        return graph if graph in LAYOUTS else None
    for name, layout in LAYOUTS.items():
        own = layout.graph()
        if (graph['num_node'], graph['center']) == (
            own['num_node'],
            own['center'],
        ) and set(map(tuple, graph['inward'])) == set(own['inward']):
            return name
    return None
