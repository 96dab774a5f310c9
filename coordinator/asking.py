"""How does the coordinator ask its sites something, and know why a site did not answer?

Transport, parsing and patience in one place; the protocol is in `coordinator.rounds`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Protocol

from schemas.canonical import Document
from schemas.errors import ErrorCode, ProtocolError
from schemas.limits import MAX_ANSWER_HEADER_BYTES
from schemas.wire import Frame, Refusal, decode

_RECENT_ROUNDS = 9


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back from one site: a body, or the code of why nothing did."""

    body: bytes | None
    code: str = ""


class Exchange(Protocol):
    """Send one request to each named site; give each answer as it comes, until all or time-out.

    Once ``is_enough`` says so, the sites that are left get about as long again.
    """

    def __call__(
        self,
        requests: Mapping[str, bytes],
        *,
        timeout_seconds: float,
        is_enough: Callable[[], bool] = lambda: False,
    ) -> Iterable[tuple[str, Answer]]: ...


@dataclass(frozen=True, slots=True)
class Patience:
    """Time limits of a run, in seconds; none of them protects privacy."""

    answer_seconds: float = 120.0
    shortest_answer_seconds: float = 30.0
    invite_seconds: float = 20.0
    rejoin_seconds: float = 180.0
    pause_seconds: float = 1.0


@dataclass(slots=True)
class Asker:
    """Asks sites and remembers each one's last reason for not taking part."""

    exchange: Exchange
    online: Callable[[], frozenset[str]]
    monotonic: Callable[[], float]
    patience: Patience
    reasons: dict[str, str] = field(default_factory=dict)
    _ask_again: dict[str, float] = field(default_factory=dict)
    _durations: list[float] = field(default_factory=list)

    def ask(
        self,
        requests: Mapping[str, bytes],
        expected: tuple[type[Document], ...],
        timeout_seconds: float,
        enough: int = 0,
    ) -> dict[str, Frame]:
        """Ask and wait for all; give the messages in the order of the requests."""
        frames = dict(self.answers(requests, expected, timeout_seconds, enough))
        return {site: frames[site] for site in requests if site in frames}

    def answers(
        self,
        requests: Mapping[str, bytes],
        expected: tuple[type[Document], ...],
        timeout_seconds: float,
        enough: int = 0,
    ) -> Iterator[tuple[str, Frame]]:
        """Ask and give each message as it comes, at most one of a site, and keep none of them.

        Whatever is not the expected message becomes that site's reason. Once ``enough`` sites
        have given it (not refused), the others get about as long again; zero means all.
        """
        if not requests:
            return
        waiting, given = set(requests), 0

        def is_enough() -> bool:
            return 0 < enough <= given

        for site, answer in self.exchange(
            requests, timeout_seconds=timeout_seconds, is_enough=is_enough
        ):
            if site not in waiting:
                continue
            waiting.remove(site)
            frame = self._read(site, answer, expected)
            if frame is not None:
                self.reasons.pop(site, None)
                given += 1
                yield site, frame
            del answer, frame  # a body may be large: it shall be gone while the next one comes
        for site in waiting:
            self.reasons[site] = ErrorCode.SITE_UNREACHABLE.value

    def _read(
        self, site: str, answer: Answer, expected: tuple[type[Document], ...]
    ) -> Frame | None:
        if answer.body is None:
            self.reasons[site] = answer.code or ErrorCode.SITE_UNREACHABLE.value
            return None
        try:
            frame = decode(
                answer.body,
                allowed=(*expected, Refusal),
                max_header_bytes=MAX_ANSWER_HEADER_BYTES,
            )
        except ProtocolError as error:
            self.reasons[site] = error.code.value
            return None
        if isinstance(frame.header, Refusal):
            self.reasons[site] = frame.header.code
            return None
        return frame

    def invitable(self, sites: Iterable[str]) -> list[str]:
        """Choose the sites that are online and did not just fail to answer."""
        now, online = self.monotonic(), self.online()
        return [s for s in sites if s in online and self._ask_again.get(s, 0.0) <= now]

    def spare(self, sites: Iterable[str]) -> None:
        """Leave sites alone for a while: one that is going down looks online for a minute."""
        for site in sites:
            self._ask_again[site] = self.monotonic() + self.patience.invite_seconds

    def answer_seconds(self) -> float:
        """Give a round ten times its usual duration before its attempt is void."""
        if not self._durations:
            return self.patience.answer_seconds
        usual = median(self._durations[-_RECENT_ROUNDS:])
        longest = max(self.patience.shortest_answer_seconds, 10 * usual)
        return min(self.patience.answer_seconds, longest)

    def took(self, seconds: float) -> None:
        """Remember how long a successful round took."""
        self._durations.append(seconds)

    def why(self, sites: Iterable[str]) -> dict[str, str]:
        """Give each site's reason; an empty one means asked and not yet answered."""
        online = self.online()
        return {
            site: self.reasons.get(site, "" if site in online else ErrorCode.SITE_OFFLINE.value)
            for site in sites
        }

    def reason_of(self, site: str) -> str:
        """Give the last reason of one site."""
        return self.reasons.get(site, ErrorCode.SITE_UNREACHABLE.value)
