"""How does a body travel as Flower objects, and how is it read back?

A body of at most one piece is a single record, and thus one object, below the message. A longer
one is a head with its length and SHA-256, and one record, and object, for every piece. A site
has the same lines: the two packages never import each other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from flwr.app import ConfigRecord, RecordDict
from flwr.app.message import make_message
from flwr.app.metadata import Metadata
from flwr.common.serde import message_to_proto
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.inflatable.inflatable_object import get_object_body
from google.protobuf.message import DecodeError  # type: ignore[import-untyped,unused-ignore]

from schemas.errors import ErrorCode, ProtocolError
from schemas.limits import MAX_TREE_OBJECTS, PIECE_BYTES
from schemas.pieces import Announcement, Assembly, announce, piece_count, piece_of

RECORD: Final = "cohortium"
FIELD: Final = "body"
_LENGTH: Final = "length"
_SHA256: Final = "sha256"
_UNREADABLE: Final = (
    AttributeError,
    DecodeError,
    IndexError,
    KeyError,
    RecursionError,
    TypeError,
    ValueError,
)


class BodyObjects:
    """A body as the objects below a message; pieces are cut when asked for and never kept.

    Attributes:
        tree: the ids of the list and, below it, of the head and the pieces.
        sizes: bytes of every object by its id.
    """

    def __init__(self, body: bytes) -> None:
        """Name every object of `body`."""
        self._body = body
        self._kept: dict[str, bytes] = {}
        self._piece: dict[str, int] = {}
        self.sizes: dict[str, int] = {}
        n_pieces = piece_count(len(body))
        names: dict[str, str] = {}
        if n_pieces == 1:
            names[RECORD] = self._name_piece(0)
        else:
            said = announce(body)
            head = ConfigRecord({_LENGTH: said.n_bytes, _SHA256: said.sha256})
            names[RECORD] = self._keep(head.deflate())
            names |= {_piece_name(index): self._name_piece(index) for index in range(n_pieces)}
        children = list(dict.fromkeys(names.values()))  # pieces with equal bytes are one object
        record = self._keep(_object("RecordDict", children, json.dumps(names).encode("ascii")))
        self.tree = ObjectTree(
            object_id=record, children=[ObjectTree(object_id=each) for each in children]
        )

    def content(self, object_id: str) -> bytes:
        """Give the bytes of one object as they are on the wire."""
        kept = self._kept.get(object_id)
        return self._cut(self._piece[object_id]) if kept is None else kept

    def _cut(self, index: int) -> bytes:
        piece = bytes(piece_of(self._body, index))
        content: bytes = ConfigRecord({FIELD: piece}).deflate()
        return content

    def _name_piece(self, index: int) -> str:
        object_id = self._size(self._cut(index))
        self._piece[object_id] = index
        return object_id

    def _keep(self, content: bytes) -> str:
        object_id = self._size(content)
        self._kept[object_id] = content
        return object_id

    def _size(self, content: bytes) -> str:
        object_id = hashlib.sha256(content).hexdigest()
        self.sizes[object_id] = len(content)
        return object_id


@dataclass(frozen=True, slots=True)
class Parcel:
    """One message as it is pushed: envelope, ids, and the bytes of every object by its id."""

    envelope: ProtoMessage
    tree: ObjectTree
    sizes: Mapping[str, int]
    content: Callable[[str], bytes]


def parcel(metadata: Metadata, objects: BodyObjects) -> Parcel:
    """Address a body, building the message object as `flwr.app.Message` would deflate to.

    Flower's own way deflates and hashes the whole body several times for it.
    """
    envelope = message_to_proto(make_message(metadata, content=RecordDict()))
    envelope.metadata.message_id = ""  # an object never holds its own id
    inner = ProtoMessage(metadata=envelope.metadata).SerializeToString(deterministic=True)
    content = _object("Message", [objects.tree.object_id], inner)
    root = hashlib.sha256(content).hexdigest()
    envelope.metadata.message_id = root
    return Parcel(
        envelope=envelope,
        tree=ObjectTree(object_id=root, children=[objects.tree]),
        sizes={**objects.sizes, root: len(content)},
        content=lambda each: content if each == root else objects.content(each),
    )


def object_ids(tree: ObjectTree) -> list[str]:
    """Return the ids of a tree's objects, children first."""
    found: list[str] = []
    for child in tree.children:
        found += object_ids(child)
    return [*found, tree.object_id]


class Arrival:
    """A message being pulled, object by object; it says which object it wants next.

    The order is list, head, pieces, and the message itself at last, so that by the end every
    object of the message has been seen.

    Attributes:
        n_bytes: announced length of a body in pieces; 0 for a short one, and before it is known.
    """

    def __init__(self, tree: ObjectTree) -> None:
        """Begin with a message's tree of ids.

        Raises:
            ProtocolError: MESSAGE_OVERSIZED for more objects than the longest body needs,
                MESSAGE_MALFORMED for any other shape than message, list, records.
        """
        if len(object_ids(tree)) > MAX_TREE_OBJECTS:
            raise ProtocolError(ErrorCode.MESSAGE_OVERSIZED, "A message has too many parts.")
        records = tree.children[0].children if len(tree.children) == 1 else []
        if not records or any(each.children for each in records):
            raise _malformed()
        self.root = str(tree.object_id)
        self.n_bytes = 0
        self._records = {str(each.object_id) for each in records}
        self._wanted = [str(tree.children[0].object_id), self.root]
        self._n_names = 0
        self._n_taken = 0
        self._assembly: Assembly | None = None
        self._body: bytes | None = None

    @property
    def next_id(self) -> str | None:
        """The id of the object to pull next; None once the message has been seen whole."""
        return self._wanted[0] if self._wanted else None

    @property
    def body(self) -> bytes:
        """The body, once `next_id` is None."""
        if self._body is None or self._wanted:
            raise ValueError("the body is not whole yet")
        return self._body

    def put(self, content: bytes) -> None:
        """Take the object asked for.

        Raises:
            ProtocolError: MESSAGE_MALFORMED, MESSAGE_OVERSIZED and the codes of
                `schemas.pieces.Assembly`.
        """
        del self._wanted[0]
        try:
            if not self._n_names:
                self._take_list(content)
            elif self._body is None:
                self._take_record(dict(ConfigRecord.inflate(content)))
        except _UNREADABLE:
            raise _malformed() from None

    def _take_list(self, content: bytes) -> None:
        names = json.loads(get_object_body(content, RecordDict))
        if set(names.values()) != self._records or RECORD not in names:
            raise _malformed()
        if list(names) != [RECORD, *(_piece_name(index) for index in range(len(names) - 1))]:
            raise _misnumbered()
        self._wanted[:0] = names.values()
        self._n_names = len(names)

    def _take_record(self, record: dict[str, object]) -> None:
        if self._n_names == 1:
            self._body = _only_bytes(record)
            if len(self._body) > PIECE_BYTES:
                raise ProtocolError(ErrorCode.MESSAGE_OVERSIZED, "A piece is longer than allowed.")
        elif self._assembly is None:
            n_bytes, sha256 = record.pop(_LENGTH), record.pop(_SHA256)
            if record or type(n_bytes) is not int or type(sha256) is not str:
                raise _malformed()
            announced = Announcement(n_bytes, sha256)
            if announced.n_pieces != self._n_names - 1:
                raise _misnumbered()
            self._assembly, self.n_bytes = Assembly(announced), n_bytes
        else:
            self._assembly.add(self._n_taken, _only_bytes(record))
            self._n_taken += 1
            if not self._assembly.n_missing:
                self._body = self._assembly.finish()


def _object(kind: str, children: list[str], inner: bytes) -> bytes:
    """Build an object in Flower's form: kind, children and length in clear, then its bytes."""
    return f"{kind} {','.join(children)} {len(inner)}".encode("ascii") + b"\0" + inner


def _piece_name(index: int) -> str:
    return f"{RECORD}.{index:04d}"


def _only_bytes(record: dict[str, object]) -> bytes:
    value = record.pop(FIELD)
    if record or not isinstance(value, bytes):
        raise _malformed()
    return value


def _malformed() -> ProtocolError:
    return ProtocolError(ErrorCode.MESSAGE_MALFORMED, "A message does not follow its format.")


def _misnumbered() -> ProtocolError:
    return ProtocolError(
        ErrorCode.PIECES_OUT_OF_ORDER, "A piece of a message is missing or not in its place."
    )
