"""The metafiles are what `.ci/make_metafiles.py` makes of the configs."""

import runpy

import pytest
import yaml
from processes import ROOT


@pytest.fixture(scope='module')
def made():
    script = runpy.run_path(str(ROOT / '.ci' / 'make_metafiles.py'))
    return script['make_metafiles']()


def models(content):
    return {m['Name']: m for m in yaml.safe_load(content).get('Models', [])}


def test_metafiles_are_up_to_date(made):
    for path, content in made.items():
        assert path.read_text() == content, (
            f'{path.relative_to(ROOT)} is out of date: run python '
            '.ci/make_metafiles.py'
        )


def test_every_config_is_listed(made):
    listed = {
        model['Config']
        for content in made.values()
        for model in models(content).values()
    }
    assert listed == {
        str(file.relative_to(ROOT))
        for file in (ROOT / 'configs').rglob('*.py')
        if '_base_' not in file.parts
    }


def test_sizes_and_figures_are_those_of_the_paper(made):
    mamp = models(made[ROOT / 'configs' / 'mamp' / 'metafile.yml'])
    for name, parameters, published in (
        ('mamp_4xb32-pretrain-400e_ntu60-xsub-keypoint-3d', 8789004, None),
        ('mamp_4xb32-pretrain-400e_ntu120-xset-keypoint-3d', 10368524, None),
        ('mamp_2xb24-finetune-100e_ntu60-xsub-keypoint-3d', 19572284, 93.0),
        ('mamp_2xb128-linear-100e_ntu60-xview-keypoint-3d', 6351420, 89.0),
    ):
        model = mamp[name]
        assert model['Metadata']['Parameters'] == parameters
        metrics = model['Results'][0].get('Metrics', {})
        assert metrics.get('Top 1 Accuracy (published)') == published
    # The probe by hand: blocks, patches, the linear layer; two persons.
    tokens, width = 750, 256
    block = 12 * tokens * width**2 + 2 * tokens**2 * width
    encoder = 8 * block + tokens * 12 * width
    flops = 2 * (2 * encoder + width * 60)
    assert mamp[name]['Metadata']['FLOPs'] == flops


def test_what_a_source_published_is_no_result_of_ours(made):
    mamp = models(made[ROOT / 'configs' / 'mamp' / 'metafile.yml'])
    timestamps = 'normalisation among timestamps (AAAI 2025)'
    teachers = {'Skeleton2vec (2024)': [85.7, 90.3]}
    teachers['S-JEPA (2024)'] = [85.3, 89.8]
    for name, sources in (
        ('nat', {timestamps: [86.9, 91.0]}),
        ('accel', {'MaskSem (2025)': [85.9, 90.8]}),
        ('latent', teachers),
        ('tube', {'Skeleton2vec (2024)': []}),
        ('limb', {'SLiM (2026)': []}),
        ('cross', {'CrossMAE (2024), AMR': []}),
    ):
        model = mamp[f'mamp_4xb32-pretrain-{name}-400e_ntu60-xsub-keypoint-3d']
        assert model['Metadata']['Source of the Option'] == '; '.join(sources)
        own, *others = model['Results']
        assert 'Metrics' not in own
        assert [r['Metrics'] for r in others] == [
            {f'Top 1 Accuracy (linear probe, published by {source})': figure}
            for source, figures in sources.items()
            for figure in figures
        ]
