# The synthetic data of tools/data/make_toy_dataset.py: one or two persons, some
# 50 frames a sequence.
dataset = dict(
    ann_file='data/toy.pkl',
    num_classes=16,
    layout='nturgb+d',
    num_frames=40,
    num_person=2,
)
