"""How the commands in ``tools/`` fail."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def errors_as_one_line() -> Iterator[None]:
    """End a command by ``error: ...`` where its input is at fault.

    Faults of input are ``ValueError``, ``OSError``, the package's own
    ``CheckpointError`` and the ``KeyError`` of a ``type`` that is in no
    registry, whose messages say what was found and expected.
    Anything else is a fault of the program and keeps its traceback, but for
    Ctrl-C.

    Raises:
        SystemExit: With the message, exit status 1.
    """
    from ..compat import CheckpointError

    try:
        yield
    except (ValueError, OSError, CheckpointError, KeyError) as error:
        message = str(error).strip() or type(error).__name__
        if isinstance(error, KeyError):
            message = str(*error.args[:1])  # without quotes
            if not re.search(r' is (not in the .* registry|unknown)', message):
                raise
        if 'Original Traceback' in message:  # of a loader's process
            message = message.splitlines()[-1]
        sys.exit(f'error: {message}')
    except KeyboardInterrupt:
        sys.exit('stopped')
