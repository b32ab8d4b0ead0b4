"""Files and folders created by operating systems, network drives and tools, which are neither data nor scenes."""

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
    """Whether a file or folder name is hidden (.DS_Store, ._film.mp4, .git, .Trash-1000) or belongs to a system."""
    return name.startswith((".", "~$")) or name.casefold() in _NAMES
