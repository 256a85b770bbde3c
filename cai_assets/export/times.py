"""Times as these formats require: RFC 3339, UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cai_assets.store.records import Record


def started(record: Record) -> datetime:
    """When the materialization that a record describes began."""
    return record.created - timedelta(seconds=record.seconds)


def stamp(time: datetime) -> str:
    """Such as 2026-01-31T12:00:00.123456Z."""
    return f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}Z"
