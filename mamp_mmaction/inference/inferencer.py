"""The inferencer of skeleton recognisers."""

import copy
from collections.abc import Iterable, Iterator, Sequence
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
from ..datasets.made_samples import IMAGE_TRANSFORMS, find_dataset
from ..datasets.transforms import MapJoints
from ..layouts import get_layout, load_layout
from ..models.state_dict_checks import load_weights
from ..utils import usable_device
from ..utils.pictures import is_image
from .model_joints import ModelJoints
from .recordings import Recording, as_recording, read_recordings

# Steps that only skeletons in 3D pass.
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
        joints (ModelJoints): What is known of the joints that it takes.

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
        pipeline = find_dataset(self.cfg, 'test_dataloader').pipeline
        self._steps = {step['type'] for step in pipeline}
        self.joints = ModelJoints.of_config(self.cfg, pipeline)
        # Training alone rotates, which tells that all of it is in 3D.
        if self.cfg.get('train_dataloader'):
            pipeline = find_dataset(self.cfg, 'train_dataloader').pipeline
            self._steps |= SPACE_STEPS & {step['type'] for step in pipeline}

    # What BaseInferencer leaves to its subclasses

    def _init_visualizer(self, cfg: ConfigDict) -> None:
        return None

    def _init_pipeline(self, cfg: ConfigDict) -> Compose:
        pipeline = find_dataset(cfg, 'test_dataloader').pipeline
        # Joints are mapped by the layout of each recording instead.
        return Compose([s for s in pipeline if s['type'] != 'MapJoints'])

    def _load_weights_to_model(
        self, model: nn.Module, checkpoint: dict, cfg: ConfigDict
    ) -> None:
        load_weights(model, checkpoint)
        meta = checkpoint.get('meta', {}).get('dataset_meta') or {}
        self.classes = self._find_classes(cfg, meta.get('classes'))

    def _find_classes(
        self, cfg: ConfigDict, stored: Sequence[str] | None
    ) -> list[str]:
        dataset = find_dataset(cfg, 'test_dataloader')
        count = cfg.model.cls_head.num_classes
        own = dataset.get('metainfo', {}).get('classes')
        for what, classes in (
            ('the names given', self._given_classes),
            ("the checkpoint's data set", stored),
            ("the config's metainfo", own),
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
                inputs in 2D that do not tell. Defaults to None.

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

        def checked() -> Iterator[Recording]:
            for recording in _read(inputs, layout, image_size):
                self.check(recording)
                yield recording

        yield from self._batches(checked(), batch_size)

    def _batches(self, recordings: Iterable, batch_size: int) -> Iterator:
        samples = map(self.prepare, recordings)
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
            [
                sample.pred_score.cpu().numpy()
                for batch in self._batches(there, batch_size)
                for sample in self.forward(batch)
            ]
        )
        return [
            Window(*part, None if cut is None else next(scores))
            for part, cut in zip(parts, cuts)
        ]

    # Checks

    def check(self, recording: Recording) -> None:
        """Check the joints, the units and the coordinates of a recording.

        Args:
            recording (Recording): The recording.

        Raises:
            ValueError: They are not the model's.
        """
        self.joints.mapping(recording)
        keypoint, where = recording.sample['keypoint'], recording.where
        for expected, wanted in ((2, IMAGE_TRANSFORMS), (3, SPACE_STEPS)):
            if keypoint.shape[3] != expected and self._steps & wanted:
                raise ValueError(
                    f'{where} has {keypoint.shape[3]} coordinates a joint, '
                    f'but the model takes {expected}. With --image-size W H '
                    'an array is x, y and perhaps a score; without, x, y, z.'
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
        """Map the joints of one recording and run the test pipeline on it.

        Args:
            recording (Recording): The recording.

        Returns:
            dict: ``inputs`` and ``data_samples`` as of the pipeline, and the
            recording's ``name``.

        Raises:
            ValueError: See :meth:`__call__`.
        """
        sample = copy.deepcopy(recording.sample)
        sample.pop('label', None)
        sample.setdefault('modality', 'Pose')
        sample.setdefault('start_index', 0)
        names = self.joints.mapping(recording)
        if names is not None:
            sample = MapJoints(*names)(sample)
        try:
            packed = self.pipeline(sample)
        except (ValueError, KeyError, AssertionError, IndexError) as error:
            raise ValueError(
                f"{recording.where}: the config's test pipeline fails with "
                f'{type(error).__name__}: {error}'
            ) from error
        found = packed['inputs'].shape[-1]  # of (clips, M, T, V, C)
        channels = self.cfg.model.backbone.get('in_channels', 3)
        if 'FormatGCNInput' in self._steps and found != channels:
            raise ValueError(
                f"{recording.where} has {found} numbers a joint (the score's "
                f'included) after the pipeline, but the model takes '
                f'{channels}.'
            )
        return dict(packed, name=recording.name)


def _read(
    inputs: list, layout: str | None, image_size: tuple[int, int] | None
) -> Iterator[Recording]:
    name = layout and load_layout(layout).name
    for index, source in enumerate(inputs):
        if _is_path(source):
            yield from read_recordings(source, layout, image_size)
        else:
            yield as_recording(source, index, name, image_size)


def _is_path(value: object) -> bool:
    return isinstance(value, (str, Path))
