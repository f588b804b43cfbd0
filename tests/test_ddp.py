"""Several processes compute what one does."""

import ddp_job
import pytest
import torch
from processes import ROOT, TORCHRUN, run_successfully
from small_models import mamp
from test_representation_probe_hook import (
    best_files,
    config,
    loader,
    recomputed,
    scalars,
)

from mamp_mmaction.evaluation.extraction import (
    extract_features,
    ordered_dataloader,
)


@pytest.fixture(scope='module')
def ranks(tmp_path_factory):
    """What each of two processes computed, and the folder of both."""
    folder = tmp_path_factory.mktemp('ranks')
    run_successfully(*TORCHRUN, ddp_job.__file__, folder, path=(ROOT,))
    return folder, [torch.load(folder / f'{rank}.pth') for rank in (0, 1)]


def test_gradients_are_those_of_one_process(ranks):
    _, (found, _) = ranks
    wanted = ddp_job.gradients(*ddp_job.build())
    assert found['gradients'].keys() == wanted.keys()
    assert all(grad.any() for grad in wanted.values())
    for name, grad in wanted.items():
        torch.testing.assert_close(
            found['gradients'][name], grad, rtol=1e-4, atol=1e-6, msg=name
        )


@pytest.mark.parametrize('name', (*ddp_job.PROBED, 'weights'))
def test_all_processes_have_the_same_weights(ranks, name):
    """Of linear probes, whose backbones were checked, and pre-trainings."""
    _, (first, second) = ranks
    for key, value in first[name].items():
        assert torch.equal(value, second[name][key]), key


def test_features_and_scores_are_those_of_one_process(ranks):
    folder, found = ranks
    model = mamp()
    model.load_state_dict(found[0]['weights'])
    ann_file = str(folder / 'ann.pkl')
    single = extract_features(
        model, ordered_dataloader(loader(ann_file, 'xsub_train'))
    )
    assert len(single.names) == 15
    for rank in found:
        assert rank['features']['names'] == single.names
        assert torch.equal(rank['features']['labels'], single.labels)
        torch.testing.assert_close(
            rank['features']['features'], single.features
        )

    logged = scalars(folder / 'work')
    assert [line['step'] for line in logged] == [1, 2]
    expected = recomputed(ann_file, model, weight_decay=1.0, k=3)
    for key, value in expected.items():
        assert logged[1][key] == pytest.approx(value), key
    scores = [line['probe/knn_top1'] for line in logged]
    best = scores.index(max(scores)) + 1
    path = folder / f'work/best_probe_knn_top1_epoch_{best}.pth'
    assert best_files(config(folder)) == [path.name]
    for rank in found:
        assert rank['best'] == (max(scores), str(path))
