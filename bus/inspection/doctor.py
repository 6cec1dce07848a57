"""Checks everything in a run's folder, and reports what is wrong and what to do."""

import os
import re
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import msgspec

from ..control.socket import SOCKET_NAME, is_listening
from ..errors import CheckpointError, NewerFormatError, RankMessageError, RunFolderError
from ..events import CheckpointSaved, Fault, Gap, RunEnded, RunStarted
from ..log.codec import DecodedEvent
from ..log.format import Footer, SegmentHeader
from ..log.segments import FolderStore, holds_the_same
from ..runs.checkpoint_folder import DIGEST, STATE, TENSORS, check_digest, is_checkpoint
from ..runs.cursor import CursorFile, list_cursors
from ..runs.run_folder import RunFolder
from ..shown_text import quoted
from .order_of_events import OrderOfEvents, wrong_in_event, wrong_in_footer
from .rank_facts import MAX_RANKS
from .recover import missing_text, with_missing
from .salvage import Damage, Scan, SegmentBytes

Level = Literal["problem", "note"]
_LEFTOVER = re.compile(r".*\.tmp|\..*\.former")
_OPEN_TO_OTHERS = 0o077
MAX_FINDINGS = 50  # for one check in one file
MAX_CHECKPOINTS = 10_000  # whose digests are compared


class Finding(msgspec.Struct, frozen=True):
    """A result of one check.

    Attributes:
        level: a problem, or a note about something harmless.
        check: the check that found it.
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
    """The result of examining a run.

    Attributes:
        id, path: of the run.
        attempts, segments, events, checkpoints: numbers read.
        written_by: id of the process that is writing the run; None if there is none.
        is_newer: a log is from a newer major version, and was not checked.
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
        """The findings that are problems."""
        return [finding for finding in self.findings if finding.level == "problem"]


def examine(run: RunFolder) -> Examination:
    """Check everything in a run's folder; nothing is changed."""
    doctor = _Doctor(run)
    doctor.look()
    doctor.examination.findings.sort(key=lambda finding: finding.level == "note")
    return doctor.examination


class _Doctor:
    def __init__(self, run: RunFolder) -> None:
        self.examination = Examination(run.info.id, str(run.path))
        self._run = run
        self._recover = f"nightbus recover {quoted(run.path)} -o OUT"
        self._world_size = 1  # of the attempt being checked
        self._is_written = False  # the attempt being checked is being written
        self._save = f"save what is there: {self._recover}"
        self._was_killed = False  # one of its attempts was
        self._saved: dict[str, str] = {}  # checkpoint, as named in the log -> its digest
        self._last_saved = ""
        self._forks: dict[int, int] = {}  # attempt -> the attempt it was resumed from
        self._ends: dict[int, int] = {}  # attempt -> the event after its last
        self._sealed: set[int] = set()  # attempts whose logs are complete
        self._findings: Counter[tuple[str, str]] = Counter()  # (check, file) -> number

    def _find(self, level: Level, check: str, where: Path, what: str, fix: str = "") -> None:
        within = where.relative_to(self._run.path)
        self._findings[check, str(within)] += 1
        if self._findings[check, str(within)] > MAX_FINDINGS:
            return
        self.examination.findings.append(Finding(level, check, str(within), what, fix))

    def look(self) -> None:
        """Check everything."""
        run = self._run
        attempts = run.attempts()
        self.examination.attempts = len(attempts)
        for attempt in attempts:
            self._is_written = run.is_being_written(attempt)
            if self._is_written:
                self._report_writer(attempt)
            ranks = run.ranks(attempt)
            if not ranks:
                self._find_empty_attempt(attempt)
                continue
            self._world_size = max(ranks) + 1
            for rank in ranks:
                self._look_at_log(attempt, rank, run.store(attempt, rank))
            self._look_for_missing_ranks(attempt, ranks)
        self._look_for_missing_attempts(attempts)
        self._look_for_links()
        self._look_at_permissions()
        self._look_at_checkpoints()
        self._look_at_leftovers()
        self._look_at_cursors()
        self._report_left_out()

    def _look_for_missing_attempts(self, attempts: list[int]) -> None:
        fix = "bring them back from a copy; what the others recorded is read without them"
        for attempt, missing in with_missing(attempts):
            if missing:
                what = f"{missing:,} attempt{'' if missing == 1 else 's'} before it are not there"
                self._find("problem", "attempts", self._run.attempt_path(attempt), what, fix)
        for attempt, parent in sorted(self._forks.items()):
            if parent > max(attempts, default=-1):
                what = f"it went on from attempt {parent}, which is not there"
                self._find("problem", "attempts", self._run.attempt_path(attempt), what, fix)

    def _report_left_out(self) -> None:
        for (check, where), number in self._findings.items():
            if number > MAX_FINDINGS:
                what = f"and {number - MAX_FINDINGS:,} more of this kind"
                level: Level = "note"
                self.examination.findings.append(Finding(level, check, where, what))

    # -- one attempt -------------------------------------------------------------------------

    def _report_writer(self, attempt: int) -> None:
        lock = self._run.attempt_path(attempt) / "lock"
        try:
            self.examination.written_by = int(lock.read_text())
        except (OSError, ValueError) as error:
            self._find("note", "lock", lock, f"it does not say who holds it: {error}")

    def _find_empty_attempt(self, attempt: int) -> None:
        what = "it ended before anything was recorded"
        if not self._is_written:
            self._find("note", "structure", self._run.attempt_path(attempt), what)

    def _look_for_missing_ranks(self, attempt: int, ranks: list[int]) -> None:
        if self._is_written:
            return  # it may still come
        missing = sorted({*range(self._world_size)} - {*ranks})
        for rank in missing[:MAX_FINDINGS]:
            fix = "bring it back from a copy; what the other ranks recorded is read without it"
            what = f"rank {rank} of {self._world_size} has no log"
            self._find("problem", "ranks", self._run.attempt_path(attempt), what, fix)

    def _look_at_log(self, attempt: int, rank: int, store: FolderStore) -> None:
        indices = store.indices()
        self._look_for_other_names(store)
        end = _End()
        follows_empty = False
        for index, missing in with_missing(indices):
            if missing:
                fix = f"bring it back from a copy; to read past it: {self._recover}"
                where, what = store.path(index - missing), missing_text(missing)
                self._find("problem", "segments", where, what, fix)
            is_last = index == indices[-1]
            path = store.path_there(index)
            try:
                is_empty = path.stat().st_size == 0
                source = SegmentBytes(store, index)
            except FileNotFoundError:
                continue  # just compressed: opened by its other name next time
            self._look_for_twins(store, index)
            self.examination.segments += 1
            if is_empty and not (is_last and self._is_written):
                source.close()
                self._find_empty_segment(path, is_last)
                follows_empty, end.is_known = True, not is_last
                continue
            try:
                order = OrderOfEvents(None if follows_empty else end.next_seq)
                footer = self._look_at_segment(
                    path, source, (attempt, rank, index), order, is_last, end
                )
            except NewerFormatError as error:
                self.examination.is_newer = True
                self._find("problem", "format", path, str(error), "upgrade nightbus")
                return
            finally:
                source.close()
            follows_empty = follows_empty and not order.frames
            self._report_order(path, order.rest(None if footer is None else footer.next_seq))
            end.next_seq, end.sealed = order.next_seq, footer is not None
        if end.refused:
            fix = "let only the machines of the ranks reach each other's ports"
            self._find("note", "connections", store.folder, end.refused, fix)
        if indices and end.is_known:
            self._look_at_end(store, end)
        if store.folder == self._run.store(attempt).folder:
            self._ends[attempt] = end.next_seq
            if end.sealed:
                self._sealed.add(attempt)

    def _look_at_segment(
        self,
        path: Path,
        source: SegmentBytes,
        identity: tuple[int, int, int],
        order: OrderOfEvents,
        is_last: bool,
        end: "_End",
    ) -> Footer | None:
        """Check one frame after the other, so that only a few are in memory."""
        scan = Scan(source)
        damages = 0
        last: Damage | None = None  # whether it is a problem depends on the footer
        for part in scan.parts():
            if isinstance(part, Damage):
                damages += 1
                if last is not None:
                    self._report_damage(path, last, False)
                last = part._replace(of=source.of)
                continue
            self._report_order(path, order.add(part))
            self._look_at_events(path, part.events, end)
        for damage in (*([last] if last is not None else []), *source.damages()):
            damages += 1
            if is_last and self._is_written:
                break  # the last frame may not be complete yet
            # A kill leaves this at the end of a log, and readers stop before it.
            is_torn = is_last and scan.footer is None and damage.reason.startswith("ends inside")
            self._report_damage(path, damage, is_torn)
        if scan.mark is None and not damages and not (is_last and self._is_written):
            self._find("note", "structure", path, "the segment is empty, as after a power cut")
        self._look_at_header(path, scan.header, identity)
        if scan.footer is not None:
            for what in wrong_in_footer(scan.footer):
                self._find("problem", "numbers", path, what, self._save)
        return scan.footer

    def _report_damage(self, path: Path, damage: Damage, is_torn: bool) -> None:
        fix = "" if is_torn else f"save what is sound: {self._recover}"
        self._find("note" if is_torn else "problem", "damage", path, damage.describe(), fix)

    def _report_order(self, path: Path, found: Iterable[tuple[str, str]]) -> None:
        for check, what in found:
            self._find("problem", check, path, what, self._save)

    def _find_empty_segment(self, path: Path, is_last: bool) -> None:
        """Report an empty segment; it goes without saying that the log lacks what it held."""
        is_torn = is_last and path.suffix == ".nlog"  # nothing of it reached the disk
        fix = "" if is_torn else f"bring it back from a copy; to save the rest: {self._recover}"
        what = "the segment is empty, as after a power cut"
        self._find("note" if is_torn else "problem", "structure", path, what, fix)

    def _look_for_twins(self, store: FolderStore, index: int) -> None:
        packed = store.compressed_path(index)
        if not (store.path(index).exists() and packed.exists()):
            return
        what = "the segment is there plain and compressed; the plain one is read"
        try:
            is_same = holds_the_same(store.path(index), packed)
        except FileNotFoundError:
            return  # just compressed
        if is_same:
            self._find(
                "note", "leftovers", packed, what, f"delete the compressed one: rm {quoted(packed)}"
            )
        else:
            fix = f"find out which is the run's own, and move the other away: {quoted(packed)}"
            self._find("problem", "segments", packed, f"{what}, and they differ", fix)

    def _look_for_other_names(self, store: FolderStore) -> None:
        """Report files with a segment's number but another name."""
        for name, index in sorted(store.other_names().items()):
            path = store.folder / name
            is_twin = store.path(index).exists() or store.compressed_path(index).exists()
            if is_twin:
                what, fix = f"segment {index} is there twice", f"move it away: {quoted(path)}"
            else:
                what = f"it has another name than segment {index} has"
                fix = f"call it {store.path(index).name}"
            self._find("problem", "segments", path, f"{what}; this file is not read", fix)

    def _look_at_header(
        self, path: Path, header: SegmentHeader | None, identity: tuple[int, int, int]
    ) -> None:
        """Check whose segment it says it is: attempt, rank and number."""
        if header is None:
            return
        said = (header.run, header.attempt, header.rank, header.segment)
        if said == (self._run.info.id, *identity):
            self._world_size = max(self._world_size, min(header.world_size, MAX_RANKS))
        else:
            what = "it says run {}, attempt {}, rank {}, segment {}".format(*said)
            fix = "find out where it comes from: a segment of another run was put here"
            self._find("problem", "identity", path, what, fix)

    def _look_at_events(self, path: Path, events: list[DecodedEvent], end: "_End") -> None:
        self.examination.events += len(events)
        for event in events:
            if isinstance(event, Gap):
                what = f"{event.count:,} events were not written: {event.reason}"
                self._find("note", "gaps", path, what)
            elif isinstance(event, Fault):
                if (event.source, event.error) == ("ranks", RankMessageError.__name__):
                    end.refused = event.message
            elif isinstance(event, RunEnded):
                end.ended = True
            elif isinstance(event, RunStarted):
                end.started = True
                if event.fork is not None:
                    self._forks[event.attempt] = event.fork.attempt
            elif isinstance(event, CheckpointSaved):
                self._last_saved = event.path
                if len(self._saved) < MAX_CHECKPOINTS:
                    self._saved[event.path] = event.digest
            for what in wrong_in_event(event):
                self._find("problem", "numbers", path, what, self._save)

    def _look_at_end(self, store: FolderStore, end: "_End") -> None:
        if self._is_written:
            return
        if not end.started:
            self._find("note", "structure", store.folder, "no event says that the run began")
        self._was_killed |= not end.ended
        if not end.ended:
            what = "its process ended without a word: the log ends after its last whole frame"
            self._find("note", "end", store.folder, what)
        elif not end.sealed:
            what = "the run's end is recorded; its process ended before it had closed the log"
            self._find("note", "end", store.folder, what)

    # -- the folder --------------------------------------------------------------------------

    def _look_for_links(self) -> None:
        """Report links where nightbus expects files; those that name a checkpoint are allowed."""
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
        """Yield the paths that nightbus creates for their owner alone; sinks write within."""
        yield self._run.path
        yield self._run.path / "run.json"
        yield self._run.path / SOCKET_NAME
        for attempt in self._run.attempts():
            folder = self._run.attempt_path(attempt)
            yield folder
            for rank in self._run.ranks(attempt):
                yield self._run.store(attempt, rank).folder
                yield from self._run.store(attempt, rank).folder.glob("*.nlog*")

    def _look_at_checkpoints(self) -> None:
        """Check the digests of the run's checkpoints; of the links, only ``last`` is followed."""
        folder = self._run.path / "checkpoints"
        if folder.is_symlink():
            return
        if not folder.is_dir():
            self._look_for_the_last_saved()
            return
        for path in sorted(folder.iterdir()):
            if path.name.startswith(".") or path.is_symlink() or not path.is_dir():
                continue
            if any(os.path.lexists(path / name) for name in (STATE, TENSORS, DIGEST)):
                self.examination.checkpoints += 1
                self._look_at_checkpoint(path)
        self._look_for_the_last_saved()
        last = folder / "last"
        if last.is_symlink():
            target = folder / os.readlink(last)
            if target.parent != folder or target.is_symlink() or not is_checkpoint(target):
                what = f"it leads to {os.readlink(last)}, where no checkpoint of this run is"
                fix = f"have it lead to the newest: ln -sfn NAME {quoted(last)}"
                self._find("problem", "checkpoints", last, what, fix)

    def _look_for_the_last_saved(self) -> None:
        """Check that the checkpoint saved last exists; earlier ones may have been removed."""
        named = Path(self._last_saved)
        is_inside = self._last_saved and not named.is_absolute() and ".." not in named.parts
        if not is_inside or self._is_written or os.path.lexists(self._run.path / named):
            return
        what = "the log says that it was saved last, and it is not there"
        fix = "bring it back from a copy, or resume from another"
        self._find("problem", "checkpoints", self._run.path / named, what, fix)

    def _look_at_checkpoint(self, path: Path) -> None:
        fix = f"resume from another; rm -r {quoted(path)}"
        try:
            found = check_digest(path)
        except FileNotFoundError as error:
            if path.exists():  # otherwise it was just removed
                missing = Path(error.filename).name
                self._find("problem", "checkpoints", path, f"it has no {missing}", fix)
            return
        except (CheckpointError, OSError) as error:
            self._find("problem", "checkpoints", path, str(error), fix)
            return
        said = self._saved.get(str(path.relative_to(self._run.path)), found)
        if said != found and not self._is_written:  # it may have been saved again since
            if self._was_killed:  # a save that replaces another is logged after the replacement
                what = "the log does not name it: its process ended when it had just been saved"
                self._find("note", "checkpoints", path, what)
                return
            what = f"its digest is {found}, but the log says that {said} was saved there"
            fix = "find out where it comes from: another checkpoint was put here"
            self._find("problem", "checkpoints", path, what, fix)

    def _look_at_leftovers(self) -> None:
        if self.examination.written_by is not None or self._is_written:
            return
        for folder, folders, names in os.walk(self._run.path):
            for name in [name for name in folders if _LEFTOVER.fullmatch(name)]:
                folders.remove(name)  # reported as a whole
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
            return  # reported already
        for name, path in list_cursors(self._run).items():
            fix = f"rm {quoted(path)}; the sink is then delivered the run from its start"
            try:
                cursor = CursorFile(self._run, name).load()
            except RunFolderError as error:
                self._find("problem", "cursors", path, str(error), fix)
                continue
            if cursor is None or self._is_written or self.examination.is_newer:
                continue
            end = self._ends.get(cursor.attempt)
            if end is None:
                if cursor.seq or cursor.attempt:
                    what = f"it stands in attempt {cursor.attempt}, whose log is gone"
                    self._find("problem", "cursors", path, what, f"bring it back; or {fix}")
            elif cursor.seq > end:
                what = (
                    f"it stands at event {cursor.seq:,} of attempt {cursor.attempt}, whose log has "
                    f"{end:,}"
                )
                # After a power cut, a log may lack what was already read of it.
                is_whole = cursor.attempt in self._sealed
                level: Level = "problem" if is_whole else "note"
                self._find(level, "cursors", path, what, f"bring the rest back; or {fix}")


class _End:
    """Start and end of a log, as seen so far."""

    def __init__(self) -> None:
        self.is_known = True
        self.next_seq = 0
        self.started = False
        self.ended = False
        self.sealed = False
        self.refused = ""  # what was said last of connections that rank 0 refused
