"""The whole trace of what went wrong, in the run's folder; the terminal gets one line."""

from __future__ import annotations

import contextlib
import os
import socket
import traceback
from datetime import datetime, timezone
from pathlib import Path

ERROR_LOG = "error.log"


def log_error(run_folder: Path) -> None:
    """Append the exception being handled, with rank and host, to the run's `error.log`. Call it in an `except` block."""
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    header = f"--- {now} rank {os.environ.get('RANK', '-')} on {socket.gethostname()} (pid {os.getpid()})\n"
    try:
        with (run_folder / ERROR_LOG).open("a", encoding="utf-8") as stream:
            stream.write(header + traceback.format_exc() + "\n")
    except OSError:
        # A full disk is often what is being reported; stderr may lie on it too. The error itself goes on its way.
        with contextlib.suppress(OSError):
            traceback.print_exc()
