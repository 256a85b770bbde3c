"""Every materialization that led to a checkpoint, and its evaluation, as OpenLineage run events.

Names. Namespace: NAMESPACE for jobs and data sets. Job: the asset's name. Data set: ``ASSET/PARTITION`` ('all' without
partitions), its content in the facet ``version`` (our digest), a base model ``model/NAME``. Run: a UUID made from the
record, so that the same record is the same run in every export; its parent is the Dagster run, job ``materialise``.
Each record is a START and a COMPLETE event. They are written by the library's client into one file, and read back
through the library's classes.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cai_assets.assets import CHECKPOINTS, about
from cai_assets.export.extra import ExportError, extra
from cai_assets.export.scrub import scrub
from cai_assets.export.subject import Subject
from cai_assets.export.tables import setting_rows
from cai_assets.export.times import stamp, started
from cai_assets.store.folders import has
from cai_assets.store.parquet import StoreCorrupt, open_parquet, there
from cai_assets.store.published import RECORD, read_about
from cai_assets.store.records import UNPARTITIONED, Record

NAMESPACE = "cai-assets"
PRODUCER = "urn:cai-assets:export"
FILE = "openlineage.jsonl"
_RUNS = uuid.uuid5(uuid.NAMESPACE_URL, "urn:cai-assets:materialisation")


def write_openlineage(subject: Subject, folder: Path) -> int:
    """Write ``openlineage.jsonl`` and return the number of events. Raise ExportError."""
    with extra():
        from openlineage.client import OpenLineageClient
        from openlineage.client.transport.file import FileConfig, FileTransport

    events = run_events(subject)
    # The client would name the repository and branch of whatever the working directory is.
    config: dict[str, Any] = {"facets": {"source_code_location": {"disabled": True}}}
    client = OpenLineageClient(transport=FileTransport(FileConfig(str(folder / FILE), append=True)), config=config)
    for event in events:
        client.emit(event)
    client.close()
    if _written(folder / FILE) != len(events):
        raise ExportError("the OpenLineage client did not write every event: unset OPENLINEAGE_DISABLED, and remove "
                          "filters from its configuration")
    return len(events)


def _written(path: Path) -> int:
    """Events in a file, one per line."""
    return len(path.read_text(encoding="utf-8").splitlines()) if path.is_file() else 0


def run_events(subject: Subject) -> list[Any]:
    """The events, oldest materialization first."""
    records = materializations(subject)
    by_ref = {r.ref.id: r for r in records}
    made = _Events(subject, by_ref)
    return [event for r in records for event in made.of(r)]


def materializations(subject: Subject) -> list[Record]:
    """Records of the lineage and of the evaluation, in the order in which they were written."""
    top = subject.lineage.top
    both = {**subject.evaluated, **subject.lineage.records}
    if not top.number:  # its folder was written before its record
        both = {k: r for k, r in both.items() if r is top or (r.asset, r.digest) != (top.asset, top.digest)}
    return sorted(both.values(), key=lambda r: (r.created, r.ref.id))


def run_id(record: Record) -> str:
    """The UUID of a materialization."""
    return str(uuid.uuid5(_RUNS, f"{record.ref.id} {record.digest} {record.run_id}"))


class _Events:
    """Builds the events of records that know each other."""

    def __init__(self, subject: Subject, records: Mapping[str, Record]) -> None:
        self.subject, self.records = subject, records

    def of(self, record: Record) -> list[Any]:
        from openlineage.client.event_v2 import Job, Run, RunEvent, RunState

        times = {RunState.START: started(record), RunState.COMPLETE: record.created}
        return [RunEvent(
            eventTime=stamp(time), producer=PRODUCER, eventType=state,
            run=Run(run_id(record), self._run_facets(record)),
            job=Job(NAMESPACE, record.asset, self._job_facets(record)), inputs=self._inputs(record),
            outputs=[self._output(record)]) for state, time in times.items()]

    def _run_facets(self, record: Record) -> dict[str, Any]:
        from openlineage.client import facet_v2 as f

        facets: dict[str, Any] = {}
        if _is_uuid(record.run_id):
            facets["parent"] = f.parent_run.ParentRunFacet(
                run=f.parent_run.Run(record.run_id), job=f.parent_run.Job(NAMESPACE, "materialise"), producer=PRODUCER)
        packages: Mapping[str, str] = record.provenance.get("packages", {})
        if "dagster" in packages:
            facets["processing_engine"] = f.processing_engine_run.ProcessingEngineRunFacet(
                packages["dagster"], name="dagster", openlineageAdapterVersion=packages.get("cai-assets"),
                producer=PRODUCER)
        settings = setting_rows(record.settings)
        if settings:
            facets["executionParameters"] = f.execution_parameters_run.ExecutionParametersRunFacet(
                [f.execution_parameters_run.ExecutionParameter(key=k, value=v) for k, v in settings], producer=PRODUCER)
        return facets

    def _job_facets(self, record: Record) -> dict[str, Any]:
        from openlineage.client import facet_v2 as f

        commit = str(record.provenance.get("git", {}).get("commit", "unknown"))
        kind = "MODEL" if record.asset in CHECKPOINTS else "TABLE"
        return {
            "jobType": f.job_type_job.JobTypeJobFacet("BATCH", "DAGSTER", kind, producer=PRODUCER),
            "documentation": f.documentation_job.DocumentationJobFacet(about(record.asset),
                                                                       producer=PRODUCER),
            "sourceCodeLocation": f.source_code_location_job.SourceCodeLocationJobFacet(
                "git", "urn:cai-assets:source", path="cai_assets/defs", version=commit, producer=PRODUCER)}

    def _inputs(self, record: Record) -> list[Any]:
        from openlineage.client import facet_v2 as f
        from openlineage.client.event_v2 import InputDataset

        datasets = []
        for ref in record.inputs:
            above = self.records.get(ref.id)
            rows = above.rows if above and above.asset not in CHECKPOINTS else None
            quality: dict[str, Any] = {} if rows is None else {"dataQualityMetrics": (
                f.data_quality_metrics_input_dataset.DataQualityMetricsInputDatasetFacet({}, rowCount=rows,
                                                                                         producer=PRODUCER))}
            datasets.append(InputDataset(NAMESPACE, _name(ref.asset, ref.partition),
                                         facets=self._facets(ref.asset, ref.digest, above), inputFacets=quality))
        base, weights = self._base(record)
        if base and not weights.startswith("k1:"):
            version = f.dataset_version_dataset.DatasetVersionDatasetFacet(weights, producer=PRODUCER)
            datasets.append(InputDataset(NAMESPACE, f"model/{base}", facets={"version": version}))
        return datasets

    def _base(self, record: Record) -> tuple[str, str]:
        """Name and weights of what a checkpoint was trained from; empty where that is not known."""
        models = self.subject.lineage.models.get(record.ref.id if record.number else record.digest)
        if models is not None or record.asset not in CHECKPOINTS:
            return (models or {}).get("base_name", ""), (models or {}).get("base", "")
        folder = self.subject.layout.path(record.path)
        if not has(folder, RECORD):
            return "", ""
        about = scrub(read_about(folder))
        return str(about["base_name"]), str(about["base"]["weights"])

    def _output(self, record: Record) -> Any:
        from openlineage.client import facet_v2 as f
        from openlineage.client.event_v2 import OutputDataset

        rows: dict[str, Any] = {} if record.rows is None or record.asset in CHECKPOINTS else {"outputStatistics": (
            f.output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(rowCount=record.rows, fileCount=1,
                                                                                  producer=PRODUCER))}
        return OutputDataset(NAMESPACE, _name(record.asset, record.partition),
                             facets=self._facets(record.asset, record.digest, record), outputFacets=rows)

    def _facets(self, asset: str, digest: str, record: Record | None) -> dict[str, Any]:
        from openlineage.client import facet_v2 as f

        facets: dict[str, Any] = {
            "version": f.dataset_version_dataset.DatasetVersionDatasetFacet(digest, producer=PRODUCER),
            "documentation": f.documentation_dataset.DocumentationDatasetFacet(about(asset),
                                                                               producer=PRODUCER),
            "datasetType": f.dataset_type_dataset.DatasetTypeDatasetFacet(
                "MODEL" if asset in CHECKPOINTS else "FILE", producer=PRODUCER)}
        if record:
            facets["dataSource"] = f.datasource_dataset.DatasourceDatasetFacet(
                NAMESPACE, f"urn:cai-assets:{record.path}", producer=PRODUCER)
            fields = [f.schema_dataset.SchemaDatasetFacetFields(name, type=kind, ordinal_position=i + 1)
                      for i, (name, kind) in enumerate(self._schema(record).items())]
            if fields:
                facets["schema"] = f.schema_dataset.SchemaDatasetFacet(fields, producer=PRODUCER)
        return facets

    def _schema(self, record: Record) -> dict[str, str]:
        """Columns of a table that is available."""
        path = self.subject.layout.path(record.path)
        if path.suffix != ".parquet" or not there(path):
            return {}
        try:
            with open_parquet(path) as file:
                return {field.name: str(field.type) for field in file.schema_arrow}
        except StoreCorrupt as e:
            raise ExportError(str(e)) from None


def _name(asset: str, partition: str | None) -> str:
    return f"{asset}/{partition or UNPARTITIONED}"


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True
