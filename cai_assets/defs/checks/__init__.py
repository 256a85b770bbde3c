"""Asset checks, by the stage they look at."""

from cai_assets.defs.checks import evaluation, inputs, preference, reinforcement, supervised

checks = [*inputs.checks, *supervised.checks, *preference.checks, *reinforcement.checks, *evaluation.checks]
