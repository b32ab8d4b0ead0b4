"""A drawing of the source and the commanded camera around the subject, seen from above and behind the source.

The cameras are those given to the pipeline: the canonical source camera, and a user's displacement of it.
"""

import numpy as np

from fourdistill.geometry.camera import intrinsics, project
from fourdistill.geometry.displacement import FRAME, SOURCE, Displacement
from fourdistill.geometry.scene_frame import Array, orbit

WIDTH, HEIGHT = 320, 210  # of the drawing, in SVG units
_VIEWER = orbit(FRAME, SOURCE, [0.0, np.radians(32), 5.0])  # c2w of the drawing's viewpoint
_K = intrinsics(600.0, 600.0, WIDTH / 2, HEIGHT / 2 - 10)
_FRUSTUM = np.array([[0, 0, 0], [-0.14, -0.14, 0.3], [0.14, -0.14, 0.3], [0.14, 0.14, 0.3], [-0.14, 0.14, 0.3]])
_HEAD, _FEET = np.array([[0, 0, 0.28]]), np.array([[0, 0, -0.3]])


def draw_cameras(azimuth: float | None, elevation: float | None, radius: float | None) -> str:
    """A camera's displacement as the pipeline takes it, None if not commanded => SVG in the colours of the page."""
    ring = np.linspace(0, 2 * np.pi, 73)
    ground = np.stack([np.cos(ring), np.sin(ring), np.zeros_like(ring)], axis=1)  # at the source's distance and height
    ticks = [_line(np.stack([0.94 * ground[i], 1.06 * ground[i]]), "ring") for i in range(0, 72, 9)]
    (x, y), (_, feet) = _on_paper(_HEAD)[0], _on_paper(_FEET)[0]
    parts = [
        _line(ground, "ring"),
        *ticks,
        f'<circle class="subject" cx="{x:.1f}" cy="{y:.1f}" r="6"/>',
        f'<path class="subject" d="M{x:.1f} {y + 7:.1f} l9 {feet - y - 7:.1f} h-18 z"/>',
        _camera(SOURCE, "source"),
    ]
    displacement = Displacement.from_user(azimuth=azimuth, elevation=elevation, radius=radius)
    if displacement.has_view:
        way = commanded_way(displacement)
        parts += [_line(way[:, :3, 3], "way"), _camera(way[-1], "target")]
    label = describe_camera(azimuth, elevation, radius)
    return (
        f'<svg class="cameras-drawing" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">'
        f"{''.join(parts)}"
        f'<text x="{WIDTH / 2:.0f}" y="{HEIGHT - 6}" text-anchor="middle">{label}</text></svg>'
    )


def commanded_way(displacement: Displacement[Array]) -> Array:
    """One displacement => c2w (33, 4, 4) from the source to the commanded camera."""
    delta = np.array([displacement.azimuth, displacement.elevation, displacement.radius])
    return np.stack([orbit(FRAME, SOURCE, share * delta) for share in np.linspace(0, 1, 33)])


def describe_camera(azimuth: float | None, elevation: float | None, radius: float | None) -> str:
    """The camera's displacement in words."""
    if azimuth is None and elevation is None and radius is None:
        return "camera as it is"
    words = []
    if azimuth:
        words.append(f"{abs(azimuth):.0f}° to the {'right' if azimuth > 0 else 'left'}")
    if elevation:
        words.append(f"{abs(elevation):.0f}° {'up' if elevation > 0 else 'down'}")
    if radius is not None and radius != 1:
        words.append(f"distance × {radius:.2f}")
    return "camera " + (", ".join(words) or "where it was")


def _on_paper(points: Array) -> Array:
    """Points (N, 3) of the canonical scene => (N, 2) in the drawing."""
    return project(_K, _VIEWER, points)[0]


def _line(points: Array, name: str) -> str:
    pairs = " ".join(f"{x:.1f},{y:.1f}" for x, y in _on_paper(points))
    return f'<polyline class="{name}" points="{pairs}"/>'


def _camera(c2w: Array, name: str) -> str:
    """A camera's frustum as a wireframe, with its base filled."""
    corners = _on_paper(_FRUSTUM @ c2w[:3, :3].T + c2w[:3, 3])  # (5, 2): the centre, then the base's corners
    apex, base = f"{corners[0, 0]:.1f} {corners[0, 1]:.1f}", [f"{x:.1f} {y:.1f}" for x, y in corners[1:]]
    sides = "".join(f"M{apex} L{corner}" for corner in base)
    return f'<path class="{name}" d="M{" L".join(base)} Z"/><path class="{name}" d="{sides}"/>'
