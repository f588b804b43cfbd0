"""Section of ``benchmark_speed.py`` about trained recognisers."""

import argparse
import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest import mock

import torch
import torch.nn as nn
from made_samples import find_dataset, load_config, type_name
from mmaction.registry import DATASETS
from mmengine.config import Config
from mmengine.dataset import BaseDataset, pseudo_collate
from mmengine.runner import Runner, load_checkpoint
from speed_cases import (
    NUM_CLASSES,
    TIME_COLUMNS,
    Table,
    add_speed_up,
    build_dataset,
    build_model,
    encoder_config,
    quiet_runner,
    recipe,
    time_in_turns,
)

from mamp_mmaction.models import mamp_transformer
from mamp_mmaction.models.distinct_persons import distinct_persons

METRIC = 'acc/top1'
KEEP_RATIOS = (1, 0.5, 0.25, 0.125)


@contextmanager
def all_persons_computed() -> Iterator[None]:
    """Make ``MAMPTransformer`` in eval mode compute equal persons again.

    Yields:
        Nothing.
    """

    def all_persons(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        places = torch.arange(x.shape[0] * x.shape[1], device=x.device)
        return places, places

    with mock.patch.object(mamp_transformer, 'distinct_persons', all_persons):
        yield


def bench_inference(ann_file: str, args: argparse.Namespace) -> list[Table]:
    """Time a recogniser: distinct persons, and fewer tokens."""
    tables = [compare_persons(ann_file, args)]
    if args.config:
        tables.append(compare_keep_ratios_of_config(args))
    else:
        dataset = build_dataset(ann_file, recipe('val_pipeline', args))
        models = {
            ratio: build_model(
                recogniser_config(args, keep_ratio=ratio), args.device
            )
            for ratio in KEEP_RATIOS
        }
        tables.append(compare_keep_ratios(models, dataset, args))
    return tables


def recogniser_config(args: argparse.Namespace, **encoder) -> dict:
    """Config of the fine-tuning recipe's recogniser."""
    return dict(
        type='RecognizerGCN',
        data_preprocessor=dict(type='SkeletonDataPreprocessor'),
        backbone=encoder_config(args, **encoder),
        cls_head=dict(
            type='MAMPFinetuneHead',
            num_classes=NUM_CLASSES,
            in_channels=args.embed_dims,
            num_joints=args.joints,
        ),
    )


def prepare_inference(
    model: nn.Module, dataset: BaseDataset, args: argparse.Namespace
) -> tuple[Callable[[], torch.Tensor], torch.Tensor]:
    """Prepare a call that computes the logits of a batch.

    Args:
        model (nn.Module): The recogniser; is put into eval mode.
        dataset (BaseDataset): Its first samples are the batch.
        args (Namespace): The command line.

    Returns:
        tuple: The call, and its inputs (N, clips, M, T, V, C).
    """
    model.eval()
    size = min(args.batch_size, len(dataset))
    # Not every n-th, which could meet the pairs alone.
    data = pseudo_collate([dataset[i] for i in range(size)])
    inputs = model.data_preprocessor(data)['inputs']

    @torch.no_grad()
    def infer() -> torch.Tensor:
        return model.extract_feat(inputs, stage='head')[0]

    return infer, inputs


def compare_persons(ann_file: str, args: argparse.Namespace) -> Table:
    """Compute all persons, or those that differ."""
    model = build_model(recogniser_config(args), args.device)
    calls, rows = {}, []
    for mode, title in (('zero', 'absent'), ('loop', 'the first again')):
        pipeline = recipe('val_pipeline', args, mode=mode)
        dataset = build_dataset(ann_file, pipeline)
        infer, inputs = prepare_inference(model, dataset, args)
        infer_all = all_persons_computed()(infer)
        keypoint = inputs.flatten(0, 1)
        difference = (infer() - infer_all()).abs().max().item()
        for name, call, count, off in (
            ('all', infer_all, math.prod(keypoint.shape[:2]), 0.0),
            (
                'distinct',
                infer,
                len(distinct_persons(keypoint)[0]),
                difference,
            ),
        ):
            calls[mode, name] = call
            rows.append(
                dict(
                    name=title,
                    computed=name,
                    persons=count,
                    difference=off,
                    key=(mode, name),
                )
            )
    times = time_in_turns(calls, args)
    for row in rows:
        row.update(times[row.pop('key')])
        row['samples_per_s'] = 1000 * len(inputs) / row['median_ms']
    for pair in (rows[:2], rows[2:]):
        add_speed_up(pair)
    return Table(
        'A recogniser in eval mode: equal persons computed once',
        {
            'second person of single ones': 'name',
            'persons computed': 'computed',
            'their number': 'persons',
            **TIME_COLUMNS,
            'samples/s': 'samples_per_s',
            'speed-up': 'speed_up',
            'largest difference of logits': 'difference',
        },
        rows,
        [
            f'{args.single_person:.0%} of the samples hold one person.',
            '`all` replaces `distinct_persons` in the module of '
            '`MAMPTransformer` by one that finds every person distinct.',
        ],
    )


def compare_keep_ratios(
    models: dict[float, nn.Module],
    dataset: BaseDataset,
    args: argparse.Namespace,
) -> Table:
    """Time recognisers that encode the tokens that move most.

    Args:
        models (dict[float, nn.Module]): Recognisers by their keep_ratio.
        dataset (BaseDataset): A batch of it is classified.
        args (Namespace): The command line.

    Returns:
        Table: A row for each.
    """
    calls, rows = {}, []
    for ratio, model in models.items():
        calls[ratio], inputs = prepare_inference(model, dataset, args)
        encoder = model.backbone
        tokens = encoder.kept_segments * encoder.num_joints
        rows.append(dict(name=ratio, tokens=tokens))
    times = time_in_turns(calls, args)
    for row in rows:
        row.update(times[row['name']])
        row['samples_per_s'] = 1000 * len(inputs) / row['median_ms']
    add_speed_up(rows)
    return Table(
        'A recogniser that encodes the most moving tokens',
        {
            'keep_ratio': 'name',
            'tokens a person': 'tokens',
            **TIME_COLUMNS,
            'samples/s': 'samples_per_s',
            'speed-up': 'speed_up',
        },
        rows,
    )


def compare_keep_ratios_of_config(args: argparse.Namespace) -> Table:
    """The same with trained weights, and the accuracies.

    Args:
        args (Namespace): The command line.

    Returns:
        Table: A row for each ratio.

    Raises:
        ValueError: If the config is of no recogniser with MAMP's encoder, or
            the weights are not its.
    """
    cfg = load_config(str(args.config))
    backbone = (cfg.get('model') or {}).get('backbone')
    if 'cls_head' not in (cfg.get('model') or {}) or (
        type_name(backbone) != 'MAMPTransformer'
    ):
        raise ValueError(
            f'{args.config} has no recogniser with the backbone '
            'MAMPTransformer, which alone knows keep_ratio: give the config '
            'of a linear probe or of a fine-tuning.'
        )
    dataset_cfg = find_dataset(cfg, 'test_dataloader')
    if args.ann_file:
        dataset_cfg.ann_file = str(args.ann_file)
    models = {}
    for ratio in KEEP_RATIOS:
        backbone.keep_ratio = ratio
        models[ratio] = build_model(cfg.model, args.device)
        try:
            load_checkpoint(
                models[ratio], str(args.checkpoint), 'cpu', strict=True
            )
        except RuntimeError as error:
            raise ValueError(
                f'{args.checkpoint} does not hold the weights of the model '
                f'of {args.config}: {error}'
            ) from error
    table = compare_keep_ratios(models, DATASETS.build(dataset_cfg), args)
    for row in table.rows:
        row['top1'] = 100 * measure_accuracy(models[row['name']], cfg)
    table.columns['top-1, %'] = 'top1'
    table.notes.append(
        f'Accuracies on the test set of `{args.config.stem}` with '
        f'`{args.checkpoint.name}`.'
    )
    return table


def measure_accuracy(model: nn.Module, cfg: Config) -> float:
    """Top-1 accuracy, in [0, 1], as the toolbox's test.py computes it.

    Args:
        model (nn.Module): The trained recogniser.
        cfg (Config): Its config, with data set and metric.

    Returns:
        float: The accuracy.

    Raises:
        ValueError: If the config's metric does not give it.
    """
    with tempfile.TemporaryDirectory() as folder:
        metrics = Runner(
            model=model,
            work_dir=folder,
            test_dataloader=cfg.test_dataloader,
            test_cfg=cfg.test_cfg,
            test_evaluator=cfg.test_evaluator,
            **quiet_runner(),
        ).test()
    if METRIC not in metrics:
        raise ValueError(
            f'The test_evaluator of the config gives {sorted(metrics)}, but '
            f'{METRIC} is needed: use AccMetric.'
        )
    return metrics[METRIC]
