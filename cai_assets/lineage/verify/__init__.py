"""Every artifact against the records: tables, checkpoints, snapshots, the row store, pages, models, and the records.

Guarantees: nothing is changed; each problem names a file and what to do; every copy that one artifact holds of another
is compared with it. A record is checked where something else references it: the inputs of later records and the lineage
in checkpoint folders.
"""

from __future__ import annotations

from cai_assets.lineage.verify.checkpoints import checkpoints
from cai_assets.lineage.verify.pages import pages
from cai_assets.lineage.verify.problem import Problem
from cai_assets.lineage.verify.records import read_records, snapshots
from cai_assets.lineage.verify.rows import calls, shards
from cai_assets.lineage.verify.tables import tables
from cai_assets.store.file_digests import remembered
from cai_assets.store.layout import Layout
from cai_assets.store.records import Record


def verify(layout: Layout) -> list[Problem]:
    """Everything that is wrong under a data root. Reads every byte once. Memory: the largest table."""
    records: dict[str, Record] = {}
    problems = [*read_records(layout, records), *snapshots(layout), *tables(layout, records)]
    problems += [*checkpoints(layout, records), *pages(layout, records), *_models(layout)]
    return [*problems, *shards(layout), *calls(layout, records)]


def _models(layout: Layout) -> list[Problem]:
    """Files of base models whose bytes changed while size and time stayed: nothing else would notice."""
    ours = layout.path("checkpoints").resolve()  # compared with their records
    with remembered(layout) as digests:
        changed = list(digests.changed(but=ours))
    return [Problem("model", str(path), "has changed since its digest was taken",
                    f"restore it; if it is right, delete {layout.path('models', 'digests.json')}") for path in changed]
