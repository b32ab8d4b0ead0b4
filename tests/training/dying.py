"""A training that dies at a step, like a killed process but within this one."""

from fourdistill.training.mappers.objective import Objective


class Killed(Exception):
    """Raised in the place of a kill."""


def die_at(monkeypatch, step):
    """Make the training die at the start of `step`."""
    original = Objective.__call__

    def loss(self, batch, at, part):
        if at == step:
            raise Killed
        return original(self, batch, at, part)

    monkeypatch.setattr(Objective, "__call__", loss)
