"""Which commands deal with identity cards, our own and the other hospitals'?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from site_node.command import State, grouped, read_file, site_here, write_file
from site_node.screen import Screen

if TYPE_CHECKING:
    from site_node.governance.peers import Peer

card_app = typer.Typer(help="This hospital's identity card.", no_args_is_help=True)
peers_app = typer.Typer(help="The other hospitals' identity cards.", no_args_is_help=True)


@card_app.command("show")
def card_show() -> None:
    """Show this hospital's own fingerprint, to read out to the other hospitals."""
    from schemas.identity import fingerprint, fingerprint_words, open_card
    from site_node.enrol import own_card

    screen, site = State.screen, site_here()
    card = open_card(own_card(site))
    mark = fingerprint(card)
    screen.title(f"Identity card of {card.name} ({card.site_id})")
    screen.facts([("Fingerprint", grouped(mark)), ("In words", fingerprint_words(mark))])
    screen.put(site_id=card.site_id, fingerprint=mark, words=fingerprint_words(mark))
    screen.line("It covers every public key on the card: those that sign, and those that agree.")
    screen.line("Read it out to each other hospital by telephone; they confirm the hexadecimal.")


@card_app.command("export")
def card_export(
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File to write; default: the screen."),
    ] = None,
) -> None:
    """Write the signed identity card; hand it to the other hospitals, not via the coordinator."""
    from site_node.enrol import own_card
    from site_node.governance.audit import AuditWord

    screen, site = State.screen, site_here()
    card = own_card(site)
    screen.put(card=card.model_dump(mode="json"))
    if output is None:
        screen.exact(card.canonical().decode("utf-8"))
        return
    write_file(output, card.canonical(), mode=0o644)
    with site.audit.recording(AuditWord.CARD_EXPORTED) as recording:
        pass
    screen.line(f"The card was written to {output}. It holds public keys only.")
    screen.event(recording)


def _show_peer(screen: Screen, peer: Peer) -> None:
    screen.facts(
        [
            ("Hospital", f"{peer.card.name} ({peer.card.site_id})"),
            ("Fingerprint", grouped(peer.fingerprint)),
            ("In words", peer.words),
            ("Confirmed", peer.confirmed_at or "NO - compare by telephone before any approval"),
        ]
    )


def _peer_values(peer: Peer) -> dict[str, str | None]:
    return {
        "site_id": peer.card.site_id,
        "name": peer.card.name,
        "fingerprint": peer.fingerprint,
        "words": peer.words,
        "imported_at": peer.imported_at,
        "confirmed_at": peer.confirmed_at,
    }


@peers_app.command("import")
def peers_import(
    file: Annotated[Path, typer.Argument(help="The other hospital's card file.")],
    replace: Annotated[bool, typer.Option(help="Put it in the place of an older card.")] = False,
) -> None:
    """Read another hospital's card; it counts only once it is confirmed."""
    screen, site = State.screen, site_here()
    peer, recording = site.peers.import_card(read_file(file), replace=replace)
    screen.title("Card imported")
    _show_peer(screen, peer)
    screen.put(peer=_peer_values(peer))
    screen.event(recording)
    if peer.confirmed_at is None:
        screen.title("Next: call that hospital and compare, then")
        screen.exact(f"  cohortium-site peers confirm {peer.card.site_id} --fingerprint HEX")


@peers_app.command("show")
def peers_show() -> None:
    """List the other hospitals and whether their fingerprints are confirmed."""
    screen, site = State.screen, site_here()
    peers = site.peers.all()
    screen.title("Other hospitals" if peers else "No other hospital's card was imported yet.")
    for peer in peers:
        _show_peer(screen, peer)
        screen.line()
    screen.put(peers=[_peer_values(peer) for peer in peers])


@peers_app.command("confirm")
def peers_confirm(
    site_id: Annotated[str, typer.Argument(help="The other hospital's site id.")],
    fingerprint: Annotated[str, typer.Option(help="The 64 hex characters it told you.")],
) -> None:
    """Confirm a fingerprint that the other hospital told you by another way."""
    screen, site = State.screen, site_here()
    peer, recording = site.peers.confirm(site_id, fingerprint)
    screen.title("Confirmed")
    _show_peer(screen, peer)
    screen.put(peer=_peer_values(peer))
    screen.event(recording)
