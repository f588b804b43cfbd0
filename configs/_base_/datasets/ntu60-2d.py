# NTU RGB+D 60 in the image, as the toolbox's ntu60_2d.pkl has it: joints in
# pixels and their confidence, estimated by HRNet.
dataset = dict(
    ann_file='data/skeleton/ntu60_2d.pkl',
    num_classes=60,
    layout='coco',
    num_frames=120,
    num_person=2,
    channels='xy+score',
    center=False,
)
