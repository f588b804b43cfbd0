# MAMP beside the classification loss: 10 % of the labels, all sequences.
_base_ = './stgcnpp_1xb32-scratch-100e_msr-action3d-xsub-keypoint-3d.py'

from mamp_mmaction.config import use_dataset

use_dataset(_base_, masked='train', mask_ratio=0.75)
model = dict(
    type='RecognizerMAMP',
    motion_neck=dict(
        type='MAMPDecoder',
        num_frames=40,
        num_joints=20,
        embed_dims=64,
        decoder_embed_dims=64,
        depth=1,
    ),
    motion_head=dict(type='MotionPredictionHead'),
    motion_weight=0.5,
)
train_dataloader = dict(
    dataset=dict(
        label_ratio=0.1,
        label_balanced=True,
        unlabelled='keep',
        labelled_share=0.25,
    )
)
