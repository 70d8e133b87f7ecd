"""The graphs of two towers together: each runs where its inputs are there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

from zoo.modalities.base import Array
from zoo.runtime.session import Device, Session


@final
class TowerSessions:
    """Sessions as one: `run` gives the outputs of every tower that has an input."""

    def __init__(self, towers: Mapping[str, Session]) -> None:
        self.towers = towers
        self.device: Device = next(iter(towers.values())).device
        self.inputs = {name: dtype for tower in towers.values() for name, dtype in tower.inputs.items()}
        self.outputs = [name for tower in towers.values() for name in tower.outputs]

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Arrays `[B, ...]` in, arrays `[B, ...]` out, by name."""
        found: dict[str, Array] = {}
        for tower in self.towers.values():
            if set(tower.inputs) <= set(inputs):
                found.update(tower.run(inputs))
        return found
