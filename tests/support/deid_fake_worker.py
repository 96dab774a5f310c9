"""Which misbehaving workers does the pool have to survive? Each job's path says what to do."""

from __future__ import annotations

import os
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path

from deid.batch.journal import Entry
from deid.batch.messages import Done


def fake_worker(connection: Connection) -> None:
    """Do what each path says: "die", "die-once:FILE", "hang", "slow", or anything else: answer."""
    connection.recv()
    connection.send(None)
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        word, _, place = job.path.partition(":")
        if word == "die" or (word == "die-once" and not Path(place).exists()):
            if place:
                Path(place).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if word == "hang":
            time.sleep(600)
        if word == "slow":
            time.sleep(0.05)
        connection.send(Done(job.number, Entry(job.source, "stamp", job.path)))


def stillborn_worker(connection: Connection) -> None:
    """End before being ready."""
    connection.recv()
