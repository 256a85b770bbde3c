"""The command line: ``cai COMMAND``. Every command says what to do next."""

# Help lists commands in the order in which their modules are imported.
# isort: off
from cai_assets.cli import run, versions, planning, store
from cai_assets.cli.common import app

__all__ = ["app", "planning", "run", "store", "versions"]
