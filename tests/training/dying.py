"""A training that dies at a step, like a killed process but within this one."""

from fourdistill.training.mappers.task import MapperTask


class Killed(Exception):
    """Raised in the place of a kill."""


def die_at(monkeypatch, step):
    """Make the training die at the start of `step`."""
    original = MapperTask.loss

    def loss(self, model, at, *arguments):
        if at == step:
            raise Killed
        return original(self, model, at, *arguments)

    monkeypatch.setattr(MapperTask, "loss", loss)
