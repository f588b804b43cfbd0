"""How the commands in ``tools/`` fail."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def errors_as_one_line() -> Iterator[None]:
    """End a command by ``error: ...`` where its input is at fault.

    Faults of input are ``ValueError``, ``OSError`` and the package's own
    ``CheckpointError``, whose messages say what was found and expected.
    Anything else is a fault of the program and keeps its traceback, but for
    Ctrl-C.

    Raises:
        SystemExit: With the message, exit status 1.
    """
    from ..compat import CheckpointError

    try:
        yield
    except (ValueError, OSError, CheckpointError) as error:
        message = str(error).strip() or type(error).__name__
        if 'Original Traceback' in message:  # of a loader's process
            message = message.splitlines()[-1]
        sys.exit(f'error: {message}')
    except KeyboardInterrupt:
        sys.exit('stopped')
