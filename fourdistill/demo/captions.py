"""What was commanded, in words."""

from fourdistill.demo.artist import Command


def describe(command: Command) -> str:
    """Time and camera of a command."""
    return f"{describe_time(command.time)}, {describe_camera(command)}"


def describe_time(time: float | None) -> str:
    """A displacement in time."""
    if time is None:
        return "time as it is"
    return f"{abs(time):.2f} {'later' if time > 0 else 'earlier'}" if abs(time) >= 0.005 else "same instant"


def describe_camera(command: Command) -> str:
    """The camera's displacement."""
    azimuth, elevation, radius = command.azimuth, command.elevation, command.radius
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
