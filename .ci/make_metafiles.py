"""Write the metafiles of the configs, which model-index.yml imports.

Run it from anywhere after configs, published figures or results changed:
``python .ci/make_metafiles.py``. Parameters and FLOPs are counted on torch's
meta device; figures come from the table of configs/mamp/README.md (published)
and from docs/results/small.json (measured here), sources of options and what
these published from the table of docs/options.md.
"""

import json
import re
import warnings
from collections import defaultdict
from pathlib import Path

warnings.filterwarnings('ignore')

import torch  # noqa: E402
import yaml  # noqa: E402
from mmengine.config import Config  # noqa: E402
from mmengine.registry import init_default_scope  # noqa: E402

import mamp_mmaction  # noqa: E402, F401
from mamp_mmaction.motion_mask import num_visible_tokens  # noqa: E402
from mamp_mmaction.utils import written_whole  # noqa: E402
from mamp_mmaction.utils.flops import count_flops  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / 'configs'
HEADER = """\
# By .ci/make_metafiles.py. FLOPs: of one sample, a multiply-add as two.
"""
# Folder of configs: name, paper, its title.
COLLECTIONS = {
    'aagcn': (
        'AAGCN',
        'https://arxiv.org/abs/1912.06971',
        'Skeleton-Based Action Recognition with Multi-Stream Adaptive Graph '
        'Convolutional Networks',
    ),
    'mamp': (
        'MAMP',
        'https://arxiv.org/abs/2308.07092',
        'Masked Motion Predictors are Strong 3D Action Representation '
        'Learners',
    ),
    'stgcn': (
        'STGCN',
        'https://arxiv.org/abs/1801.07455',
        'Spatial Temporal Graph Convolutional Networks for Skeleton-Based '
        'Action Recognition',
    ),
    'stgcnpp': (
        'STGCN++',
        'https://arxiv.org/abs/2205.09443',
        'PYSKL: Towards Good Practices for Skeleton Action Recognition',
    ),
}
DATA_SETS = {
    'ntu60': 'NTU RGB+D 60',
    'ntu120': 'NTU RGB+D 120',
    'pku1': 'PKU-MMD I',
    'pku2': 'PKU-MMD II',
    'msr-action3d': 'MSR-Action3D',
    'nw-ucla': 'Northwestern-UCLA',
    'utd-mhad': 'UTD-MHAD',
    'kinect-v1': 'MSR-Action3D, Northwestern-UCLA and UTD-MHAD',
    'toy': 'synthetic',
}
NAME = re.compile(
    r'(?P<network>\w+?)_(?P<processes>\d+)xb(?P<batch>\d+)-(?P<protocol>\S+)-'
    rf'(?P<epochs>\d+)e_(?P<data>{"|".join(DATA_SETS)})'
    r'(-(?P<split>xsub|xview|xset))?(-from-(?P<source>\S+))?-'
    r'keypoint-(?P<dims>[23]d)'
)
SOURCE_METRIC = 'Top 1 Accuracy (linear probe, published by {})'
# Row and measure of the results, by protocol and what it starts from.
MEASURED = {
    ('scratch', None): ('mamp-none', 'tuned-all'),
    ('finetune', 'kinect-v1'): ('long-union', 'tuned-all'),
}


def size_of(model: dict, pipeline: list[dict]) -> tuple[int, int]:
    """Count a model's parameters, and the operations on one sample.

    Args:
        model (dict): Its config.
        pipeline (list[dict]): What its samples go through.

    Returns:
        tuple[int, int]: Parameters and FLOPs, in pre-training those of
        encoder and decoder.
    """
    from mmaction.registry import MODELS, TRANSFORMS

    steps = {step.type: step for step in pipeline}
    backbone = model.backbone
    persons = steps['FormatGCNInput'].num_person
    with torch.device('meta'), torch.no_grad():
        built = MODELS.build(model).eval()
        built.backbone.distinct_persons = False
        parameters = sum(p.numel() for p in built.parameters())
        joints = backbone.get('num_joints', 25)
        if 'graph_cfg' in backbone:
            layout = backbone.graph_cfg.layout
            joints = 25 if layout == 'nturgb+d' else layout.num_node
        crop = steps.get('TemporalCropResize') or steps['UniformSampleFrames']
        frames = crop.get('num_frames', crop.get('clip_len'))
        channels = backbone.get('in_channels', 3)
        keypoint = torch.empty(1, persons, frames, joints, channels)
        if 'cls_head' in model:
            inputs = keypoint[:, None]  # one clip
            return parameters, count_flops(
                lambda: built._forward(inputs, 'head')
            )
        mask = torch.empty(persons, built.neck.num_tokens, dtype=torch.bool)
        ratio = TRANSFORMS.build(steps['MotionAwareMask']).mask_ratio
        count = num_visible_tokens(mask.shape[1], ratio)
        built.train()  # where a share of the tokens may be decoded
        visible, wanted = built.choose(mask[None], [dict(num_visible=count)])

        def predict() -> torch.Tensor:
            return built.neck(
                built.encode(keypoint, mask[None], visible), visible, wanted
            )

        return parameters, count_flops(predict)


def figures_of(path: Path, named: dict) -> dict[str, float]:
    """The accuracies of a config that the tables have, in %."""
    card = (CONFIGS / 'mamp' / 'README.md').read_text()
    link = re.escape(str(path.relative_to(CONFIGS)).removeprefix('mamp/'))
    row = re.search(rf'\({link}\) \| ([\d.]*) ?\| ([\d.]*)', card)
    published, ours = row.groups() if row else ('', '')
    mean = ''
    known = MEASURED.get((named['protocol'], named['source']))
    if named['network'] == 'mamp' and known:
        results = (ROOT / 'docs' / 'results' / 'small.json').read_text()
        for measure in json.loads(results)['measures']:
            keys = measure['data'], measure['row'], measure['measure']
            if keys == (named['data'], *known):
                mean = format(measure['top1']['mean'], '.1f')
    figures = {
        'Top 1 Accuracy': ours,
        'Top 1 Accuracy (mean of three seeds)': mean,
        'Top 1 Accuracy (published)': published,
    }
    return {key: float(value) for key, value in figures.items() if value}


def sources_of(protocol: str) -> dict[str, list[str]]:
    """Whose idea the option of a config is, and the sources' accuracies.

    Args:
        protocol (str): Such as ``'pretrain-nat'``.

    Returns:
        dict[str, list[str]]: By source what it published for NTU RGB+D 60
        X-sub and X-view, if it did; empty without an option.
    """
    table = (ROOT / 'docs' / 'options.md').read_text()
    row = re.search(rf'\| `{protocol}` \| (.+) \|$', table, re.M)
    sources = row[1].split('; ') if row else []
    split = (re.split(r', (?=\d)| / ', source) for source in sources)
    return {source: figures for source, *figures in split}


def describe(path: Path, sizes: dict) -> dict:
    """The entry of a config in its metafile; ``sizes`` keeps those counted."""
    named = NAME.match(path.stem).groupdict()
    cfg = Config.fromfile(path)
    # Data sets and weights aside, many configs are alike.
    alike = repr((cfg.model, cfg.test_pipeline))
    if alike not in sizes:
        sizes[alike] = size_of(cfg.model, cfg.test_pipeline)
    parameters, flops = sizes[alike]
    data = DATA_SETS[named['data']]
    if named['split']:
        data += f' {named["split"].replace("x", "X-")}'
    data += f', {named["dims"].upper()}'
    processes = int(named['processes'])
    result = {
        'Task': 'Self-Supervised Pre-Training'
        if 'cls_head' not in cfg.model
        else 'Skeleton-based Action Recognition',
        'Dataset': data,
    }
    figures = figures_of(path, named)
    if figures:
        result['Metrics'] = figures
    sources = sources_of(named['protocol'])
    option = {'Source of the Option': '; '.join(sources)} if sources else {}
    of_source = [
        {
            'Task': 'Skeleton-based Action Recognition',
            'Dataset': f'{DATA_SETS["ntu60"]} {split}, 3D',
            'Metrics': {SOURCE_METRIC.format(source): float(figure)},
        }
        for source, published in sources.items()
        for split, figure in zip(('X-sub', 'X-view'), published)
        if named['data'] == 'ntu60'
    ]
    return {
        'Name': path.stem,
        'Config': str(path.relative_to(ROOT)),
        'In Collection': COLLECTIONS[path.relative_to(CONFIGS).parts[0]][0],
        'Metadata': {
            'Architecture': cfg.model.backbone.type,
            'Batch Size': int(named['batch']),
            'Epochs': int(named['epochs']),
            'FLOPs': flops,
            'Parameters': parameters,
            'Training Data': data,
            'Training Resources': f'{processes} process'
            + ('es' if processes > 1 else ''),
            **option,
        },
        'Results': [result, *of_source],
    }


def make_metafiles() -> dict[Path, str]:
    """The contents of all metafiles and of the index, by path."""
    init_default_scope('mmaction')
    models, sizes = defaultdict(list), {}
    for path in sorted(CONFIGS.rglob('*.py')):
        parts = path.relative_to(CONFIGS).parts
        if parts[0] != '_base_':
            models[parts[0]].append(describe(path, sizes))
    files = {}
    for folder, (name, url, title) in COLLECTIONS.items():
        collection = {
            'Name': name,
            'README': 'configs/mamp/README.md',
            'Paper': {'URL': url, 'Title': title},
        }
        content = {'Collections': [collection], 'Models': models[folder]}
        files[CONFIGS / folder / 'metafile.yml'] = HEADER + yaml.safe_dump(
            content, sort_keys=False, width=200
        )
    index = {'Import': [str(file.relative_to(ROOT)) for file in files]}
    files[ROOT / 'model-index.yml'] = yaml.safe_dump(index)
    return files


if __name__ == '__main__':
    for path, content in make_metafiles().items():
        with written_whole(path) as temporary:
            Path(temporary).write_text(content)
