"""Parts of a scene that are read one by one: a bad one among them is counted, and does not refuse the others."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fourdistill.errors import InputError
from fourdistill.scene import BadPiece


@dataclass
class Pieces:
    """What came of parts of a scene, each read within `reading`."""

    num_good: int = 0
    errors: list[InputError] = field(default_factory=list)
    _paths: list[Path] = field(default_factory=list)

    @contextmanager
    def reading(self, path: Path) -> Iterator[None]:
        """Read one part, which `path` stands for; its `InputError` is kept."""
        try:
            yield
        except InputError as error:
            self.errors.append(error)
            self._paths.append(path)
        else:
            self.num_good += 1

    def bad(self) -> tuple[BadPiece, ...]:
        """Those that cannot be used; raises the first error where none can."""
        if self.errors and not self.num_good:
            raise self.errors[0]
        return tuple(
            BadPiece(path, str(error).removeprefix(f"{path}: "))
            for path, error in zip(self._paths, self.errors, strict=True)
        )
