"""Remove machine-specific values from settings: local paths keep only their last part, addresses are dropped.

Texts of principles, prompts and rows are not settings, and are never changed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from cai_assets.lineage.trace import Lineage
from cai_assets.store.records import Record

PATH = re.compile(r"(?<![\w/.~])~?/(?:[^\s/:'\"]+/)*([^\s/:'\"]+)/?")
ADDRESS = re.compile(r"\w+://[^\s'\"]+")
WITHHELD = "address withheld"


def scrub(value: Any) -> Any:
    """``value`` with local paths cut to their last part, and without addresses of servers."""
    if isinstance(value, str):
        return PATH.sub(lambda m: m.group(1), ADDRESS.sub(WITHHELD, value))
    if isinstance(value, Mapping):
        return {k: scrub(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [scrub(v) for v in value]
    return value


def scrub_record(record: Record) -> Record:
    """A record as it may be exported."""
    return record.model_copy(update={name: scrub(getattr(record, name)) for name in (
        "settings", "details", "provenance")})


def scrub_lineage(lineage: Lineage) -> Lineage:
    """A lineage as it may be exported: the same records, rows and principles."""
    records = {name: scrub_record(r) for name, r in lineage.records.items()}
    return lineage.model_copy(update={"records": records, "models": scrub(lineage.models)})
