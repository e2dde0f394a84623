"""Tables of results, for a terminal or for Markdown."""

from collections.abc import Sequence


def format_table(rows: Sequence[Sequence[object]], head: Sequence[str] | None = None, markdown: bool = False) -> str:
    """One line for each row; the first column is aligned to the left, the others to the right.

    Args:
        rows: Cells of each row. They are printed as they are, so format numbers first.
        head: Titles of the columns. Defaults to none; Markdown needs them.
        markdown: Whether to print bars between the columns. Defaults to False: columns are two spaces apart.

    Returns:
        Lines without a line break at the end; an empty string if there are no rows and no head.

    Raises:
        ValueError: If rows and head differ in length, or if Markdown has no head.
    """
    if markdown and head is None:
        raise ValueError('a Markdown table needs a head: give the titles of the columns')
    lines = [[str(cell) for cell in row] for row in ([head] if head is not None else []) + list(rows)]
    if not lines:
        return ''
    if len(lengths := {len(line) for line in lines}) > 1:
        raise ValueError(f'the rows of the table have {sorted(lengths)} cells: give every row the same number')
    if markdown:
        texts = [f'| {" | ".join(line)} |' for line in lines]
        return '\n'.join([texts[0], '|' + '---|' * len(lines[0]), *texts[1:]])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return '\n'.join(
        '  '.join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip() for line in lines
    )
