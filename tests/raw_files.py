"""Files as cameras, data sets and users leave them, of positions."""

import json

import numpy as np
from scipy.io import savemat


def write_ntu(path, frames, newline='\n'):
    """A list a frame of its bodies, pairs of ID and joints (25, 3)."""
    lines = [str(len(frames))]
    for bodies in frames:
        lines.append(str(len(bodies)))
        for body_id, joints in bodies:
            # IDs of the release differ only in digits that a double loses.
            number = 72057594037930000 + body_id
            lines.append(f'{number} 0 1 1 1 1 0 0.02764709 -0.05745083 2')
            lines.append('25')
            for x, y, z in joints:
                rest = '277.419 191.8218 1036.233 519.1677 0.2 0.1 0.9 -0.1 2'
                lines.append(f'{x:.7g} {y:.7g} {z:.7g} {rest}')
    path.write_text('\n'.join([*lines, '']), newline=newline)


def write_pku(path, values):
    """A video (T, 2, 25, 3), absent persons zero."""
    np.savetxt(path, values.reshape(len(values), -1), fmt='%.9g')


def write_msr(path, values):
    """Positions (T, 20, 3); some of the confidences are 0."""
    rows = values.reshape(-1, values.shape[-1])
    np.savetxt(path, np.c_[rows, np.arange(len(rows)) % 3], fmt='%.9g')


def write_ucla(path, values):
    """Positions (T, 20, 3)."""
    content = dict(file_name='a', skeletons=values.tolist(), label=1)
    path.write_text(json.dumps(content))


def write_utd(path, values, **options):
    """Positions (T, 20, 3)."""
    savemat(path, dict(d_skel=values.transpose(1, 2, 0)), **options)


def write_csv(path, values, joints, axes='xyz', extra=None):
    """Rows (R, V, C) below the names of the columns."""
    header = [f'{joint}_{axis}' for joint in joints for axis in axes]
    rows = [
        [f'{v:.9g}' for v in row] for row in values.reshape(-1, len(header))
    ]
    for name, cells in (extra or {}).items():
        header = [name, *header]
        rows = [[str(cell), *row] for cell, row in zip(cells, rows)]
    path.write_text('\n'.join(map(','.join, [header, *rows])))
