"""Whether the server can be reached, and whether it and this kit trust each other, before anything starts."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from drmc.errors import CanceledError, InputError
from drmc.federation.plan import Plan
from drmc.runtime.control import Cancel

Tell = Callable[[dict[str, Any]], None]
_SECONDS = 10.0
_RETRY_SECONDS = 3.0
_ALERT_SECONDS = 2.0  # with TLS 1.3 a server refuses a certificate after the handshake


def reached(kit: Path, plan: Plan) -> bool:
    """Connects to the server with the kit's certificate.

    Args:
        kit: the kit of a site or of the lead.
        plan: its plan.

    Returns:
        Whether the server answers; False where it is not running or cannot be reached.

    Raises:
        InputError: it does not accept the certificate, or its own is not of this consortium or has ended.
    """
    startup = Path(kit) / "startup"
    where = f"{plan.server}:{plan.port}"
    try:
        context = ssl.create_default_context(cafile=startup / "rootCA.pem")
        context.load_cert_chain(startup / "client.crt", startup / "client.key")
    except (OSError, ssl.SSLError) as error:
        raise InputError(f"{startup}: its certificate cannot be read ({error}): ask for a new kit") from None
    try:
        with (
            socket.create_connection((plan.server, plan.port), timeout=_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=plan.server) as secure,
        ):
            secure.settimeout(_ALERT_SECONDS)
            try:
                secure.recv(1)
            except TimeoutError:
                return True  # it waits for us to speak: it has accepted
        raise _not_accepted(where, "it closed the connection")
    except ssl.SSLCertVerificationError as error:
        raise InputError(
            f"{where}: the server's certificate is not trusted ({error.verify_message}): ask the lead for "
            "a kit of this consortium"
        ) from None
    except ssl.SSLError as error:
        raise _not_accepted(where, str(error.reason)) from None
    except OSError:
        return False


def _not_accepted(where: str, reason: str) -> InputError:
    return InputError(
        f"{where}: the server does not accept this kit's certificate ({reason}): ask the lead for a new kit"
    )


def wait_for_server(kit: Path, plan: Plan, tell: Tell, canceled: Cancel) -> None:
    """Waits until the server can be reached.

    Raises:
        InputError: see `reached`.
        CanceledError: a stop was requested.
    """
    told, where = False, f"{plan.server}:{plan.port}"
    while not reached(kit, plan):
        if not told:
            tell({"event": "notice", "message": f"waiting for the server at {where}"})
            told = True
        pause(_RETRY_SECONDS, canceled)
    tell({"event": "notice", "message": f"connected to {where}, both certificates are accepted"})


def pause(seconds: float, canceled: Cancel) -> None:
    """Waits. Raises CanceledError as soon as a stop is requested."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if canceled():
            raise CanceledError
        time.sleep(0.1)
