"""Read the parts of a scene one by one: a bad part is counted, and the others are still used."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fourdistill.errors import InputError
from fourdistill.scene import BadPiece


@dataclass
class Pieces:
    """Results of reading the parts of a scene, each within `reading`."""

    num_good: int = 0
    errors: list[InputError] = field(default_factory=list)
    _paths: list[Path] = field(default_factory=list)

    @contextmanager
    def reading(self, path: Path) -> Iterator[None]:
        """Read one part, identified by `path`; its `InputError` is stored."""
        try:
            yield
        except InputError as error:
            self.errors.append(error)
            self._paths.append(path)
        else:
            self.num_good += 1

    def bad(self) -> tuple[BadPiece, ...]:
        """The unusable parts; raises the first error if no part is usable."""
        if self.errors and not self.num_good:
            raise self.errors[0]
        return tuple(
            BadPiece(path, str(error).removeprefix(f"{path}: "))
            for path, error in zip(self._paths, self.errors, strict=True)
        )
