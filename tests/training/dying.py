"""A training that dies at a step, simulated within this process."""

from fourdistill.training.mappers.task import MapperTask


class Killed(Exception):
    """Raised instead of a kill."""


def die_at(monkeypatch, step):
    """Make the training die at the start of `step`."""
    original = MapperTask.loss

    def loss(self, model, at, *arguments):
        if at == step:
            raise Killed
        return original(self, model, at, *arguments)

    monkeypatch.setattr(MapperTask, "loss", loss)
