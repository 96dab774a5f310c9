"""Is the ledger on disk the newest there was, or has an older copy been put back?

A small file, best on another disk than the database, holds what the ledger must be: the last entry
known to be written, and the one being written now. It is on disk before the ledger's transaction
ends and confirmed after, so at any moment the ledger is at one of the two, whatever was killed
when (PRIVACY-17). A ledger that is at neither is another one, and nothing is charged on it.

    killed                                 file holds            ledger is at
    before the file names the new entry    old                   old
    before the ledger's transaction ends   old, new is pending   old
    before the file confirms it            old, new is pending   new
    after                                  new                   new

Restoring the database alone is so noticed here. Restoring database and file together is noticed by
the other hospitals, to whom every READY shows the ledger's head and charges.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import Field

from schemas.canonical import Document, parse
from schemas.errors import CohortiumError, ErrorCode, InternalError, TrustError
from schemas.ids import HexBytes32, SiteId
from schemas.signing import Context, SignedDocument, open_signed, public_hex, seal
from site_node.config import write_atomically

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_MAX_BYTES: Final = 4096  # two heads and a name are below 600
_LOOKS: Final = 50  # at a ledger others write to meanwhile; one is nearly always enough


class Point(Document):
    """Where a ledger stands: so many entries, with that head."""

    entries: Annotated[int, Field(ge=0)]
    head: HexBytes32


class WitnessStatement(Document):
    """What the file holds, as the site signs it (Context.WITNESS)."""

    version: Literal[1] = 1
    site_id: SiteId
    confirmed: Point
    pending: Point | None

    def allows(self, point: Point) -> bool:
        """Say whether the ledger may be there."""
        return point in (self.confirmed, self.pending)


class Witness:
    """The file beside one site's ledger. Only who holds the database's write lock announces."""

    def __init__(self, path: Path, site_id: str, identity: Ed25519PrivateKey) -> None:
        self.path = path
        self._site_id = site_id
        self._identity = identity

    def read(self) -> WitnessStatement | None:
        """Give what the file says; None if it is missing or not this site's."""
        try:
            raw = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unwritable(error) from None
        try:
            said = open_signed(
                parse(SignedDocument, raw, max_bytes=_MAX_BYTES),
                Context.WITNESS,
                WitnessStatement,
                expected_signer=public_hex(self._identity),
                max_bytes=_MAX_BYTES,
            )
        except CohortiumError:
            return None
        return said if said.site_id == self._site_id else None

    def check(self, here: Point) -> None:
        """Refuse a ledger the file does not know.

        Args:
            here: where the ledger stands, read under the database's write lock.

        Raises:
            TrustError: LEDGER_WITNESS_MISSING, LEDGER_WITNESS_ROLLBACK.
            InternalError: LEDGER_UNWRITABLE, the file cannot be read.
        """
        _judge(self.read(), here)

    def check_unlocked(self, look: Callable[[], Point]) -> None:
        """Refuse as `check` does, while others may write to ledger and file.

        Between two equal looks at the file nobody announced anything, so a ledger read in between
        must be at one of its points.

        Args:
            look: reads where the ledger stands now.
        """
        for _ in range(_LOOKS):
            before, here, after = self.read(), look(), self.read()
            if before == after or (after is not None and after.allows(here)):
                break
        _judge(after, here)

    def announce(self, here: Point, following: Point) -> None:
        """Write down, durably, that the ledger is about to move on.

        Raises:
            InternalError: LEDGER_UNWRITABLE; then it must not.
        """
        self._write(here, following)

    def confirm(self, here: Point) -> None:
        """Write down, durably, that the ledger has moved on; nothing is computed before.

        If another process announced the next entry meanwhile, its file says so already.

        Raises:
            InternalError: LEDGER_UNWRITABLE; the entry stands, but what it paid for is not done.
        """
        with self._locked():
            said = self.read()
            if said is not None and said.pending == here:
                self._replace(here, None)

    def accept(self, here: Point) -> None:
        """Begin anew from where the ledger stands, whatever the file said."""
        self._write(here, None)

    def _write(self, confirmed: Point, pending: Point | None) -> None:
        with self._locked():
            self._replace(confirmed, pending)

    def _replace(self, confirmed: Point, pending: Point | None) -> None:
        said = WitnessStatement(site_id=self._site_id, confirmed=confirmed, pending=pending)
        write_atomically(self.path, seal(self._identity, Context.WITNESS, said).canonical())

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Let one process at a time replace the file: a late confirmation must not undo another."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(
                self.path.with_name(f"{self.path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600
            )
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)  # held for two writes; freed by any death
                yield
            finally:
                os.close(handle)
        except OSError as error:
            raise _unwritable(error) from None


def _judge(said: WitnessStatement | None, here: Point) -> None:
    if said is None:
        if here.entries:
            raise TrustError(
                ErrorCode.LEDGER_WITNESS_MISSING,
                "The privacy ledger's witness file is missing or not this site's, so nobody here "
                "can tell whether the ledger is the newest one.",
                hint="Put the file back where site.toml names it. If it is lost, compare `ledger "
                "show` with your last export, then run `cohortium-site ledger witness --accept`.",
            )
        return
    if not said.allows(here):
        known = said.confirmed.entries
        raise TrustError(
            ErrorCode.LEDGER_WITNESS_ROLLBACK,
            f"The privacy ledger has {here.entries} entries, but its witness last saw another one "
            f"with {known}: a copy was put back, and spent budget may be missing.",
            hint="Nothing is charged or computed. Stop the service and put the newest database "
            "back; with a ledger behind its witness no study can go on here. If only the witness "
            "is the older one, run `cohortium-site ledger witness --accept`, which refuses a "
            "ledger that lacks entries.",
        )


def _unwritable(error: OSError) -> InternalError:
    return InternalError(
        ErrorCode.LEDGER_UNWRITABLE,
        "The privacy ledger's witness file cannot be used, so nothing is charged or computed.",
        hint="Make its folder (site.toml, [ledger] witness) writable, then run "
        "`cohortium-site doctor`.",
        detail=type(error).__name__,
    )
