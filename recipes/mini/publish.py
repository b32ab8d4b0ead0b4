"""Stage `publish`: put the measured base where the main pipeline and git have it, `data/base/mini`."""

import shutil

from work import MINI, PUBLISHED, WORK


def main() -> None:
    """Replace every part of the published base; what it does not know, such as the model card, stays."""
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
