"""An in-toto Statement (v1) with SLSA Provenance (v1) for a checkpoint.

Guarantees: every file of the checkpoint is a subject with its SHA-256; what it was made from is named by digest; the
statement follows the specification's schema, kept here as ``schemas/slsa_statement_v1.schema.json``. It is not signed:
sign it with a tool for in-toto attestations if others must trust it (unsigned, it says what SLSA Build L1 asks for).

``buildType``, TRAINING, is a plain identifier: one training run by cai-assets. Its ``externalParameters`` are ``kind``,
``constitution`` (version and digest, null without one), ``settings`` (of the run) and ``seed``.
``resolvedDependencies`` are the base model, the training rows, the source code and every record above. Digests that
begin with ``cai`` are our own (BLAKE2b, 128 bits, over content; ``store/canonical.py``), all others are SHA-256 or a
git commit.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from cai_assets.constitution.digest import digest
from cai_assets.export.extra import ExportError, extra
from cai_assets.export.subject import Subject
from cai_assets.export.times import stamp, started
from cai_assets.store.canonical import digest_file
from cai_assets.store.files import write_atomic
from cai_assets.store.folders import files_in

FILE = "provenance.intoto.json"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
TRAINING = "urn:cai-assets:training:v1"
BUILDER = "urn:cai-assets:local-builder"
_HEX = re.compile(r"[0-9a-f]{32,128}")


def write_provenance(subject: Subject, folder: Path) -> None:
    """Write ``provenance.intoto.json``. Raise ExportError."""
    document = statement(subject)
    faults = problems(document)
    if faults:
        raise ExportError(f"the statement does not follow its schema: {'; '.join(faults)}")
    write_atomic(folder / FILE, (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode())


def statement(subject: Subject) -> dict[str, Any]:
    """The statement as JSON values."""
    top = subject.lineage.top
    subjects = [{"name": p.relative_to(subject.folder).as_posix(), "digest": digest_set(digest_file(p))}
                for p in files_in(subject.folder)]
    git = top.provenance.get("git", {})
    commit = str(git.get("commit", ""))
    return {"_type": STATEMENT, "subject": subjects, "predicateType": PREDICATE, "predicate": {
        "buildDefinition": {
            "buildType": TRAINING, "externalParameters": _external(subject),
            "internalParameters": {"codeVersion": subject.about.get("code_version"), "checkpoint": subject.key},
            "resolvedDependencies": [*_dependencies(subject), *([] if not _HEX.fullmatch(commit) else [
                {"name": "source code", "uri": "urn:cai-assets:source", "digest": {"gitCommit": commit},
                 "annotations": {"localChanges": git.get("dirty")}}])]},
        "runDetails": {
            "builder": {"id": BUILDER, "version": dict(top.provenance.get("packages", {}))},
            "metadata": {"invocationId": top.run_id, "startedOn": stamp(started(top)),
                         "finishedOn": stamp(top.created)}},
    }}


def _external(subject: Subject) -> dict[str, Any]:
    constitutions = [{"version": version, "digest": digest_set(digest(c))}
                     for version, c in sorted(subject.lineage.constitutions.items())]
    only = constitutions[0] if len(constitutions) == 1 else constitutions or None
    return {"kind": subject.asset, "constitution": only, "settings": subject.about["settings"],
            "seed": subject.about.get("seed")}


def _dependencies(subject: Subject) -> list[dict[str, Any]]:
    about = subject.about
    base, weights = subject.base()
    sources = [_resource(f"base model {base}", weights), _resource("training rows", str(about["data"]))]
    if str(about["base"]["weights"]) != weights:
        sources.insert(0, _resource(f"start of the training: {about['base_name']}", str(about["base"]["weights"])))
    above = [_resource(name, r.digest) for name, r in sorted(subject.lineage.records.items())
             if name != subject.lineage.root]
    return [*sources, *above]


def _resource(name: str, identity: str) -> dict[str, Any]:
    """A resource by our digest; a value that is not a digest, as for a scripted model, becomes an annotation."""
    digests = digest_set(identity)
    return {"name": name, "digest": digests} if digests else {"name": name, "annotations": {"identity": identity}}


def digest_set(identity: str) -> dict[str, str]:
    """'sha256:…' unchanged; our own 't1:…' under the name 'cai_t1'; nothing for anything else."""
    name, _, value = identity.rpartition(":")
    if not _HEX.fullmatch(value):
        return {}
    return {name if name == "sha256" else f"cai_{name}": value}


def problems(document: Mapping[str, Any]) -> list[str]:
    """How a statement violates its schema."""
    with extra():
        from jsonschema import Draft202012Validator  # type: ignore[import-untyped,unused-ignore]

    schema = json.loads(files("cai_assets.export").joinpath("schemas/slsa_statement_v1.schema.json").read_text("utf-8"))
    validator = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
    return [f"{e.json_path}: {e.message}" for e in validator.iter_errors(document)]


def verify(path: Path, folder: Path) -> list[str]:
    """Where a checkpoint's files differ from a statement's subjects. Raise ExportError if it is not a statement."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        wrong = problems(document)
    except (OSError, ValueError) as e:
        raise ExportError(f"{path} cannot be read: {e}") from None
    if wrong:
        raise ExportError(f"{path} is not an SLSA statement: {'; '.join(wrong)}")
    listed = {s["name"]: s["digest"]["sha256"] for s in document["subject"]}
    there = {p.relative_to(folder).as_posix(): p for p in files_in(folder)}
    return [*(f"{n} is missing" for n in sorted(listed.keys() - there.keys())),
            *(f"{n} is no subject" for n in sorted(there.keys() - listed.keys())),
            *(f"{n} has a different SHA-256" for n in sorted(listed.keys() & there.keys())
              if digest_file(there[n]) != f"sha256:{listed[n]}")]
