"""What a repository has beside code: pages that are current and reachable, and files that other tools read."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from dagster._config import validate_config
from dagster._core.instance.config import dagster_instance_config_schema
from docs_scripts import DOCS, script

from cai_assets.cli.verbs import WHERE

REPOSITORY = Path(__file__).parents[1]


def test_the_page_of_commands_is_current_and_has_each_of_them() -> None:
    commands = script("commands")
    text = (DOCS / "commands.md").read_text(encoding="utf-8")
    assert text == commands.page(), "run python docs/commands.py"
    assert [verb for verb in WHERE if f"## cai {verb}\n" not in text and f"## cai {verb} " not in text] == []


def test_every_page_is_in_the_menu_of_the_site_and_in_the_overview() -> None:
    def pages(nav: Any) -> list[str]:
        if isinstance(nav, str):
            return [nav]
        return [page for part in (nav.values() if isinstance(nav, dict) else nav) for page in pages(part)]

    found = pages(tomllib.loads((REPOSITORY / "zensical.toml").read_text())["project"]["nav"])
    every = {path.name for path in DOCS.glob("*.md")}
    assert sorted(found) == sorted(every)
    overview = (DOCS / "README.md").read_text(encoding="utf-8")
    assert [name for name in every - {"README.md"} if f"]({name})" not in overview] == []


@pytest.mark.parametrize("name", ["dagster.yaml", "dagster.postgres.yaml"])
def test_dagster_takes_the_configuration_of_the_instance(name: str) -> None:
    config = yaml.safe_load((REPOSITORY / "dagster_home" / name).read_text())
    assert validate_config(dagster_instance_config_schema(), config).success


def test_postgres_changes_where_things_are_stored_and_nothing_else() -> None:
    plain, postgres = (yaml.safe_load((REPOSITORY / "dagster_home" / name).read_text())
                       for name in ("dagster.yaml", "dagster.postgres.yaml"))
    assert postgres.pop("storage") == {"postgres": {"postgres_url": {"env": "DAGSTER_PG_URL"}}}
    assert postgres == plain


def test_compose_opens_nothing_to_other_machines_and_mounts_what_is_there() -> None:
    services = yaml.safe_load((REPOSITORY / "compose.yaml").read_text())["services"]
    assert all(port.startswith("127.0.0.1:") for service in services.values() for port in service.get("ports", []))
    mounted = [volume.split(":")[0] for volume in services["cai"]["volumes"]]
    assert [path for path in mounted if path != "./data" and not (REPOSITORY / path).exists()] == []
    copied = [line.split()[2:-1] for line in (REPOSITORY / "Dockerfile").read_text().splitlines()
              if line.startswith("COPY")]
    assert [path for line in copied for path in line if not (REPOSITORY / path).exists()] == []


def test_the_workflow_runs_what_developers_run() -> None:
    jobs = yaml.safe_load((REPOSITORY / ".github/workflows/ci.yaml").read_text())["jobs"]
    assert [step["run"] for step in jobs["ci"]["steps"] if "run" in step] == [".ci/run"]


def test_hooks_for_other_repositories_run_commands_that_exist() -> None:
    (hook,) = yaml.safe_load((REPOSITORY / ".pre-commit-hooks.yaml").read_text())
    program, verb = hook["entry"].split()
    scripts = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["scripts"]
    assert program in scripts
    assert verb in WHERE
