"""One dial, ``scale``, from which every other setting derives; each one can be overridden.

``model.py`` lists all of them, ``models.py``, ``method.py`` and ``training.py`` define the groups, ``presets.py`` what
a scale sets, ``load.py`` where values come from, ``run_config.py`` what the config of a run may set. Relative paths
count from the project's root: the nearest folder, from the working directory upward, that holds ``workspace.yaml``.
"""

from cai_assets.settings.address import ServerAddress
from cai_assets.settings.base import SettingsError, project_root, storage_url
from cai_assets.settings.load import load_settings
from cai_assets.settings.method import (
    Critique,
    Documents,
    Engine,
    Evaluation,
    Gate,
    Generation,
    Labels,
    Monitors,
    Pairs,
    Prompts,
    Stress,
    Supervised,
    Written,
)
from cai_assets.settings.model import Settings
from cai_assets.settings.models import BUILTIN_MODEL, Model, Models, Role
from cai_assets.settings.presets import PRESETS
from cai_assets.settings.training import Lora, Midtraining, Nodes, Packed, Reinforcement, Reward, Training, Tuning

__all__ = [
    "BUILTIN_MODEL",
    "PRESETS",
    "Critique",
    "Documents",
    "Engine",
    "Evaluation",
    "Gate",
    "Generation",
    "Labels",
    "Lora",
    "Midtraining",
    "Model",
    "Models",
    "Monitors",
    "Nodes",
    "Packed",
    "Pairs",
    "Prompts",
    "Reinforcement",
    "Reward",
    "Role",
    "ServerAddress",
    "Settings",
    "SettingsError",
    "Stress",
    "Supervised",
    "Training",
    "Tuning",
    "Written",
    "load_settings",
    "project_root",
    "storage_url",
]
