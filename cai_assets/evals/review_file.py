"""The file in which people review what broke a policy: JSONL, or CSV for a spreadsheet, by its extension.

Guarantees: what is written is read back the same, whatever the texts hold; a spreadsheet does not run a text as a
formula; a wrongly edited file is refused, naming the row and field; nothing is guessed.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cai_assets.engines.protocol import Message
from cai_assets.errors import CaiError
from cai_assets.evals.red_team import Break
from cai_assets.lineage.origins import Origin, read_origin
from cai_assets.reading.faults import RowFault
from cai_assets.reading.names import KINDS
from cai_assets.reading.turns import message_of
from cai_assets.store.files import write_atomic
from cai_assets.store.json_text import parse_json

FIELDS = ("keep", "note", "prompt", "context", "kind", "category", "why", "p_judge", "response", *Origin._fields)
YES, NO = {"yes", "y", "true", "1", "keep"}, {"no", "n", "false", "0", "drop"}
# A spreadsheet reads a cell that starts with one of these as a formula; a leading apostrophe marks it as text.
FORMULA = re.compile(r"'*[=+\-@\t\r]")
MAX_CELL = 10_000_000


class ReviewError(CaiError, ValueError):
    """A review file that cannot be used. The message says where, what and what to do."""


def write_review(path: Path, breaks: Sequence[Break]) -> None:
    """Write the whole file; a reader sees the old one or the new one."""
    rows = [_plain(b) for b in breaks]
    write_atomic(path, (_as_csv(rows) if _is_csv(path) else _as_jsonl(rows)).encode())


def read_review(path: Path) -> list[Break]:
    """The rows of a review file, as edited. Raise ReviewError."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as e:
        raise ReviewError(f"{path}: {e.strerror or e}: 'cai red-team breaks' writes one") from None
    except UnicodeDecodeError as e:
        raise ReviewError(f"{path}: not UTF-8 at byte {e.start + 1}: save it as UTF-8") from None
    rows = _from_csv(path, text) if _is_csv(path) else _from_jsonl(path, text)
    return [_break(f"{path}: row {n}", row) for n, row in enumerate(rows, start=1)]


def _is_csv(path: Path) -> bool:
    if path.suffix not in {".csv", ".jsonl"}:
        raise ReviewError(f"{path}: a review file ends in .jsonl or .csv")
    return path.suffix == ".csv"


def _plain(b: Break) -> dict[str, Any]:
    keep = "" if b.keep is None else "yes" if b.keep else "no"
    return {**b._asdict(), "keep": keep, "context": list(b.context), **b.origin._asdict()}


def _as_jsonl(rows: Sequence[Mapping[str, Any]]) -> str:
    return "".join(json.dumps({f: row[f] for f in FIELDS}, ensure_ascii=False) + "\n" for row in rows)


def _as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(FIELDS)
    writer.writerows([_cell(f, row[f]) for f in FIELDS] for row in rows)
    return out.getvalue()


def _cell(field: str, value: Any) -> str:
    if field == "context":
        return json.dumps(value, ensure_ascii=False) if value else ""
    text = "" if value is None else str(value)
    return f"'{text}" if FORMULA.match(text) else text


def _from_jsonl(path: Path, text: str) -> list[dict[str, Any]]:
    rows = []
    for n, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
        except ValueError as e:
            raise ReviewError(f"{path}:{n}: not JSON: {e}: keep one object on each line") from None
        _check_fields(f"{path}:{n}", row.keys() if isinstance(row, dict) else ())
        rows.append(row)
    return rows


def _from_csv(path: Path, text: str) -> list[dict[str, Any]]:
    csv.field_size_limit(MAX_CELL)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        table = [row for row in reader if row]
    except csv.Error as e:
        raise ReviewError(f"{path}:{reader.line_num}: {e}: save it as comma-separated UTF-8") from None
    header = table[0] if table else []
    _check_fields(f"{path}:1", header)
    for n, cells in enumerate(table[1:], start=1):
        if len(cells) != len(header):
            raise ReviewError(f"{path}: row {n} has {len(cells)} cells, the header has {len(header)}")
    return [_uncelled(path, n, dict(zip(header, cells, strict=True))) for n, cells in enumerate(table[1:], start=1)]


def _uncelled(path: Path, n: int, row: dict[str, str]) -> dict[str, Any]:
    plain: dict[str, Any] = {k: v[1:] if v.startswith("'") and FORMULA.match(v) else v for k, v in row.items()}
    try:
        plain["context"] = json.loads(plain["context"] or "[]")
        plain["p_judge"] = float(plain["p_judge"]) if plain["p_judge"] else None
    except ValueError as e:
        raise ReviewError(f"{path}: row {n}: 'context' or 'p_judge' was changed: {e}") from None
    return plain


def _check_fields(where: str, row: Any) -> None:
    missing, unknown = sorted(set(FIELDS) - set(row)), sorted(set(row) - set(FIELDS))
    if missing or unknown:
        raise ReviewError(f"{where}: not a row of a review file: missing {', '.join(missing) or 'nothing'}; unknown "
                          f"{', '.join(map(str, unknown)) or 'nothing'}")


def _break(where: str, row: Mapping[str, Any]) -> Break:
    texts = {f: _text(where, f, row[f]) for f in ("note", "prompt", "category", "why", "response")}
    origin = read_origin({f: row[f] for f in Origin._fields})
    if origin is None:
        raise ReviewError(f"{where}: its origin ({', '.join(Origin._fields)}) was changed: take it from the file that "
                          "'cai red-team breaks' wrote")
    if row["kind"] not in KINDS.values():
        raise ReviewError(f"{where}: 'kind' must be {' or '.join(sorted(set(KINDS.values())))}, not {row['kind']!r}")
    if not isinstance(row["p_judge"], int | float | None):
        raise ReviewError(f"{where}: 'p_judge' must be a number or empty")
    return Break(keep=_keep(where, row["keep"]), context=_context(where, row["context"]), kind=row["kind"],
                 p_judge=row["p_judge"], origin=origin, **texts)


def _text(where: str, field: str, value: object) -> str:
    if not isinstance(value, str):
        raise ReviewError(f"{where}: '{field}' must be text")
    return value


def _keep(where: str, value: object) -> bool | None:
    answer = str(value).strip().lower()
    if value is None or answer == "":
        return None
    if answer in YES or answer in NO:
        return answer in YES
    raise ReviewError(f"{where}: 'keep' must be yes, no, or empty until decided; found {value!r}")


def _context(where: str, value: object) -> tuple[Message, ...]:
    if not isinstance(value, list):
        raise ReviewError(f"{where}: 'context' must be a list of turns")
    try:
        return tuple(message_of(turn, f"context[{i}]") for i, turn in enumerate(value))
    except RowFault as fault:
        raise ReviewError(f"{where}: {fault}") from None
