"""A CycloneDX 1.6 bill of materials of a checkpoint (ML-BOM).

Guarantees: the model is the subject, with its files and their SHA-256; the base model, every data set and checkpoint
above and every Python package of the records are components, and the dependency graph says what was made from what; the
document passes the library's strict schema. The library has no classes for ``modelCard`` and ``data`` yet: ``bom_card``
adds them to its output.
"""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

from cai_assets.assets import CHECKPOINTS, about
from cai_assets.export.bom_card import data_of, model_card
from cai_assets.export.extra import ExportError, extra
from cai_assets.export.subject import Subject
from cai_assets.store.canonical import digest_file
from cai_assets.store.files import write_atomic
from cai_assets.store.folders import files_in
from cai_assets.store.records import Record

FILE = "bom.cdx.json"
BASE = "base-model"


def write_bom(subject: Subject, folder: Path) -> None:
    """Write ``bom.cdx.json``. Raise ExportError."""
    text = bom_json(subject)
    problem = problem_of(text)
    if problem:
        raise ExportError(f"the bill of materials does not follow the schema of CycloneDX 1.6: {problem}")
    write_atomic(folder / FILE, text.encode())


def problem_of(text: str) -> str | None:
    """The first violation of the strict schema of CycloneDX 1.6 in a document."""
    with extra():
        from cyclonedx.schema import SchemaVersion
        from cyclonedx.validation.json import JsonStrictValidator

    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    return str(error).split("\n", maxsplit=1)[0] if error else None


def bom_json(subject: Subject) -> str:
    """The document."""
    with extra():
        from cyclonedx.output.json import JsonV1Dot6

    document = json.loads(JsonV1Dot6(_bom(subject)).output_as_string())
    document["metadata"]["component"]["modelCard"] = model_card(subject)
    for component in document["components"]:
        record = subject.lineage.records.get(component["bom-ref"])
        if component["type"] == "data" and record:
            component["data"] = [data_of(record)]
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _bom(subject: Subject) -> Any:
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType

    top = subject.lineage.top
    bom = Bom(serial_number=uuid.uuid5(uuid.NAMESPACE_URL, f"urn:cai-assets:bom:{subject.name}:{subject.key}"))
    bom.metadata.timestamp = top.created
    version = str(top.provenance.get("packages", {}).get("cai-assets", "unknown"))
    bom.metadata.tools.components.add(Component(name="cai-assets", version=version, type=ComponentType.APPLICATION))
    model = bom.metadata.component = _model(subject)
    base = _base(subject)
    above = {name: _component(name, r) for name, r in subject.lineage.records.items() if name != subject.lineage.root}
    packages = _packages(subject)
    for component in (base, *above.values(), *packages):
        bom.components.add(component)
    for name, component in {**above, subject.lineage.root: model}.items():
        record = subject.lineage.records[name]
        direct = [above[i.id] for i in record.inputs if i.id in above]
        # every checkpoint is trained from the base model, or from one that was
        bom.register_dependency(component, [*direct, *([base] if record.asset in CHECKPOINTS else [])])
    bom.register_dependency(model, packages)
    return bom


def _model(subject: Subject) -> Any:
    from cyclonedx.model import HashAlgorithm, HashType, Property
    from cyclonedx.model.component import Component, ComponentType

    files = [Component(name=p.relative_to(subject.folder).as_posix(), type=ComponentType.FILE,
                       bom_ref=f"file/{p.relative_to(subject.folder).as_posix()}",
                       hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest_file(p).partition(":")[2])])
             for p in files_in(subject.folder)]
    influence = subject.lineage.influence
    principles = [Property(name=f"cai:principle:{p.version}:{p.id}", value=_say(p)) for p in
                  (influence.principles if influence else ())]
    return Component(name=subject.name, version=subject.key, type=ComponentType.MACHINE_LEARNING_MODEL,
                     bom_ref=subject.lineage.root, description=about(subject.asset), components=files,
                     properties=principles)


def _say(principle: Any) -> str:
    """A principle with what it shaped, as canonical text."""
    return json.dumps(principle.model_dump(mode="json", exclude={"id", "version"}), sort_keys=True, ensure_ascii=False)


def _base(subject: Subject) -> Any:
    from cyclonedx.model.component import Component, ComponentType

    name, weights = subject.base()
    return Component(name=name, version=weights, type=ComponentType.MACHINE_LEARNING_MODEL, bom_ref=BASE,
                     description="The model that all training started from.")


def _component(name: str, record: Record) -> Any:
    from cyclonedx.model.component import Component, ComponentType

    kind = ComponentType.MACHINE_LEARNING_MODEL if record.asset in CHECKPOINTS else ComponentType.DATA
    return Component(name="/".join(filter(None, (record.asset, record.partition))), version=record.digest, type=kind,
                     bom_ref=name, description=about(record.asset))


def _packages(subject: Subject) -> list[Any]:
    """Every Python package that a record names, in each version that took part."""
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    packages = sorted({(name, str(version)) for r in subject.lineage.records.values()
                       for name, version in r.provenance.get("packages", {}).items()})
    return [Component(name=name, version=version, type=ComponentType.LIBRARY, bom_ref=f"pypi/{name}@{version}",
                      purl=PackageURL("pypi", name=name, version=version)) for name, version in packages]
