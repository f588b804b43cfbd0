"""The names of the classes, in the order of the labels, by data set."""

from pathlib import Path

from .annotation_file import read_annotations

_NTU_60 = """
drink water, eat meal, brush teeth, brush hair, drop, pick up, throw, sit down,
stand up, clapping, reading, writing, tear up paper, put on jacket, take off
jacket, put on a shoe, take off a shoe, put on glasses, take off glasses, put
on a hat/cap, take off a hat/cap, cheer up, hand waving, kicking something,
reach into pocket, hopping, jump up, phone call, play with phone/tablet, type
on a keyboard, point to something, taking a selfie, check time (from watch),
rub two hands, nod head/bow, shake head, wipe face, salute, put palms together,
cross hands in front, sneeze/cough, staggering, falling down, headache, chest
pain, back pain, neck pain, nausea/vomiting, fan self, punch/slap, kicking,
pushing, pat on back, point finger, hugging, giving object, touch pocket,
shaking hands, walking towards, walking apart
"""

_NTU_61_TO_120 = """
put on headphone, take off headphone, shoot at basket, bounce ball, tennis bat
swing, juggle table tennis ball, hush, flick hair, thumb up, thumb down, make
OK sign, make victory sign, staple book, counting money, cutting nails, cutting
paper, snap fingers, open bottle, sniff/smell, squat down, toss a coin, fold
paper, ball up paper, play magic cube, apply cream on face, apply cream on
hand, put on bag, take off bag, put object into bag, take object out of bag,
open a box, move heavy objects, shake fist, throw up cap/hat, capitulate, cross
arms, arm circles, arm swings, run on the spot, butt kicks, cross toe touch,
side kick, yawn, stretch oneself, blow nose, hit with object, wield knife,
knock over, grab stuff, shoot with gun, step on foot, high-five, cheers and
drink, carry object, take a photo, follow, whisper, exchange things, support
somebody, rock-paper-scissors
"""

_PKU_MMD = """
bow, brushing hair, brushing teeth, check time (from watch), cheer up,
clapping, cross hands in front (say stop), drink water, drop, eat meal/snack,
falling, giving something to other person, hand waving, handshaking, hopping
(one foot jumping), hugging other person, jump up, kicking other person,
kicking something, make a phone call/answer phone, pat on back of other person,
pickup, playing with phone/tablet, point finger at the other person, pointing
to something with finger, punching/slapping other person, pushing other person,
put on a hat/cap, put something inside pocket, reading, rub two hands together,
salute, sitting down, standing up, take off a hat/cap, take off glasses, take
off jacket, take out something from pocket, taking a selfie, tear up paper,
throw, touch back (backache), touch chest (stomachache/heart pain), touch head
(headache), touch neck (neckache), typing on a keyboard, use a fan (with hand
or paper)/feeling warm, wear jacket, wear on glasses, wipe face, writing
"""

_MSR_ACTION3D = """
high arm wave, horizontal arm wave, hammer, hand catch, forward punch, high
throw, draw X, draw tick, draw circle, hand clap, two hand wave, side boxing,
bend, forward kick, side kick, jogging, tennis swing, tennis serve, golf swing,
pickup and throw
"""

_NW_UCLA = """
pick up with one hand, pick up with two hands, drop trash, walk around, sit
down, stand up, donning, doffing, throw, carry
"""

_UTD_MHAD = """
swipe left, swipe right, wave, clap, throw, arm cross, basketball shoot, draw
X, draw circle clockwise, draw circle counter-clockwise, draw triangle,
bowling, boxing, baseball swing, tennis swing, arm curl, tennis serve, push,
knock, catch, pickup and throw, jog, walk, sit to stand, stand to sit, lunge,
squat
"""

_TOY = """
sit down, stand up, put on a hat, take off a hat, push a door, pull a door,
circle an arm outward, circle an arm inward, wave slowly, wave quickly, hammer,
wipe a window, punch, kick, shake hands, push someone
"""


def _names(text: str) -> tuple[str, ...]:
    return tuple(' '.join(name.split()) for name in text.split(','))


#: Class names by data set; label 0 is the first.
CLASS_NAMES = {
    'ntu60': _names(_NTU_60),
    'ntu120': _names(f'{_NTU_60}, {_NTU_61_TO_120}'),
    'pku_mmd': _names(_PKU_MMD),
    'msr_action3d': _names(_MSR_ACTION3D),
    'nw_ucla': _names(_NW_UCLA),
    'utd_mhad': _names(_UTD_MHAD),
    'toy': _names(_TOY),
}


def read_class_names(name_or_file: str) -> list[str]:
    """Return the class names of a data set, or those that a file holds.

    Args:
        name_or_file (str): A key of :data:`CLASS_NAMES`, an annotation file
            ``.pkl`` with ``'classes'``, or a text file of one name a line.

    Returns:
        list[str]: The names, of label 0 first.

    Raises:
        OSError: There is no such file.
        ValueError: The file holds no class names.
    """
    if name_or_file in CLASS_NAMES:
        return list(CLASS_NAMES[name_or_file])
    path = Path(name_or_file)
    if path.suffix == '.pkl':
        content = read_annotations(path)
        names = content.get('classes') if isinstance(content, dict) else None
        if not isinstance(names, (list, tuple)) or not names:
            raise ValueError(
                f"{path}: holds no 'classes', a list of names; give a text "
                'file of one name a line.'
            )
        return [str(name) for name in names]
    if not path.is_file():
        raise FileNotFoundError(
            f'class names {name_or_file!r}: neither a file nor one of the '
            f'data sets {", ".join(CLASS_NAMES)}.'
        )
    try:
        names = path.read_text(encoding='utf-8').splitlines()
    except UnicodeDecodeError:
        names = []
    names = [name.strip() for name in names if name.strip()]
    if not names:
        raise ValueError(f'{path}: expected a text of one class name a line.')
    return names
