"""Tables that a terminal and a README both show."""

from collections.abc import Sequence


def markdown_table(header: Sequence[str], rows: Sequence[Sequence]) -> str:
    """Lay out rows as a Markdown table.

    Args:
        header (Sequence[str]): The columns' titles; a title that begins with
            ``'>'`` makes its column right-aligned.
        rows (Sequence[Sequence]): One sequence a row; its elements are shown
            by ``str``, None as ``-``.

    Returns:
        str: The table, without a line break at its end.

    Raises:
        ValueError: A row has not as many elements as the header.
    """
    rows = [['-' if x is None else str(x) for x in row] for row in rows]
    for row in rows:
        if len(row) != len(header):
            raise ValueError(
                f'A row of {len(row)} elements in a table of {len(header)} '
                f'columns: {row}.'
            )
    rules = ['---:' if title[:1] == '>' else '---' for title in header]
    titles = [title.removeprefix('>').strip() for title in header]
    return '\n'.join(
        f'| {" | ".join(row)} |' for row in (titles, rules, *rows)
    )
