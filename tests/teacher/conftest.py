import pytest
from ball_scene import ball_scene


@pytest.fixture(scope="module")
def scene():
    """The ball, seen by all cameras."""
    return ball_scene()


@pytest.fixture(scope="module")
def floor(scene):
    """The height of the floor over the scene's scale, from its centre."""
    return -scene.frame.center[1] / scene.frame.scale
