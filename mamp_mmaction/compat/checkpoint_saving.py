"""A training that is killed at any moment goes on from a whole checkpoint.

mmengine writes checkpoints and ``last_checkpoint`` in place, removes the old
checkpoint before it writes the new one, and takes whatever
``last_checkpoint`` says for a file that can be read. A run that is killed
meanwhile, or whose disk is full, cannot go on, or begins anew and overwrites
what was there.
"""

import functools
import logging
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend, get_file_backend
from mmengine.hooks import CheckpointHook
from mmengine.logging import print_log
from mmengine.runner import Runner
from mmengine.runner import checkpoint as mmengine_checkpoint
from mmengine.runner import runner as mmengine_runner

from ..utils.atomic import remove_leftovers, written_whole
from .checkpoint_loading import CheckpointError, load_checkpoint_file

# The repair may be made twice.
_save_checkpoint = mmengine_checkpoint.save_checkpoint
_load_or_resume = Runner.load_or_resume
_before_train = CheckpointHook.before_train
_save_best_checkpoint = CheckpointHook._save_best_checkpoint


def lose_nothing() -> None:
    """Let mmengine write checkpoints whole, and resume from what is whole."""
    mmengine_checkpoint.save_checkpoint = save_whole_checkpoint
    mmengine_runner.save_checkpoint = save_whole_checkpoint
    Runner.load_or_resume = _load_or_resume_what_is_whole
    CheckpointHook.before_train = _before_train_tidy
    CheckpointHook._save_checkpoint_with_step = _save_then_remove
    CheckpointHook._save_best_checkpoint = _save_best_then_remove


def save_whole_checkpoint(
    checkpoint: dict,
    filename: str,
    file_client_args: dict | None = None,
    backend_args: dict | None = None,
) -> None:
    """Save a checkpoint; mmengine's function, but there is no half of a file.

    Raises:
        OSError: It cannot be written, as where the disk is full; what was
            there before is untouched.
    """
    backend = get_file_backend(filename, backend_args=backend_args)
    if file_client_args is not None or not isinstance(backend, LocalBackend):
        _save_checkpoint(checkpoint, filename, file_client_args, backend_args)
        return
    with _clear_error(filename), written_whole(filename) as temporary:
        _save_checkpoint(checkpoint, str(temporary))


@contextmanager
def _clear_error(path: str | Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OSError(
            f'{path} could not be written: {error.strerror or error}. Nothing '
            'is left of it, and earlier checkpoints are whole. Once there is '
            'space, the training goes on from the last of them by --resume.'
        ) from None


def find_latest_checkpoint(folder: str | Path) -> str | None:
    """The checkpoint that a run goes on from.

    It is the one that ``last_checkpoint`` names. Where that file is absent or
    empty, or the checkpoint is absent or damaged, it is the newest that can be
    read and resumed, and a warning says so.

    Args:
        folder (str or Path): Working directory of the run.

    Returns:
        str | None: Its path; None where no checkpoint was saved yet.

    Raises:
        CheckpointError: There are checkpoints, but none that can be read.
    """
    note = Path(folder, 'last_checkpoint')
    named = note.read_bytes().decode(errors='replace') if note.exists() else ''
    named = named.strip('\0 \n')  # a file system after a crash gives zeros
    if '://' in named:
        return named
    if named:
        trouble = _damage(named)
        if trouble is None:
            return named
    else:
        trouble = f'{note} is {"empty" if note.exists() else "missing"}.'
    folders = {Path(folder), Path(named).parent if named else Path(folder)}
    found = {path for place in folders for path in place.glob('*.pth')}
    if not found and not note.exists():
        return None
    for path in sorted(found, key=lambda p: p.stat().st_mtime, reverse=True):
        if _damage(path, to_resume=True) is None:
            print_log(
                f'{trouble} The run goes on from {path}, the newest '
                'checkpoint that can be read and resumed.',
                logger='current',
                level=logging.WARNING,
            )
            return str(path)
    raise CheckpointError(
        f'{trouble} No other checkpoint in {folder} can be read and resumed: '
        'begin anew without --resume, in another working directory.'
    )


def _damage(path, to_resume=False) -> str | None:
    """What is wrong with a file, or None."""
    try:
        # torch reads a block of zeros in a file as weights.
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                broken = archive.testzip()
            if broken:
                return f'Checkpoint {path} is damaged, in {broken}.'
        checkpoint = load_checkpoint_file(path)
    except (CheckpointError, OSError, zipfile.BadZipFile) as error:
        return str(error)
    if to_resume and not {'meta', 'optimizer'} <= set(checkpoint):
        return f'Checkpoint {path} holds weights alone.'
    return None


@functools.wraps(_load_or_resume)
def _load_or_resume_what_is_whole(self):
    if self._resume and self._load_from is None and not self._has_loaded:
        self._load_from = find_latest_checkpoint(self.work_dir)
        if self._load_from is None:
            # train.py --resume has dropped what the config starts from.
            self._resume = False
            self._load_from = _start_of(self.cfg)
            start = self._load_from or 'its initial weights'
            self.logger.info(
                f'{self.work_dir} holds no checkpoint to resume: the run '
                f'begins with {start}.'
            )
    _load_or_resume(self)


def _start_of(cfg):
    if 'begin_from' in cfg:  # load_from on the command line
        return cfg.begin_from
    if cfg.filename is None or not Path(cfg.filename).exists():
        return None
    return Config.fromfile(cfg.filename).get('load_from')


@functools.wraps(_before_train)
def _before_train_tidy(self, runner):
    _before_train(self, runner)
    if is_main_process():
        for folder in {str(self.out_dir), runner.work_dir}:
            remove_leftovers(folder, '*.pth')
            remove_leftovers(folder, 'last_checkpoint')


def _save_then_remove(self, runner, step, meta):
    """Save a checkpoint and its note, then remove the one it replaces."""
    outdated = []
    if self.max_keep_ckpts > 0 and step not in list(self.keep_ckpt_ids)[-1:]:
        kept = [*self.keep_ckpt_ids, step]
        outdated = kept[: -self.max_keep_ckpts]
        self.keep_ckpt_ids.append(step)  # a deque, which drops them
        # A resumed run removes those of them that are still there.
        runner.message_hub.update_info('keep_ckpt_ids', kept)
    name = self.filename_tmpl.format(step)
    self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
    runner.message_hub.update_info('last_ckpt', self.last_ckpt)
    runner.save_checkpoint(
        self.out_dir,
        name,
        self.file_client_args,
        save_optimizer=self.save_optimizer,
        save_param_scheduler=self.save_param_scheduler,
        meta=meta,
        by_epoch=self.by_epoch,
        backend_args=self.backend_args,
        **self.args,
    )
    if not is_main_process():
        return
    note = Path(runner.work_dir, 'last_checkpoint')
    with _clear_error(note), written_whole(note) as temporary:
        temporary.write_text(self.last_ckpt)
    for old in outdated:
        name = self.filename_tmpl.format(old)
        path = self.file_backend.join_path(self.out_dir, name)
        if self.file_backend.isfile(path):
            self.file_backend.remove(path)
        elif self.file_backend.isdir(path):  # deepspeed's
            self.file_backend.rmtree(path)


class _LateRemoval:
    """A file backend that removes what it is told to at the end."""

    def __init__(self, backend):
        self.backend = backend
        self.remove_now = []

    def __getattr__(self, name):
        return getattr(self.backend, name)

    def remove(self, path):
        self.remove_now.append((self.backend.remove, path))

    def rmtree(self, path):
        self.remove_now.append((self.backend.rmtree, path))


@functools.wraps(_save_best_checkpoint)
def _save_best_then_remove(self, runner, metrics):
    if not self.save_best:
        return  # a run that validates alone has no file backend either
    backend = self.file_backend
    self.file_backend = late = _LateRemoval(backend)
    try:
        _save_best_checkpoint(self, runner, metrics)
    finally:
        self.file_backend = backend
    for remove, path in late.remove_now:
        remove(path)
