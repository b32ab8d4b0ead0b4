"""What operating systems, network drives and tools leave in folders: it is no data, and no scene."""

_NAMES = frozenset(
    {
        "__macosx", "network trash folder", "temporary items", "icon\r",  # macOS
        "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "recycler", "system volume information",  # Windows
        "lost+found",  # Linux
        "@eadir", "@tmp", "#recycle", "#snapshot",  # network drives
        "__pycache__",
    }
)  # fmt: skip


def is_system_file(name: str) -> bool:
    """Whether a file or folder of this name is hidden (.DS_Store, ._film.mp4, .git, .Trash-1000) or a system's own."""
    return name.startswith((".", "~$")) or name.casefold() in _NAMES
