"""How does a whole consortium come up on one machine, by the commands people use?

Coordinator, vendor and hospitals as separate operating-system processes on loopback; every step is
one of the product's own commands, printed so that a reader can repeat it. Used by the demo and,
once per run, by the integration tests.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent
PARALLEL = 2
_READY_SECONDS = 120.0
_END_SECONDS = 30.0

Say = Callable[[str], None]


class CommandFailed(Exception):
    """A command of the product ended with an error."""

    def __init__(self, command: Sequence[str], status: int, output: str) -> None:
        """Keep what was run and what it said."""
        super().__init__(f"{' '.join(command)} ended with {status}\n{output}")
        self.status = status
        self.output = output


@dataclass
class Testbed:
    """One coordinator, one vendor and n hospitals below `root`.

    Attributes:
        root: `coordinator/`, `vendor/`, `site-1 …`, and `raw/` for what hospitals hand over.
        say: receives every command line as a person would type it.
    """

    __test__ = False  # not a test class, whatever its name says

    root: Path
    n_sites: int = 4
    say: Say = lambda _line: None
    tap: bool = False
    children: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    # -- commands ----------------------------------------------------------------------------

    @property
    def site_names(self) -> list[str]:
        """Name the hospitals."""
        return [f"site-{index}" for index in range(1, self.n_sites + 1)]

    def home(self, name: str) -> Path:
        """Give the folder of one party."""
        return self.root / name

    def command(self, program: str, home: str, *arguments: str) -> list[str]:
        """Build a command line for one party; the vendor's folder comes from the environment."""
        folder = [] if program == "cohortium" else ["--home", str(self.home(home))]
        return [str(BIN / program), *arguments, *folder]

    def run(
        self, program: str, home: str, *arguments: str, check: bool = True, quiet: bool = False
    ) -> str:
        """Run one command to its end and return what it printed.

        Raises:
            CommandFailed: it ended with an error and `check` is set.
        """
        if not quiet:
            self.say(self._shown(program, home, arguments))
        command = self.command(program, home, *arguments)
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self._environment(),
            check=False,
        )
        if check and done.returncode != 0:
            raise CommandFailed(command, done.returncode, done.stdout)
        return done.stdout

    def json(self, program: str, home: str, *arguments: str) -> Any:
        """Run one command with --json and parse its answer."""
        output = self.run(program, home, *arguments, "--json", quiet=True)
        return json.loads(output[output.index("{") :])

    def site(self, name: str, *arguments: str, **options: bool) -> str:
        """Run `cohortium-site` at one hospital."""
        return self.run("cohortium-site", name, *arguments, **options)

    def at_all_sites(self, *arguments: str) -> None:
        """Run the same command at every hospital, two at a time."""
        self.in_parallel(lambda name: self.site(name, *arguments))

    def in_parallel(
        self, step: Callable[[str], object], names: Sequence[str] | None = None
    ) -> None:
        """Do one step for every (named) hospital, two at a time."""
        with ThreadPoolExecutor(PARALLEL) as pool:
            list(pool.map(step, self.site_names if names is None else names))

    def _short(self, path: Path) -> str:
        try:
            return str(path.relative_to(Path.cwd()))
        except ValueError:
            return str(path)

    def _shown(self, program: str, home: str, arguments: Sequence[str]) -> str:
        """Write a command as a person would type it from this folder."""
        words = [self._short(Path(word)) if word.startswith("/") else word for word in arguments]
        folder = self._short(self.home(home))
        if program == "cohortium":
            return f"$ COHORTIUM_HOME={folder} {program} {shlex.join(words)}"
        return f"$ {program} {shlex.join(words)} --home {folder}"

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "COHORTIUM_HOME": str(self.home("vendor")),
        }

    # -- long-running processes --------------------------------------------------------------

    def serve(self, program: str, home: str, *arguments: str) -> None:
        """Start a `serve` command in the background; its output goes to `root/<home>.serve.log`."""
        self.say(f"$ {program} serve --home {self._short(self.home(home))} &")
        with (self.root / f"{home}.serve.log").open("ab") as log:
            self.children[home] = subprocess.Popen(
                self.command(program, home, "serve", *arguments),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment(),
                start_new_session=True,
            )

    def end(self, home: str, number: signal.Signals = signal.SIGTERM) -> None:
        """End one `serve` and wait until it is gone."""
        child = self.children.pop(home, None)
        if child is None or child.poll() is not None:
            return
        child.send_signal(number)
        try:
            child.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()

    def end_all(self) -> None:
        """End every process this test bed started, hospitals first."""
        names = [name for name in self.children if name != "coordinator"]
        for name in names:
            if self.children[name].poll() is None:
                self.children[name].send_signal(signal.SIGTERM)
        for name in [*names, "coordinator"]:
            self.end(name)

    @contextmanager
    def ended_at_exit(self) -> Iterator[Testbed]:
        """End everything when the block is left, however it is left."""
        try:
            yield self
        finally:
            self.end_all()

    def pids(self) -> list[int]:
        """Give the process ids of every `serve`."""
        return [child.pid for child in self.children.values()]

    def wait_for(self, condition: Callable[[], bool], what: str, seconds: float) -> None:
        """Wait for something the processes do.

        Raises:
            TimeoutError: it did not happen, or a `serve` ended meanwhile.
        """
        until = time.monotonic() + seconds
        while not condition():
            for name, child in self.children.items():
                if child.poll() is not None:
                    log = (self.root / f"{name}.serve.log").read_text(errors="replace")[-2000:]
                    raise TimeoutError(f"{name} ended while waiting for {what}:\n{log}")
            if time.monotonic() > until:
                raise TimeoutError(f"waited {seconds:.0f} s for {what}")
            time.sleep(0.25)

    # -- the story, chapter by chapter -------------------------------------------------------

    def start_coordinator(self) -> None:
        """Make and serve a coordinator, and give the vendor access to it."""
        self.root.mkdir(parents=True, exist_ok=True)
        self.run("cohortium-coordinator", "coordinator", "init", "--name", "Demo consortium")
        access = self.root / "vendor.access"
        taps = ["--tap", str(self.root / "coordinator.tap")] if self.tap else []
        self.serve("cohortium-coordinator", "coordinator", *taps)
        self.wait_for(self._coordinator_ready, "the coordinator", _READY_SECONDS)
        self.run("cohortium-coordinator", "coordinator", "grant", "Vendor", "--out", str(access))
        self.run("cohortium", "vendor", "init", "--access", str(access))

    def _coordinator_ready(self) -> bool:
        health = self.home("coordinator") / "run" / "health.json"
        try:
            return bool(json.loads(health.read_text())["ready"])
        except (OSError, ValueError, KeyError):
            return False

    def ports(self) -> dict[str, int]:
        """Give the coordinator's ports, as the system chose them."""
        path = self.home("coordinator") / "run" / "ports.json"
        return dict(json.loads(path.read_text()))

    def enrol_sites(self) -> None:
        """Create every hospital, invite and enrol it, and start its node."""

        def enrol(name: str) -> None:
            invite = self.root / f"{name}.invite"
            number = name.rsplit("-", 1)[1]
            self.site(name, "init", "--site-id", name, "--name", f"Hospital {number}")
            self.run("cohortium-coordinator", "coordinator", "invite", name, "--out", str(invite))
            self.site(name, "enrol", "--invite", str(invite))
            self.site(name, "card", "export", "--output", str(self.root / f"{name}.card"))
            if self.tap:
                self._set_tap(name)

        self.in_parallel(enrol)

    def _set_tap(self, name: str) -> None:
        path = self.home(name) / "site.toml"
        text = path.read_text()
        tap = self.root / f"{name}.tap"
        path.write_text(
            text.replace('unsafe_plaintext_tap = ""', f'unsafe_plaintext_tap = "{tap}"')
        )

    def confirm_peers(self) -> None:
        """Carry the cards from hospital to hospital, outside the coordinator, and confirm them."""
        marks = {
            name: self.json("cohortium-site", name, "card", "show")["fingerprint"]
            for name in self.site_names
        }

        def confirm(name: str) -> None:
            for peer in self.site_names:
                if peer != name:
                    self.site(name, "peers", "import", str(self.root / f"{peer}.card"))
                    self.site(name, "peers", "confirm", peer, "--fingerprint", marks[peer])

        self.in_parallel(confirm)

    def start_sites(self) -> None:
        """Start every hospital's node and wait until all are connected."""
        for name in self.site_names:
            self.serve("cohortium-site", name)
        self.wait_for(self._sites_connected, "the hospitals' nodes", _READY_SECONDS)

    def _sites_connected(self) -> bool:
        for name in self.site_names:
            try:
                health = json.loads((self.home(name) / "state" / "health.json").read_text())
            except (OSError, ValueError):
                return False
            running = [p["state"] == "running" for p in health.get("processes", {}).values()]
            if len(running) < 3 or not all(running):
                return False
        return True

    def propose(
        self, study: str, *, template: str = "", edit: Mapping[str, str] | None = None
    ) -> str:
        """Let the vendor write, preview, seal and send a plan; returns its digest.

        Args:
            study: name of the study.
            template: name of the draft's template; by default the study's own name.
            edit: replacements in the draft's text, as a person would edit it.
        """
        draft, plan = self.root / f"{study}.draft.toml", self.root / f"{study}.plan"
        self.run(
            "cohortium",
            "vendor",
            "study",
            "init",
            study,
            "--template",
            template or study,
            "-o",
            str(draft),
        )
        if edit:
            text = draft.read_text()
            for old, new in edit.items():
                assert old in text, old
                text = text.replace(old, new)
            draft.write_text(text)
        cards = self.root / "cards"
        cards.mkdir(exist_ok=True)
        for name in self.site_names:
            shutil.copy(self.root / f"{name}.card", cards / f"{name}.card")
        self.run(
            "cohortium", "vendor", "study", "plan", str(draft), "--cards", str(cards),
            "-o", str(plan),
        )  # fmt: skip
        self.run("cohortium", "vendor", "study", "apply", str(plan))
        digests: dict[str, str] = {}

        def arrived() -> bool:
            for name in self.site_names:
                if not digests.get(name):
                    digests[name] = self.plan_digest(name, study)
            return all(digests[name] for name in self.site_names)

        self.wait_for(arrived, f"the plan of {study} at every hospital", 60)
        assert len(set(digests.values())) == 1
        return digests[self.site_names[0]]

    def plan_digest(self, name: str, study: str) -> str:
        """Give the digest of a study's plan as one hospital received it, or ''."""
        plans = self.json("cohortium-site", name, "plan", "list")["plans"]
        found = [plan["digest"] for plan in plans if plan["study_id"] == study]
        return found[-1] if found else ""

    def ingest(self, study: str, raw: Path, folder: str = "") -> dict[str, str]:
        """Let every hospital take in its own raw folder, `raw/<hospital>/<folder or study>`.

        Returns:
            What each hospital's command printed.
        """
        printed: dict[str, str] = {}

        def ingest(name: str) -> None:
            source = str(raw / name / (folder or study))
            printed[name] = self.site(name, "ingest", study, "--source", source)

        self.in_parallel(ingest)
        return printed

    def approve(self, study: str, digest: str, names: Sequence[str] | None = None) -> None:
        """Let stewards approve exactly this digest."""
        self.in_parallel(
            lambda name: self.site(name, "plan", "approve", study, "--hash", digest), names
        )

    def study_state(self, study: str) -> dict[str, Any]:
        """Give one study's entry of the coordinator's status."""
        status = self.json("cohortium-coordinator", "coordinator", "status")
        return next((s for s in status["studies"] if s["study_id"] == study), {})
