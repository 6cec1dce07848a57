"""Looks at everything in a run's folder, and says what is wrong and what to do about it."""

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from .checkpoint_folder import DIGEST, STATE, TENSORS, check_digest, is_checkpoint
from .codec import DecodedEvent
from .control_socket import SOCKET_NAME, is_listening
from .cursor import CursorFile, list_cursors
from .errors import CheckpointError, NewerFormatError, RunFolderError
from .events import CheckpointSaved, Gap, RunEnded, RunStarted
from .recover import missing_text, ranks_of, says_gap, with_missing
from .run_folder import RunFolder
from .salvage import Salvage, salvage_segment
from .segments import FolderStore
from .shown_text import quoted

Level = Literal["problem", "note"]
_LEFTOVER = re.compile(r".*\.tmp")
_OPEN_TO_OTHERS = 0o077


class Finding(msgspec.Struct, frozen=True):
    """Something that is not as it should be, or that people should know.

    Attributes:
        level: a problem, or a note about what does no harm.
        check: which check found it.
        where: the path within the run.
        what: what was found, one line.
        fix: what to do; empty when there is nothing to do.
    """

    level: Level
    check: str
    where: str
    what: str
    fix: str = ""


class Examination(msgspec.Struct):
    """What was looked at, and what was found.

    Attributes:
        id, path: the run.
        attempts, segments, events, checkpoints: how many were read.
        written_by: the process that is writing it; None when none is.
        is_newer: whether a log is from a newer major version, so that it was not checked.
        findings: problems first.
    """

    id: str
    path: str
    attempts: int = 0
    segments: int = 0
    events: int = 0
    written_by: int | None = None
    is_newer: bool = False
    findings: list[Finding] = []
    checkpoints: int = 0

    @property
    def problems(self) -> list[Finding]:
        """Those findings that are problems."""
        return [finding for finding in self.findings if finding.level == "problem"]


def examine(run: RunFolder) -> Examination:
    """Look at everything; nothing is changed."""
    doctor = _Doctor(run)
    doctor.look()
    doctor.examination.findings.sort(key=lambda finding: finding.level == "note")
    return doctor.examination


class _Doctor:
    def __init__(self, run: RunFolder) -> None:
        self.examination = Examination(run.info.id, str(run.path))
        self._run = run
        self._recover = f"nightbus recover {quoted(run.path)} -o OUT"
        self._is_written = False  # whether the attempt that is looked at is being written
        self._saved: dict[str, str] = {}  # checkpoint, as the log names it -> its digest

    def _find(self, level: Level, check: str, where: Path, what: str, fix: str = "") -> None:
        within = where.relative_to(self._run.path)
        self.examination.findings.append(Finding(level, check, str(within), what, fix))

    def look(self) -> None:
        """Everything."""
        run = self._run
        attempts = run.attempts()
        self.examination.attempts = len(attempts)
        for attempt in attempts:
            self._is_written = run.is_being_written(attempt)
            if self._is_written:
                self._say_who_writes(attempt)
            ranks = ranks_of(run, attempt)
            if 0 not in ranks:
                self._find_empty_attempt(attempt)
                continue
            for rank in ranks:
                self._look_at_log(attempt, run.store(attempt, rank))
        for attempt, missing in with_missing(attempts):
            if missing:
                what = f"{missing:,} attempts before it are not there"
                self._find("note", "attempts", run.attempt_path(attempt), what)
        self._look_for_links()
        self._look_at_permissions()
        self._look_at_checkpoints()
        self._look_at_leftovers()
        self._look_at_cursors()

    # -- one attempt -------------------------------------------------------------------------

    def _say_who_writes(self, attempt: int) -> None:
        lock = self._run.attempt_path(attempt) / "lock"
        try:
            self.examination.written_by = int(lock.read_text())
        except (OSError, ValueError) as error:
            self._find("note", "lock", lock, f"it does not say who holds it: {error}")

    def _find_empty_attempt(self, attempt: int) -> None:
        what = "it ended before anything was recorded"
        if not self._is_written:
            self._find("note", "structure", self._run.attempt_path(attempt), what)

    def _look_at_log(self, attempt: int, store: FolderStore) -> None:
        indices = store.indices()
        expected = 0
        end = _End()
        follows_empty = False
        for index, missing in with_missing(indices):
            if missing:
                fix = f"bring it back from a copy; to read past it: {self._recover}"
                where, what = store.path(index - missing), missing_text(missing)
                self._find("problem", "segments", where, what, fix)
            self._look_for_twins(store, index)
            is_last = index == indices[-1]
            path = store.path_there(index)
            try:
                salvage = salvage_segment(store, index)
                is_empty = path.stat().st_size == 0
            except FileNotFoundError:
                continue  # just compressed: its other name is looked at when asked for again
            except NewerFormatError as error:
                self.examination.is_newer = True
                fix = "upgrade nightbus"
                self._find("problem", "format", store.path_there(index), str(error), fix)
                return
            self.examination.segments += 1
            if is_empty and not (is_last and self._is_written):
                self._find_empty_segment(path, is_last)
                follows_empty, end.is_known = True, not is_last
                continue
            if follows_empty and salvage.frames:  # what is missing has been said
                expected, follows_empty = salvage.frames[0].frame.first_seq, False
            self._look_at_damage(path, salvage, is_last)
            self._look_at_header(path, salvage, attempt, index)
            expected = self._look_at_order(path, salvage, expected, end)
            end.sealed = salvage.footer is not None
        if indices and end.is_known:
            self._look_at_end(store, end)

    def _find_empty_segment(self, path: Path, is_last: bool) -> None:
        """All that is to be said of it: that its log lacks what it held goes without saying."""
        is_torn = is_last and path.suffix == ".nlog"  # nothing of it had reached the disk
        fix = "" if is_torn else f"bring it back from a copy; to save the rest: {self._recover}"
        what = "the segment is empty, as after a power cut"
        self._find("note" if is_torn else "problem", "structure", path, what, fix)

    def _look_for_twins(self, store: FolderStore, index: int) -> None:
        if store.path(index).exists() and store.compressed_path(index).exists():
            self._find(
                "note",
                "leftovers",
                store.compressed_path(index),
                "the segment is there plain and compressed; the plain one is read",
                f"delete the compressed one: rm {quoted(store.compressed_path(index))}",
            )

    def _look_at_damage(self, path: Path, salvage: Salvage, is_last: bool) -> None:
        if is_last and self._is_written:
            return  # the last frame may just not be whole yet
        for damage in salvage.damages:
            # At the end of a log it is what a kill leaves: readers stop before it by themselves.
            torn = is_last and damage.reason.startswith("ends inside") and salvage.footer is None
            self._find(
                "note" if torn else "problem",
                "damage",
                path,
                damage.describe(),
                "" if torn else f"save what is sound: {self._recover}",
            )
        if salvage.mark is None and not salvage.damages:
            self._find("note", "structure", path, "the segment is empty, as after a power cut")

    def _look_at_header(self, path: Path, salvage: Salvage, attempt: int, index: int) -> None:
        header = salvage.header
        if header is None:
            return
        said = (header.run, header.attempt, header.segment)
        found = (self._run.info.id, attempt, index)
        if said != found:
            what = "it says run {}, attempt {}, segment {}".format(*said)
            fix = "find out where it comes from: a segment of another run was put here"
            self._find("problem", "identity", path, what, fix)

    def _look_at_order(self, path: Path, salvage: Salvage, expected: int, end: "_End") -> int:
        fix = f"save what is there: {self._recover}"
        if not salvage.in_order:
            self._find("problem", "order", path, "frames do not lie in the order of events", fix)
        for sound in salvage.frames:
            first = sound.frame.first_seq
            if first < expected:
                what = f"event {first} comes after event {expected - 1}"
                self._find("problem", "order", path, what, fix)
                continue
            if first > expected and not says_gap(sound, expected):
                what = f"events {expected} to {first - 1} are missing, and no Gap says why"
                self._find("problem", "gaps", path, what, fix)
            expected = sound.next_seq
            self._look_at_events(path, sound.events, end)
        footer = salvage.footer
        if footer is not None and footer.next_seq > expected:
            last = footer.next_seq - 1
            what = f"events {expected} to {last}, which the footer counts, are missing"
            self._find("problem", "gaps", path, what, fix)
            expected = footer.next_seq
        return expected

    def _look_at_events(self, path: Path, events: list[DecodedEvent], end: "_End") -> None:
        self.examination.events += len(events)
        for event in events:
            if isinstance(event, Gap):
                what = f"{event.count:,} events were not written: {event.reason}"
                self._find("note", "gaps", path, what)
            elif isinstance(event, RunEnded):
                end.ended = True
            elif isinstance(event, RunStarted):
                end.started = True
            elif isinstance(event, CheckpointSaved):
                self._saved[event.path] = event.digest

    def _look_at_end(self, store: FolderStore, end: "_End") -> None:
        if self._is_written:
            return
        if not end.started:
            self._find("note", "structure", store.folder, "no event says that the run began")
        if not end.ended or not end.sealed:
            what = "its process ended without a word: the log ends after its last whole frame"
            self._find("note", "end", store.folder, what)

    # -- the folder --------------------------------------------------------------------------

    def _look_for_links(self) -> None:
        """Links in the place of what is read; those that name a checkpoint may be there."""
        run = self._run.path
        for path in (*run.glob("*"), *run.glob("attempt-*/*"), *run.glob("attempt-*/*/*")):
            if path.is_symlink():
                what = f"a link to {os.readlink(path)}: it is not followed"
                fix = f"put the file or folder itself there, or rm {quoted(path)}"
                self._find("problem", "links", path, what, fix)

    def _look_at_permissions(self) -> None:
        for path in self._own_paths():
            try:
                found = path.lstat()
            except FileNotFoundError:
                continue
            open_to_others = stat.S_IMODE(found.st_mode) & _OPEN_TO_OTHERS
            if open_to_others and not stat.S_ISLNK(found.st_mode):
                self._find(
                    "problem",
                    "permissions",
                    path,
                    f"others may use it: its mode is {stat.S_IMODE(found.st_mode):04o}",
                    f"chmod go= {quoted(path)}",
                )
            if found.st_uid != os.geteuid():
                self._find("note", "owner", path, f"it belongs to user {found.st_uid}")

    def _own_paths(self) -> Iterator[Path]:
        """What nightbus makes for the owner alone; what sinks write lies within."""
        yield self._run.path
        yield self._run.path / "run.json"
        yield self._run.path / SOCKET_NAME
        for attempt in self._run.attempts():
            folder = self._run.attempt_path(attempt)
            yield folder
            for rank in ranks_of(self._run, attempt):
                yield self._run.store(attempt, rank).folder
                yield from self._run.store(attempt, rank).folder.glob("*.nlog*")

    def _look_at_checkpoints(self) -> None:
        """Those in the run's folder, by their digests; links but for ``last`` are not followed."""
        folder = self._run.path / "checkpoints"
        if folder.is_symlink() or not folder.is_dir():
            return
        for path in sorted(folder.iterdir()):
            if path.name.startswith(".") or path.is_symlink() or not path.is_dir():
                continue
            if any(os.path.lexists(path / name) for name in (STATE, TENSORS, DIGEST)):
                self.examination.checkpoints += 1
                self._look_at_checkpoint(path)
        last = folder / "last"
        if last.is_symlink():
            target = folder / os.readlink(last)
            if target.parent != folder or target.is_symlink() or not is_checkpoint(target):
                what = f"it leads to {os.readlink(last)}, where no checkpoint of this run is"
                fix = f"have it lead to the newest: ln -sfn NAME {quoted(last)}"
                self._find("problem", "checkpoints", last, what, fix)

    def _look_at_checkpoint(self, path: Path) -> None:
        fix = f"resume from another; rm -r {quoted(path)}"
        try:
            found = check_digest(path)
        except FileNotFoundError as error:
            if path.exists():  # or else it was removed just now
                missing = Path(error.filename).name
                self._find("problem", "checkpoints", path, f"it has no {missing}", fix)
            return
        except (CheckpointError, OSError) as error:
            self._find("problem", "checkpoints", path, str(error), fix)
            return
        said = self._saved.get(str(path.relative_to(self._run.path)), found)
        if said != found and not self._is_written:  # it may have been saved anew since
            what = f"its digest is {found}, but the log says that {said} was saved there"
            fix = "find out where it comes from: another checkpoint was put here"
            self._find("problem", "checkpoints", path, what, fix)

    def _look_at_leftovers(self) -> None:
        if self.examination.written_by is not None or self._is_written:
            return
        for folder, folders, names in os.walk(self._run.path):
            for name in [name for name in folders if _LEFTOVER.fullmatch(name)]:
                folders.remove(name)  # said as a whole
                path = Path(folder) / name
                what = "a checkpoint that a killed process did not finish writing or removing"
                fix = f"the next attempt removes it; or rm -r {quoted(path)}"
                self._find("note", "leftovers", path, what, fix)
            for name in names:
                path = Path(folder) / name
                if _LEFTOVER.fullmatch(name):
                    what = "a file that a killed process did not finish"
                    self._find("note", "leftovers", path, what, f"rm {quoted(path)}")
                elif name == SOCKET_NAME and path.is_socket() and not is_listening(path):
                    what = "the control socket of a process that is gone"
                    fix = f"the next attempt replaces it; or rm {quoted(path)}"
                    self._find("note", "leftovers", path, what, fix)

    def _look_at_cursors(self) -> None:
        cursors = self._run.path / "cursors"
        if cursors.is_symlink():
            return  # said already
        for name, path in list_cursors(self._run).items():
            try:
                CursorFile(self._run, name).load()
            except RunFolderError as error:
                fix = f"rm {quoted(path)}; the sink is then delivered the run from its start"
                self._find("problem", "cursors", path, str(error), fix)


class _End:
    """How a log begins and ends, as far as it was seen."""

    def __init__(self) -> None:
        self.is_known = True
        self.started = False
        self.ended = False
        self.sealed = False
