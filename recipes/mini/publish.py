"""Stage `publish`: copy the measured base to `data/base/mini`, where the main pipeline and git have it."""

import shutil

from work import MINI, PUBLISHED, WORK


def main() -> None:
    """Replace every part of the published base; other files there, such as the model card, stay."""
    PUBLISHED.mkdir(parents=True, exist_ok=True)
    for folder in (MINI, WORK / "measured"):
        for part in sorted(folder.iterdir()):
            fresh, target = PUBLISHED / f".{part.name}.new", PUBLISHED / part.name
            shutil.rmtree(fresh, ignore_errors=True)
            if part.is_dir():
                shutil.copytree(part, fresh)
                shutil.rmtree(target, ignore_errors=True)
            else:
                shutil.copyfile(part, fresh)
            fresh.replace(target)
    print(f"published to {PUBLISHED}")


if __name__ == "__main__":
    main()
