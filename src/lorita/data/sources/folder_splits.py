"""Which files of a folder belong to a split, and to a configuration (subset) of a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePath
from typing import Any

from lorita.data.sources.open_file import FileProblem
from lorita.system.quiet import quiet_libraries


def of_configuration(folder: Path, name: str | None) -> dict[str, list[str]] | None:
    """The patterns of each split, as the README of a cloned hub data set lists them; None if none.

    ``name`` is the configuration. Raises ``FileProblem`` if there are several and none is named.
    """
    listed = {key: known["data_files"] for key, known in _configurations(folder).items()}
    if not listed:
        return None
    if name is None and len(listed) > 1:
        raise FileProblem(
            f"this data set has several subsets ({', '.join(listed)}); name one with --data-name"
        )
    name = next(iter(listed)) if name is None else name
    if name not in listed:
        raise FileProblem(f"this data set has no subset {name!r} (found: {', '.join(listed)})")
    from datasets.data_files import sanitize_patterns

    patterns = sanitize_patterns(listed[name])
    outside = [glob for globs in patterns.values() for glob in globs if _leads_out(str(glob))]
    if outside:  # asking for them could reach any file, or another machine
        raise FileProblem(f"its README.md lists data outside the folder ({outside[0]})")
    return {str(split): list(globs) for split, globs in patterns.items()}


def _leads_out(pattern: str) -> bool:
    """Whether a pattern names an address, a path from the root, or one above the folder."""
    path = PurePath(pattern)
    return ":" in pattern or path.is_absolute() or pattern[:1] in "/\\~" or ".." in path.parts


def _configurations(folder: Path) -> Mapping[str, Any]:
    """What the README says about configurations whose files it lists; nothing if it is unclear."""
    card = folder / "README.md"
    if not card.is_file() or not card.read_bytes().lstrip(b"\xef\xbb\xbf").startswith(b"---"):
        return {}
    from datasets.utils.metadata import MetadataConfigs
    from huggingface_hub import DatasetCard

    with quiet_libraries(), suppress(Exception):  # any README may lie in a folder
        data = DatasetCard.load(card, ignore_metadata_errors=True).data
        known = MetadataConfigs.from_dataset_card_data(data)
        return {name: config for name, config in known.items() if "data_files" in config}
    return {}


def of_split(
    folder: Path, files: Sequence[Path], split: str, patterns: Mapping[str, list[str]] | None
) -> list[Path]:
    """The files of ``split``: by ``patterns``, else by the naming rules of ``datasets``.

    All files if no rule applies. Raises ``FileProblem`` if there is no such split.
    """
    from datasets.data_files import EmptyDatasetError, get_data_patterns, resolve_pattern

    if patterns is None:
        try:
            patterns = {str(name): globs for name, globs in get_data_patterns(str(folder)).items()}
        except EmptyDatasetError:
            return list(files)
        names = {name for name in patterns if name in ("train", "validation", "test")}
        if names <= {"train"} and split == "train":
            return list(files)
    if split not in patterns:
        raise FileProblem(f"this folder has no split {split!r} (found: {', '.join(patterns)})")
    meant: set[Path] = set()
    for pattern in patterns[split]:
        with suppress(FileNotFoundError):
            meant |= {Path(str(path)) for path in resolve_pattern(pattern, str(folder))}
    return [file for file in files if file.absolute() in meant or file.resolve() in meant]
