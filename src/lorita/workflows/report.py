"""``lorita report``: the page of a run made anew, or a page that compares several runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from lorita.errors import OutputError, SettingsError, UserError
from lorita.runs.report.page import page
from lorita.runs.report.several import several_page
from lorita.runs.report.story import read_story
from lorita.runs.report.write import not_made, write_report
from lorita.storage.files import write_atomic
from lorita.storage.manifest import SWEEP, claim
from lorita.storage.run_folder import REPORT_FILE, SWEEP_FILE, is_run, open_sweep_dir
from lorita.storage.targets import Target, check_target
from lorita.training.events import Event, Note
from lorita.workflows.sweep_result import read_sweep

MAGIC = b"<!doctype html>"


def make_report(runs: Sequence[Path], output: Path | None = None) -> Path:
    """Write the page for these runs, or for those of a sweep, and return where it is.

    Without ``output``, one run's page is written into its folder, and a sweep's into the sweep's.
    Raises ``UserError`` if a folder holds no run, or if the page cannot be written there.
    """
    if output is not None:
        check_target(Target(output.expanduser(), overwrite=True, magic=MAGIC))
    folders = [Path(run).expanduser() for run in runs]
    sweeps = [folder for folder in folders if _is_sweep(folder)]
    if len(folders) == 1 and not sweeps:
        return write_report(folders[0]) if output is None else _write(output, _page(folders[0]))
    found = [run for folder in folders for run in (_runs_of(folder) or [folder])]
    if output is None and len(folders) > 1:
        raise SettingsError(
            "several runs are compared on a page of their own",
            hint="Say where to write it: --output compared.html",
        )
    if output is not None:
        title = _sweep_title(sweeps[0]) if sweeps == folders else f"{len(found)} runs compared"
        return _write(output, several_page([read_story(run) for run in found], title))
    with open_sweep_dir(folders[0]):
        return _write_into(folders[0])


def sweep_report_events(sweep: Path) -> Iterator[Event]:
    """Write the page of a sweep into its folder, by the one who holds it.

    Its runs are whole already: whatever goes wrong here is said, and loses nothing.
    """
    try:
        if any(run.failed is None for run in read_sweep(sweep)):
            _write_into(sweep)
    except Exception as error:
        yield Note(not_made(sweep, error), is_warning=True)


def _write_into(sweep: Path) -> Path:
    text = several_page([read_story(run) for run in _runs_of(sweep)], _sweep_title(sweep))
    claim(sweep, [REPORT_FILE], kind=SWEEP)
    return _write(sweep / REPORT_FILE, text)


def _sweep_title(sweep: Path) -> str:
    return f"{sweep.absolute().name}: the runs of the sweep"


def _page(folder: Path) -> str:
    return page(read_story(folder))


def _is_sweep(folder: Path) -> bool:
    return (folder / SWEEP_FILE).is_file() and not is_run(folder)


def _runs_of(sweep: Path) -> list[Path]:
    """The runs that a sweep lists and that are there; none if the folder is no sweep's."""
    if not _is_sweep(sweep):
        return []
    names = [run.name for run in read_sweep(sweep)]
    inside = [name for name in names if Path(name).name == name and is_run(sweep / name)]
    if not inside:
        raise UserError(f"{sweep}: none of the sweep's runs is there")
    return [sweep / name for name in inside]


def _write(file: Path, text: str) -> Path:
    try:
        write_atomic(file.expanduser(), text)
    except OSError as error:
        raise OutputError(f"{file}: cannot be written ({error.strerror or error})") from None
    return file
