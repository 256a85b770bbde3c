"""Asset checks, by stage."""

from cai_assets.defs.checks import (
    constitution_tests,
    evaluation,
    inputs,
    preference,
    reinforcement,
    suites,
    supervised,
)
from cai_assets.defs.checks.common import definitions_of

checks = definitions_of([
    *inputs.checks, *supervised.checks, *preference.checks, *reinforcement.checks, *evaluation.checks,
    *suites.checks, *constitution_tests.checks,
])
