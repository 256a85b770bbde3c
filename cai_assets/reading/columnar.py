"""Rows of Parquet and Arrow files, as pyarrow reads them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cai_assets.reading.faults import RowFault

BATCH = 4096


def parquet_rows(source: Any) -> Iterator[object]:
    """``source``: a path or a buffer. Columns without any text or number of their own (images) are not read."""
    with pq.ParquetFile(source) as file:
        names = [f.name for f in file.schema_arrow if _is_read(f.type)]
        yield from _rows(file.iter_batches(batch_size=BATCH, columns=names))


def arrow_rows(source: Any) -> Iterator[object]:
    """An IPC stream or file, which Feather files are, too."""
    with pa.memory_map(source) if isinstance(source, str) else source as data:
        try:
            batches: Iterable[Any] = pa.ipc.open_stream(data)
        except pa.ArrowInvalid:
            file = pa.ipc.open_file(data)
            batches = (file.get_batch(i) for i in range(file.num_record_batches))
        yield from _rows(b.select([f.name for f in b.schema if _is_read(f.type)]) for b in batches)


def _is_read(kind: Any) -> bool:
    """Not bytes, and not lists of numbers: images, sounds and embeddings are large and mean nothing here."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return not pa.types.is_primitive(kind.value_type) and _is_read(kind.value_type)
    if pa.types.is_struct(kind):
        return any(_is_read(field.type) for field in kind)
    return not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


def _rows(batches: Iterable[Any]) -> Iterator[object]:
    for batch in batches:
        batch.validate()
        try:
            yield from batch.to_pylist()
        except UnicodeDecodeError:  # a column of strings may hold any bytes: find the rows that do
            yield from (_row(batch.slice(i, 1)) for i in range(batch.num_rows))


def _row(batch: Any) -> object:
    try:
        row: object = batch.to_pylist()[0]
    except UnicodeDecodeError as e:
        return RowFault("not UTF-8", e.object[:400].decode(errors="backslashreplace"))
    return row
