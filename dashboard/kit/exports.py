"""Tables as CSV (RFC 4180), streamed. Only one piece is in memory at a time, for any size of table."""

import csv
from collections.abc import Iterable, Iterator, Sequence

from django.http import StreamingHttpResponse

# A spreadsheet reads a cell that begins with one of these as a formula, and users choose the names in these tables.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_ROWS_AT_ONCE = 500


def csv_response(filename: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> StreamingHttpResponse:
    """The response that downloads a file.

    Args:
        filename: the name of the file, with its extension.
        header: the first row.
        rows: read while the response is sent. None is an empty cell.
    """
    answer = StreamingHttpResponse(_pieces(header, rows), content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="{filename}"'
    answer["Cache-Control"] = "no-store"
    return answer


def _pieces(header: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    pieces = _Pieces()
    writer = csv.writer(pieces)
    writer.writerow(header)
    for number, row in enumerate(rows, start=1):
        writer.writerow([_cell(value) for value in row])
        if number % _ROWS_AT_ONCE == 0:
            yield pieces.take()
    yield pieces.take()


class _Pieces:
    """A file for csv.writer. It collects the text that was written since the last `take`."""

    def __init__(self) -> None:
        self._written: list[str] = []

    def write(self, text: str) -> int:
        self._written.append(text)
        return len(text)

    def take(self) -> str:
        taken, self._written = "".join(self._written), []
        return taken


def _cell(value: object) -> str:
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text
