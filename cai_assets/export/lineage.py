"""The lineage of a checkpoint in three formats that other tools read, written as one folder."""

from __future__ import annotations

from pathlib import Path

from cai_assets.export.bom import write_bom
from cai_assets.export.folder import fresh
from cai_assets.export.openlineage import write_openlineage
from cai_assets.export.provenance import write_provenance
from cai_assets.export.subject import Subject


def export_lineage(subject: Subject, out: Path, *, force: bool = False) -> None:
    """Write the folder ``out``: OpenLineage events, in-toto statement, CycloneDX document. Raise ExportError."""
    with fresh(out, force=force, private=(subject.layout.path(), Path.home())) as folder:
        write_openlineage(subject, folder)
        write_provenance(subject, folder)
        write_bom(subject, folder)
