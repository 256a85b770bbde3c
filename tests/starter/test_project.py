"""``cai init`` writes and never replaces; ``cai upgrade`` brings files to a new version, and leaves what was edited."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

import cai_assets
from cai_assets.cli import app
from cai_assets.starter import contents, project

REPOSITORY = Path(__file__).parents[2]
WORKFLOW = ".github/workflows/constitutions.yaml"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    project.init(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def cai(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return result.output


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def newer(monkeypatch: pytest.MonkeyPatch, **changed: str | None) -> None:
    """As if a new version wrote these files otherwise, or not at all."""
    new = contents.contents()
    for name, text in changed.items():
        del new[name]
        if text is not None:
            new[name] = text.encode()
    monkeypatch.setattr(project, "contents", lambda **_: new)


def test_init_writes_a_whole_project_of_this_version(tmp_path: Path) -> None:
    cai("init", str(tmp_path / "mine"))
    made = files(tmp_path / "mine")
    assert {"settings.yaml", "workspace.yaml", "dagster_home/dagster.yaml", "compose.yaml", ".gitignore", "README.md",
            WORKFLOW, "constitutions/harmlessness.yaml", "constitutions/harmlessness.tests.yaml"} <= made.keys()
    assert made["requirements.txt"].decode() == f"cai-assets[cpu,export,postgres]=={cai_assets.__version__}\n"
    assert not any(b"cai_assets/" in data for name, data in made.items() if not name.startswith(".cai/"))
    for name in made:
        if name.endswith(".yaml"):
            first = made[name].decode().splitlines()[0]
            if "$schema=" in first:
                assert (tmp_path / "mine" / name).parent.joinpath(first.partition("$schema=")[2]).is_file(), name


def test_what_the_checkout_has_too_is_the_same(folder: Path) -> None:
    for name in ("workspace.yaml", "dagster_home/dagster.yaml", "dagster_home/dagster.postgres.yaml", "compose.yaml"):
        own = (folder / name).read_text().replace(f"'cai-assets[postgres]=={cai_assets.__version__}'", "'.[postgres]'")
        assert own == (REPOSITORY / name).read_text(), name
    assert {p.name for p in (folder / "constitutions").iterdir()} == {
        p.name for p in (REPOSITORY / "constitutions").glob("*.yaml")}


def test_the_extras_and_the_commands_of_the_files_exist(folder: Path) -> None:
    extras = (folder / "requirements.txt").read_text().partition("[")[2].partition("]")[0].split(",")
    known = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extras) <= known.keys()
    steps = yaml.safe_load((folder / WORKFLOW).read_text())["jobs"]["check"]["steps"]
    commands = "\n".join(step.get("run", "") for step in steps)
    assert all(f"cai {verb}" in commands for verb in ("lint", "test", "plan"))


def test_init_replaces_nothing_and_says_what_it_kept(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    said = cai("init", str(tmp_path))
    assert "README.md: it is there already" in said
    assert (tmp_path / "README.md").read_text() == "mine"
    before = files(tmp_path)
    assert "nothing written" in cai("init", str(tmp_path))
    assert files(tmp_path) == before


def test_files_for_other_machines_come_if_asked_for_and_are_upgraded_where_they_came(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_the_checkout = {f"deploy/{name}": data for name, data in files(REPOSITORY / "deploy").items()}
    assert not files(folder).keys() & of_the_checkout.keys()
    assert "nothing to change" in cai("upgrade")
    assert f"{len(of_the_checkout)} files written" in cai("init", "--deploy")
    made = files(folder)
    differs = {name for name, data in of_the_checkout.items() if made[name] != data}
    assert differs == {"deploy/sky/cai.yaml"}
    package = f"'cai-assets[gpu,objects,export]=={cai_assets.__version__}'"
    assert f"pip install {package}" in made["deploy/sky/cai.yaml"].decode()
    assert b"EXTRAS" in made["Dockerfile"], "deploy/compose.objects.yaml builds it with another"
    new = {**project.contents(deploy=True), "deploy/sky/cai.yaml": b"name: other\n"}
    monkeypatch.setattr(project, "contents", lambda **_: new)
    assert "deploy/sky/cai.yaml: replaced" in cai("upgrade")
    assert files(folder)["deploy/sky/cai.yaml"] == b"name: other\n"


def test_an_upgrade_to_the_same_version_changes_nothing(folder: Path) -> None:
    before = files(folder)
    assert "nothing to change" in cai("upgrade")
    assert files(folder) == before


def test_an_upgrade_shows_and_replaces_what_nobody_edited_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    newer(monkeypatch, **{"compose.yaml": "services: {}\n", "Dockerfile": None})
    planned = cai("upgrade", "--plan")
    assert "compose.yaml: would be replaced" in planned
    assert "+services: {}" in planned
    assert "Dockerfile: this version does not write it" in planned
    assert (folder / "compose.yaml").read_text() != "services: {}\n"
    assert "compose.yaml: replaced" in cai("upgrade")
    assert (folder / "compose.yaml").read_text() == "services: {}\n"
    assert (folder / "Dockerfile").exists()
    before = files(folder)
    assert "nothing to change" in cai("upgrade")
    assert files(folder) == before


def test_an_edited_file_is_kept_until_it_is_given_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "compose.yaml").write_text("services: {mine: {}}\n")
    assert "nothing to change" in cai("upgrade"), "this version's own file is no news"
    newer(monkeypatch, **{"compose.yaml": "services: {}\n"})
    for _ in range(2):
        said = cai("upgrade")
        assert "compose.yaml: kept, because you edited it" in said
        assert "-services: {mine: {}}" in said
        assert "cai upgrade --take compose.yaml" in said
        assert (folder / "compose.yaml").read_text() == "services: {mine: {}}\n"
    cai("upgrade", "--take", "compose.yaml")
    assert (folder / "compose.yaml").read_text() == "services: {}\n"


def test_what_was_removed_stays_away_and_what_is_new_comes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "Dockerfile").unlink()
    newer(monkeypatch, **{"compose.yaml": "services: {}\n"})
    new = project.contents()
    monkeypatch.setattr(project, "contents", lambda **_: {**new, "tools/new.sh": b"true\n"})
    assert "Dockerfile: not written, because you removed it" in cai("upgrade")
    assert not (folder / "Dockerfile").exists()
    assert (folder / "tools" / "new.sh").read_bytes() == b"true\n"
    cai("upgrade", "--take", "Dockerfile")
    assert (folder / "Dockerfile").exists()


def test_an_upgrade_never_touches_constitutions_and_settings(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    newer(monkeypatch, **{"settings.yaml": "scale: small\n", "constitutions/harmlessness.yaml": "version: v2\n"})
    before = files(folder)
    assert "nothing to change" in cai("upgrade")
    assert files(folder) == before


def test_an_upgrade_says_what_this_version_cannot_read(folder: Path) -> None:
    (folder / "settings.yaml").write_text("no_such_setting: 1\n")
    assert "no_such_setting" in cai("upgrade", code=1)


def test_a_folder_that_is_no_project_is_told_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "run 'cai init'" in cai("upgrade", code=2)
    project.init(tmp_path)
    assert "writes no such file" in cai("upgrade", "--take", "nothing.txt", code=2)
    (tmp_path / project.WRITTEN).write_text("[1]")
    assert "cai init" in cai("upgrade", code=2)
    (tmp_path / project.WRITTEN).write_text("{")
    assert "is not JSON" in cai("upgrade", code=2)


def test_the_digests_of_what_was_written_are_kept(folder: Path) -> None:
    written = json.loads((folder / project.WRITTEN).read_text())
    assert written == {name: project.digest(data) for name, data in contents.contents().items()}
