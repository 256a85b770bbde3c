"""Read OpenLineage events back into the library's classes, whose own validators then judge every field."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

from cai_assets.export.extra import ExportError

# The facets that our events have, by the name in the event: module of the library and class. Jobs and data sets share
# the name 'documentation'.
FACETS = {
    "parent": "parent_run.ParentRunFacet", "processing_engine": "processing_engine_run.ProcessingEngineRunFacet",
    "executionParameters": "execution_parameters_run.ExecutionParametersRunFacet", "tags": "tags_run.TagsRunFacet",
    "jobType": "job_type_job.JobTypeJobFacet", "documentation": "documentation_job.DocumentationJobFacet",
    "DatasetFacet documentation": "documentation_dataset.DocumentationDatasetFacet",
    "sourceCodeLocation": "source_code_location_job.SourceCodeLocationJobFacet",
    "version": "dataset_version_dataset.DatasetVersionDatasetFacet",
    "datasetType": "dataset_type_dataset.DatasetTypeDatasetFacet",
    "dataSource": "datasource_dataset.DatasourceDatasetFacet", "schema": "schema_dataset.SchemaDatasetFacet",
    "dataQualityMetrics": "data_quality_metrics_input_dataset.DataQualityMetricsInputDatasetFacet",
    "outputStatistics": "output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet",
}


def read_events(path: Path) -> list[Any]:
    """The RunEvents of a file with one event a line. Raise ExportError for what the library's classes refuse."""
    from openlineage.client.event_v2 import RunEvent

    events = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            events.append(_build(RunEvent, json.loads(line)))
        except (TypeError, ValueError, KeyError) as e:
            raise ExportError(f"{path} line {number} is no OpenLineage run event: {e}") from None
    return events


def _build(kind: Any, value: Any) -> Any:
    """A value of the annotated type ``kind`` from what JSON has."""
    import attr

    kind = next(_without_none(kind))
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is list:
        return [_build(inner[0], v) for v in value]
    if origin is dict:
        of = str(getattr(inner[1], "__name__", ""))
        return {k: _build(_facet(k, of) if of.endswith("Facet") else inner[1], v) for k, v in value.items()}
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(value)
    if not attr.has(kind):
        return value
    fields = {f.name: f for f in attr.fields(attr.resolve_types(kind))}
    unknown = set(value) - set(fields)
    if unknown:
        raise ValueError(f"{kind.__name__} has no {', '.join(sorted(unknown))}")
    return kind(**{fields[k].alias: _build(fields[k].type, v) for k, v in value.items() if fields[k].init})


def _facet(name: str, of: str) -> Any:
    from openlineage.client import facet_v2

    module, _, kind = FACETS.get(f"{of} {name}", FACETS[name]).partition(".")
    return getattr(getattr(facet_v2, module), kind)


def _without_none(kind: Any) -> Iterator[Any]:
    if typing.get_origin(kind) in {typing.Union, types.UnionType}:
        yield from (k for k in typing.get_args(kind) if k is not type(None))
    else:
        yield kind
