"""Which commands deal with the privacy ledger, its export and its witness?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from schemas.errors import ErrorCode
from site_node.command import State, end_with, read_file, site_here, write_file

ledger_app = typer.Typer(help="The privacy budget spent here.", no_args_is_help=True)


@ledger_app.command("show")
def ledger_show() -> None:
    """Show what every study has spent and may still spend here."""
    from site_node.ledger_view import show_ledger

    end_with(show_ledger(State.screen, site_here()))


@ledger_app.command("verify")
def ledger_verify(
    file: Annotated[
        Path | None, typer.Argument(help="An exported ledger; needs no site. Default: this site's.")
    ] = None,
) -> None:
    """Recompute a ledger's chain, signatures and rules; this site's also against its witness."""
    if file is not None:
        from schemas.privacy.export import verify_export
        from site_node.ledger_view import show_verified

        show_verified(State.screen, verify_export(read_file(file)))
        return
    from site_node.report import show_chain

    site = site_here()
    site.ledger.check_witness()
    show_chain(State.screen, "ledger", ErrorCode.LEDGER_BROKEN, site.ledger.verify())
    State.screen.line("It is the newest there was, by its witness file.")
    State.screen.put(witness=str(site.ledger.witness.path))


@ledger_app.command("export")
def ledger_export(
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")],
) -> None:
    """Write the whole ledger, signed, for auditors; it holds no patient, but every study here."""
    from site_node.governance.audit import AuditWord
    from site_node.ledger_view import make_export
    from site_node.report import show_chain

    screen, site = State.screen, site_here()
    site.ledger.check_witness()  # an old copy verifies as well: it would go out as the whole
    show_chain(screen, "ledger", ErrorCode.LEDGER_BROKEN, site.ledger.verify())
    signed = make_export(site)
    write_file(output, signed.canonical())
    with site.audit.recording(
        AuditWord.LEDGER_EXPORTED, entries=len(signed.export.entries), head=signed.export.head
    ) as recording:
        pass
    screen.line(f"Written to {output}: {len(signed.export.entries)} entries.")
    screen.exact(f"  cohortium-site ledger verify {output}   works on any machine")
    screen.put(file=str(output), entries=len(signed.export.entries), head=signed.export.head)
    screen.event(recording)


@ledger_app.command("witness")
def ledger_witness(
    accept: Annotated[
        bool,
        typer.Option("--accept", help="Begin the witness anew from the ledger as it is now."),
    ] = False,
) -> None:
    """Show what the ledger's witness file says; accept the ledger if that file was lost."""
    screen, site = State.screen, site_here()
    if accept:
        recording = site.ledger.accept_witness()
        screen.line(
            "The witness begins anew. Whether entries were lost before, nobody here can tell now; "
            "the other hospitals can, at the next round of a study they share."
        )
        returned = site.approvals.settle_stopped()
        if returned:
            screen.line(f"Attempts of stopped studies given back to the budget: {returned}.")
        screen.event(recording)
    point, said = site.ledger.point(), site.ledger.witness.read()
    known = "missing, or not this site's" if said is None else (
        f"{said.confirmed.entries} entries, head {said.confirmed.head}"
    )  # fmt: skip
    screen.facts(
        [
            ("File", str(site.ledger.witness.path)),
            ("Witness", known),
            ("Ledger", f"{point.entries} entries, head {point.head}"),
        ]
    )
    screen.put(
        file=str(site.ledger.witness.path),
        witness=None if said is None else said.model_dump(mode="json"),
        ledger=point.model_dump(mode="json"),
    )
    site.ledger.check_witness()
    screen.line("They agree.")
