"""The command line: ``cai COMMAND``. Every command says what to do next. ``verbs.py`` lists them."""

from cai_assets.cli.common import app
from cai_assets.cli.verbs import GROUPS

__all__ = ["GROUPS", "app"]
