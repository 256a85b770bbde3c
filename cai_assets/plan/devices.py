"""What devices do a second, before this store has measured anything: rough, so plans give them with wide bounds."""

from __future__ import annotations

import os
from typing import NamedTuple

from cai_assets.engines.number_format import Device

SPREAD = 3.0  # how far a device may be from the table, either way


class Speed(NamedTuple):
    """Operations a second, as training and as an engine that samples many rows at once reach them."""

    training: float
    sampling: float


# A third to a half of the dense bfloat16 peak of the makers' data sheets; sampling reads all weights for each token.
GPUS = {"B200": Speed(9e14, 2e14), "H200": Speed(4e14, 1.2e14), "H100": Speed(4e14, 9e13), "A100": Speed(1.4e14, 5e13),
        "L40S": Speed(1.2e14, 2.5e13), "4090": Speed(7e13, 2.5e13), "A10": Speed(5e13, 1.5e13),
        "V100": Speed(5e13, 2e13), "T4": Speed(2e13, 8e12)}
OTHER_GPU = Speed(5e13, 1.5e13)
CORE = Speed(2e10, 4e10)  # of a processor, in float32


def speed(device: Device, devices: int) -> Speed:
    """Of so many devices together; of a processor, of all its cores."""
    if not device.accelerator:
        cores = os.cpu_count() or 1
        return Speed(CORE.training * cores, CORE.sampling * cores)
    each = next((speed for name, speed in GPUS.items() if name in device.name), OTHER_GPU)
    return Speed(each.training * devices, each.sampling * devices)
