"""The wheel in an empty folder: everything that a command needs is in it, and nothing of the checkout is read.

The wheel is built as a release builds it, and installed into an environment of its own that sees the libraries of this
one, but not this checkout.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from tiny_models import tiny_model

REPOSITORY = Path(__file__).parents[2]
FEW = {"CAI_PROMPTS": '{"red_team": 4, "helpful": 2, "eval_red_team": 1, "eval_helpful": 1}', "CAI_GATE__PAIRS": "1"}
MERGED = """
import dagster as dg, cai_assets
@dg.asset
def mine() -> int:
    return 1
own = dg.Definitions([mine], resources={"io_manager": dg.mem_io_manager})
defs = dg.Definitions.merge(own, cai_assets.build_defs())
dg.Definitions.validate_loadable(defs)
print(sorted(job.name for job in defs.get_repository_def().get_all_jobs() if not job.name.startswith("__")))
assert dg.AssetKey("mine") not in defs.resolve_job_def("all").asset_layer.executable_asset_keys
"""


class Installed:
    """The wheel in an environment, and ``folder``, empty at first, in which its commands run."""

    def __init__(self, root: Path) -> None:
        built = subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(root / "dist")],
                               cwd=REPOSITORY, capture_output=True, text=True, check=False)
        assert built.returncode == 0, built.stdout + built.stderr
        (self.wheel,) = (root / "dist").glob("*.whl")
        venv.create(root / "venv", symlinks=True)
        self.bin = root / "venv" / "bin"
        installed = subprocess.run([sys.executable, "-m", "pip", "--python", str(self.bin / "python"), "install", "-q",
                                    "--no-deps", "--no-index", str(self.wheel)], capture_output=True, text=True,
                                   check=False)
        assert installed.returncode == 0, installed.stderr
        (packages,) = (root / "venv" / "lib").glob("python*/site-packages")
        # a line of a .pth is a folder whose own .pth files are not read: so an editable install is not seen
        (packages / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
        self.folder = root / "empty"
        self.folder.mkdir()
        own = {name: value for name, value in os.environ.items()
               if name not in {"PYTHONPATH", "DAGSTER_HOME"} and not name.startswith("CAI_")}
        tiny = {"source": str(tiny_model(root / "tiny")), "backend": "scripted"}
        self.environment = {**own, **FEW, "HOME": str(root), "CAI_MODELS__GENERATOR": json.dumps(tiny)}

    def __call__(self, *command: str, within: str = ".") -> str:
        done = subprocess.run([str(self.bin / command[0]), *command[1:]], cwd=self.folder / within,
                              env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return Installed(tmp_path_factory.mktemp("wheel"))


def test_the_code_is_the_wheels(installed: Installed) -> None:
    found = installed("python", "-c", "import cai_assets; print(cai_assets.__file__)").strip()
    assert Path(found).is_relative_to(installed.bin.parent)


def test_a_project_is_made_linted_planned_run_and_upgraded(installed: Installed) -> None:
    assert "files written in my-project" in installed("cai", "init", "my-project", "--deploy")
    for name in ("chart/templates/_pods.tpl", "slurm/cai.sbatch", "sky/cai.yaml", "compose.objects.yaml",
                 "dagster.ray.yaml"):
        assert (installed.folder / "my-project" / "deploy" / name).is_file()
    assert (installed.folder / "my-project" / "constitutions" / "harmlessness.yaml").is_file()

    def cai(*arguments: str) -> str:
        return installed("cai", *arguments, within="my-project")

    assert "harmlessness.yaml: 16 principles" in cai("lint")
    assert "Materialize every asset" in cai("demo", "--help")
    assert "plan of customer-service" in cai("plan", "customer-service")
    done = cai("materialize", "customer-service", *(part for name in (
        "constitution", "prompts", "initial_responses", "starting_responses", "critiques", "revisions", "sl_dataset")
        for part in ("--select", name)))
    assert "✓ revisions" in done or "rows generated" in done
    assert "0 rows generated" not in done
    made = json.loads(cai("status", "--json"))["versions"]
    assert [version["run"]["status"] for version in made] == ["SUCCESS"]
    assert "nothing to change" in cai("upgrade")
    assert "suite" in cai("suites")
    assert not (installed.folder / "my-project" / "cai_assets").exists()
    assert sorted(p.name for p in installed.folder.iterdir()) == ["my-project"]


def test_its_assets_are_merged_into_another_dagster_project(installed: Installed) -> None:
    jobs = installed("python", "-c", MERGED).strip().splitlines()[-1]
    assert jobs == "['all', 'evaluation', 'preference', 'reinforcement', 'supervised']"


def test_the_schemas_that_editors_read_are_in_it(installed: Installed) -> None:
    shown = installed("cai", "settings").splitlines()[0]
    schema = Path(shown.partition("$schema=")[2])
    assert schema.is_relative_to(installed.bin.parent)
    assert json.loads(schema.read_text())["$defs"]
