# SPDX-License-Identifier: Apache-2.0
"""Entering a folder as a writer: checks, locks and the plan, before any work."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from filelock import BaseFileLock

from jaxalign.errors import ArgumentError, shorten
from jaxalign.locks import locked, try_lock
from jaxalign.store.documents import load_document, write_document
from jaxalign.store.failures import clear_failure
from jaxalign.store.layout import UNFINISHED, stray_files
from jaxalign.store.manifest import read_manifest
from jaxalign.store.plan import Plan


def enter(
    call: str, folder: Path, plan: Plan, process_index: int
) -> BaseFileLock | None:
    """Make or resume an unfinished store; take the lock of a process's number.

    Args:
      call: how errors name the caller.
      folder: the store's, made if it is missing.
      plan: of the store to write.
      process_index: of this process among those that write together.

    Returns:
      The lock, held until it is released; None if the store is finished already.

    Raises:
      FullDiskError: if the disk is full.
      ValueError: if the folder cannot be written, holds something else or another
        store, or another run is writing it.
    """
    # Three times at most, unless someone makes and deletes the folder meanwhile.
    for _ in range(100):
        manifest = read_manifest(call, folder)
        if manifest is not None:
            check_same(call, folder, manifest.plan, plan)
            # Of a run that was killed between its last two steps.
            remove_unfinished(folder)
            return None
        stored = read_plan(call, folder)
        expected = set()
        if stored is not None:
            check_same(call, folder, stored, plan)
            expected = {
                name
                for part in range(plan.parts)
                for name in plan.part_files(part).values()
            }
        try:
            check_no_stray_files(call, folder, expected)
        except ValueError:
            # They may be the store's own: another process began, or ended, just now.
            if stored is None and (
                read_plan(call, folder) or read_manifest(call, folder)
            ):
                continue
            raise
        # Whoever finishes the store deletes the folder of the locks: look again then.
        with contextlib.suppress(FileNotFoundError):
            lock = _lock(call, folder, process_index)
            try:
                if _settle_plan(call, folder, plan):
                    temporary = temporary_folder(folder, process_index)
                    shutil.rmtree(temporary, ignore_errors=True)
                    temporary.mkdir()
                    clear_failure(folder, process_index)
                    return lock
            except BaseException:
                lock.release()
                raise
            lock.release()
    got = f"{str(folder)!r}, which others delete again and again"
    raise ArgumentError(call, "a folder of this run alone", got, "name another")


def temporary_folder(folder: Path, process_index: int) -> Path:
    """Return where a process keeps files that are not whole."""
    return folder / UNFINISHED / f"tmp-{process_index}"


def read_plan(call: str, folder: Path) -> Plan | None:
    """Read the plan of an unfinished store; None if there is none.

    Raises:
      ValueError: if it is damaged or of another version.
    """
    document = load_document(call, folder / UNFINISHED / "plan.json")
    return None if document is None else Plan.from_document(document)


def check_same(call: str, folder: Path, stored: Plan, plan: Plan) -> None:
    """Raise if two plans differ, listing each difference with both values."""
    differences = plan.differences(stored)
    if differences:
        raise ArgumentError(
            call,
            f"a store of the same model, data and settings in {str(folder)!r}",
            f"another: {'; '.join(differences)}",
            "nothing was touched: give the settings that are there to go on with it, "
            "or name another folder",
        )


def check_no_stray_files(call: str, folder: Path, expected: set[str]) -> None:
    """Raise over a folder with foreign files that other readers would read as ours."""
    stray = stray_files(folder, expected)
    if stray:
        got = f"{shorten(stray)} in {str(folder)!r}"
        remedy = "name another folder, or move these files away"
        raise ArgumentError(call, "a folder with our rows alone", got, remedy)


@contextlib.contextmanager
def store_locked(folder: Path) -> Iterator[None]:
    """Hold the lock of what concerns all parts: the plan, the columns, the end.

    Raises:
      FileNotFoundError: if the store was finished meanwhile.
    """
    notice = f"Another process is at work on all of {folder}; waiting for it."
    with locked(folder / UNFINISHED / "store.lock", notice=notice):
        yield


def _lock(call: str, folder: Path, process_index: int) -> BaseFileLock:
    """Take the lock of a process's number."""
    (folder / UNFINISHED).mkdir(parents=True, exist_ok=True)
    lock = try_lock(folder / UNFINISHED / f"writer-{process_index}.lock")
    if lock is None:
        got = f"another run that is writing it as process {process_index}"
        remedy = "wait for it or end it, or name another folder"
        raise ArgumentError(call, f"no other writer in {str(folder)!r}", got, remedy)
    return lock


def _settle_plan(call: str, folder: Path, plan: Plan) -> bool:
    """Write the plan, or agree with one that is there; False if all is finished."""
    with store_locked(folder):
        if read_manifest(call, folder) is not None:
            return False
        stored = read_plan(call, folder)
        if stored is None:
            write_document(folder / UNFINISHED / "plan.json", plan.to_document())
        else:
            check_same(call, folder, stored, plan)
    return True


def remove_unfinished(folder: Path) -> None:
    """Delete the folder of unfinished work, if the system allows it."""
    shutil.rmtree(folder / UNFINISHED, ignore_errors=True)
