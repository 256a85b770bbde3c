"""Nothing outside store/ opens, lists, locks, links, renames or removes a file under the data root.

Every file operation of the source is found, whatever it is applied to. Those outside store/ must be listed here, by
function, with the kind of file that they are about.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import cai_assets

SOURCE = Path(cai_assets.__path__[0])
PATH_METHODS = {
    "chmod", "exists", "glob", "hardlink_to", "is_dir", "is_file", "is_symlink", "iterdir", "lstat", "mkdir", "open",
    "read_bytes", "read_text", "rglob", "rmdir", "samefile", "stat", "symlink_to", "touch", "unlink", "walk",
    "write_bytes", "write_text",
}
MODULES = {"os", "shutil", "tempfile", "fcntl", "filelock", "gzip", "io", "glob"}
NO_FILES = {  # of those modules
    "os._exit", "os.chdir", "os.cpu_count", "os.execv", "os.getpid", "os.getppid", "os.kill", "os.killpg",
    "os.sched_getaffinity", "os.uname", "io.BytesIO", "io.StringIO",
}
NO_FILE = ("os.environ", "os.pathsep")
ENGINES = ("engines.open", "pool.open", "Project.open")  # an engine and a project are opened, too
TWO_ARGUMENTS = {"rename": 1, "replace": 1}  # Path.rename(target); str.replace has two, and a frame's has columns

OTHERS = {
    "a file or folder that a person names": """
        api.py::_record
        cli/common.py::resolve_version cli/common.py::find_constitution cli/common.py::refuse_to_replace
        cli/coverage.py::_document cli/export.py::lineage cli/lint.py::_constitutions cli/lint.py::_lint
        cli/lint.py::_tests cli/lint.py::_prompts cli/lint.py::_files
        cli/redteam.py::breaks cli/suites.py::suites evals/suites/registry.py::refuse_no_folder
        cli/redteam.py::accept_ cli/test.py::_under_test
        constitution/files.py::yaml_files constitution/files.py::_either constitution/file_text.py::read_bytes
        evals/review_file.py::read_review evals/suites/load.py::_beside
        export/provenance.py::verify inspect_bridge/rows.py::_checkpoint lineage/targets.py::checkpoint_folder
        pipeline/constitution_tests.py::tests_of pipeline/contents.py::_inside pipeline/red_team.py::accept_into
        settings/base.py::project_root
        reading/files.py::data_files reading/files.py::_folder reading/forms.py::open_data
        reading/forms.py::_unpacker reading/forms.py::_zstandard reading/cells.py::table_rows
        settings/load.py::_from_file settings/load.py::_text_of train/ability.py::read_texts
        studio/draft.py::Draft.findings studio/draft.py::find_file
        train/external.py::refuse_missing_command cli/unchanged.py::_around cli/unchanged.py::_below
        cli/unchanged.py::_may_move
        studio/red_team.py::write studio/red_team.py::accept studio/red_team.py::_reviews
        web/password.py::read_password""",
    "the folder that an export writes, outside the data root": """
        export/folder.py::fresh export/folder.py::leaks export/folder.py::_refuse export/folder.py::_replace
        export/hub_dataset.py::write_split export/hub_model.py::export_model
        export/hub_model.py::_without_local_names export/openlineage.py::_written""",
    "a model's folder, wherever it lies": """
        pipeline/contents.py::_model
        engines/models.py::locate engines/models.py::_from_hub engines/model_check.py::_tied
        engines/chat_template.py::ChatTemplate.in_folder engines/chat_template.py::_json engines/models.py::identify
        engines/models.py::_weights_digest
        engines/model_folder.py::faults engines/model_folder.py::weights engines/model_folder.py::cut
        engines/model_folder.py::_pointers engines/model_folder.py::_begins engines/model_folder.py::_not_json
        engines/model_folder.py::_content engines/model_folder.py::_adapters engines/model_folder.py::_no_config
        engines/model_folder.py::_missing_shards engines/models.py::_tokenizer engines/models.py::_gguf_file
        engines/models.py::_template engines/models.py::_json engines/memory.py::has_room
        engines/scripted.py::of_checkpoint engines/weights.py::shapes engines/weights.py::_in
        engines/model_shape.py::shape_of engines/adapters.py::adapters_of engines/pool.py::EnginePool._with_weights
        engines/vllm_arguments.py::can_have_adapters""",
    "the source of a package that is installed": "engines/vllm_arguments.py::names",
    "the work folder of the training process, a local path from the store": """
        cli/unchanged.py::made_before defs/launch.py::train defs/launch.py::_job defs/launch.py::_run
        train/__main__.py::main
        train/__main__.py::_fail train/nodes.py::train_on_nodes train/nodes.py::_Watch._say_why
        train/nodes.py::_Watch._pass_on train/agent.py::_task train/progress.py::_append
        train/external.py::run_external train/external.py::_wait train/external.py::_progress train/external.py::_tail
        train/returned.py::take_in train/returned.py::_of_files train/returned.py::_of_model
        train/returned.py::_metrics train/returned.py::_curves train/returned.py::_complete
        train/__main__.py::run_job
        train/data.py::read_rows train/value_model.py::ValueUpdates.save train/parted.py::Parted._write
        defs/records.py::keep_rollouts lineage/rollouts.py::rollout_table train/progress.py::Curves.rows
        train/progress.py::Curves.keep train/progress.py::Curves.add train/resume.py::fault
        train/resume.py::newest_complete train/resume.py::_digests train/resume.py::_digest
        train/rollouts.py::Rollouts._save_checkpoint train/rollouts.py::Rollouts._load_from_checkpoint
        train/run.py::publish train/principled.py::_apart train/lora.py::keep_adapters train/lora.py::_joined""",
    "a file of this package": """
        constitution/cases_schema.py:: constitution/schema.py:: evals/suites/schema.py:: settings/described.py::
        cli/verbs.py::_docstring defs/origin.py::_location export/dataset_card.py::dataset_card
        export/provenance.py::problems reports/cards.py::model_card studio/pages.py::_static""",
    "the folder of curves that are drawn elsewhere, outside the data root": """
        train/trackers.py::_open train/trackers.py::_may_send""",
    "the files of a project, which a person edits": """
        starter/contents.py::contents starter/contents.py::_of_this_version starter/project.py::left_over
        starter/project.py::_first starter/project.py::_next starter/project.py::_write starter/project.py::_written""",
    "what the system says of this machine": """
        engines/number_format.py::device engines/number_format.py::_flags engines/memory.py::_read
        train/memory.py::resident_peak""",
    "Dagster's home": """
        defs/home.py::use_project_home defs/own_files.py::history_mark defs/own_files.py::_folder
        cli/quiet.py::quiet cli/quiet.py::_kept cli/quiet.py::_instead
        defs/command_line.py::Launcher.terminate defs/command_line.py::Launcher.check_run_worker_health
        defs/command_line.py::alive""",
    "a second data root, in which a version is made again": "defs/rebuild.py::_empty_root defs/rebuild.py::_link",
    "what the web server and the daemon share while they run": "web/serve.py::_code_servers web/serve.py::_daemon",
}


class Operations(ast.NodeVisitor):
    """Calls that do something with a file, and paths built from the data root by hand: (function, line, text)."""

    def __init__(self) -> None:
        self.inside: list[str] = []
        self.found: list[tuple[str, int, str]] = []

    def _named(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        self.inside.append(node.name)
        self.generic_visit(node)
        self.inside.pop()

    visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = _named

    def visit_Call(self, node: ast.Call) -> None:
        name = ast.unparse(node.func)
        if self._is_operation(node, name):
            self._note(node, name)
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if node.attr == "root" and ast.unparse(node.value).endswith("layout"):
            self._note(node, ast.unparse(node))
        self.generic_visit(node)

    def _is_operation(self, node: ast.Call, name: str) -> bool:
        method = name.rpartition(".")[2]
        if name in NO_FILES or name.startswith(NO_FILE) or name.endswith(ENGINES):
            return False
        if name == "open" or name.partition(".")[0] in MODULES:
            return True
        if name.startswith("pl.") and method.startswith(("read_", "scan_")):
            return True
        if method in TWO_ARGUMENTS and isinstance(node.func, ast.Attribute):
            return len(node.args) == TWO_ARGUMENTS[method] and isinstance(node.args[0], ast.BinOp | ast.Name)
        return isinstance(node.func, ast.Attribute) and method in PATH_METHODS

    def _note(self, node: ast.expr, text: str) -> None:
        self.found.append((".".join(self.inside), node.lineno, text))


def operations(root: Path) -> Iterator[tuple[str, str]]:
    """Function (``file::name``) and place of every file operation outside store/."""
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if name.startswith("store/"):
            continue
        visitor = Operations()
        visitor.visit(ast.parse(path.read_text(encoding="utf-8")))
        for function, line, text in visitor.found:
            yield f"{name}::{function}", f"{name}:{line} {text}"


def test_the_data_root_is_the_stores() -> None:
    known = {function for functions in OTHERS.values() for function in functions.split()}
    done = list(operations(SOURCE))
    assert [place for function, place in done if function not in known] == [], "ask store/, or say here what it is"
    assert known - {function for function, _ in done} == set(), "they do nothing with files any more"


@pytest.mark.parametrize("line", [
    "(layout.path('records') / name).read_text()", "layout.storage.local(name).unlink()", "open(path)",
    "os.replace(a, b)", "shutil.rmtree(path)", "FOLDER.rename(target)", "pl.read_parquet(path)", "fcntl.flock(f, 2)",
    "print(self.layout.root / 'records')", "work.replace(job.final / name)", "filelock.FileLock(path)",
])
def test_a_file_operation_is_noticed(tmp_path: Path, line: str) -> None:
    (tmp_path / "lineage").mkdir()
    (tmp_path / "lineage" / "new.py").write_text(f"def peek(layout, path):\n    return {line}\n")
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "own.py").write_text(f"def peek(layout, path):\n    return {line}\n")
    assert {function for function, _ in operations(tmp_path)} == {"lineage/new.py::peek"}
