"""The process of NVIDIA FLARE at the server or a site, which ends with the command that started it.

`python -m drmc.federation.service server|site KIT NAME` runs in the foreground and writes its log to KIT.
"""

from __future__ import annotations

import contextlib
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from drmc.federation.kits import organization
from drmc.federation.layout import SERVER

SERVICE_LOG = "service.log"
_MODULES = {
    SERVER: ("nvflare.private.fed.app.server.server_train", "fed_server.json"),
    "site": ("nvflare.private.fed.app.client.client_train", "fed_client.json"),
}


def start(kind: str, kit: Path, name: str) -> subprocess.Popen:
    """Starts the process of a kit; see `stop`."""
    with (kit / SERVICE_LOG).open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "drmc.federation.service", kind, str(kit.resolve()), name],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl+C is for the command, which then stops the process
        )


def stop(process: subprocess.Popen, seconds: float = 5.0) -> None:
    """Ends a process and all that it has started."""
    import psutil

    with contextlib.suppress(psutil.Error):
        family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
        for one in family:
            with contextlib.suppress(psutil.Error):
                one.terminate()
        for one in psutil.wait_procs(family, timeout=seconds)[1]:
            with contextlib.suppress(psutil.Error):
                one.kill()
    process.wait()


def has_children(process: subprocess.Popen) -> bool:
    """Whether the process has others that it started, such as that of a run."""
    import psutil

    try:
        return bool(psutil.Process(process.pid).children(recursive=True))
    except psutil.Error:
        return False


def end_with_parent() -> None:
    """Ends this process, and what it has started, soon after its parent has ended."""
    parent = os.getppid()

    def watch() -> None:
        import psutil

        while os.getppid() == parent:
            time.sleep(0.5)
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                child.kill()
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="drmc-end-with-parent").start()


def main(kind: str, kit: str, name: str) -> None:
    """Runs NVIDIA FLARE's own program."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    end_with_parent()
    module, settings = _MODULES[kind]
    org = "consortium" if kind == SERVER else organization(name)
    identity = [f"org={org}", "config_folder=config", *([f"uid={name}"] if kind != SERVER else [])]
    (Path(kit) / "transfer").mkdir(exist_ok=True)
    sys.argv = [module, "-m", kit, "-s", settings, "--set", "secure_train=true", *identity]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
