"""Two hospitals, a server and the lead on one machine, over mutual TLS, each started by its own command."""

from __future__ import annotations

import json
import signal
import socket
import ssl
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from drmc.federation.job import write_job
from drmc.federation.plan import Plan
from drmc.training.loop import train
from drmc.training.start import initial_network
from support.engine.federated_processes import command, prepare, wait_for
from support.engine.federations import SITES, largest_difference, small_plan, together, weights
from support.engine.small_training import PATIENCE, free_port, same

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="NVIDIA FLARE needs Linux or macOS")


@dataclass
class Ended:
    """What the one run left: its folder, exit codes and printed lines by command, and refusals."""

    folder: Path
    codes: dict[str, int]
    lines: dict[str, str]
    refusals: dict[str, str]


@pytest.fixture(scope="module")
def ended(tmp_path_factory) -> Ended:
    """A whole run, in which a hospital is killed after its first round and joins again."""
    folder = tmp_path_factory.mktemp("loopback")
    plan = small_plan(port=free_port())
    prepare(folder, plan, "kits", "foreign")  # "foreign": of another consortium with the same names
    running = {"server": command(folder, "server", "serve", "kits/server")}
    codes, refusals = {}, {}
    try:
        for site in SITES:
            running[site] = command(folder, site, "join", f"kits/{site}", f"{site}.json")
        for site in SITES:
            wait_for(folder, site, "connected to")
        refusals["code"] = job_with_code(folder)
        running["lead"] = command(folder, "lead", "start", "kits/lead")
        wait_for(folder, "hospital-b", "round 0, step")
        running["hospital-b"].kill()
        codes["killed"] = running["hospital-b"].wait()
        refusals["foreign"] = refused(folder)
        running["hospital-b"] = command(folder, "again", "join", "kits/hospital-b", "hospital-b.json")
        for name in ("lead", *SITES):
            codes[name] = running[name].wait(PATIENCE)
        for name, kit in (("member", "kits"), ("stranger", "foreign"), ("nobody", "")):
            refusals[name] = connection(plan.port, folder / kit / "hospital-b" if kit else None)
        running["server"].send_signal(signal.SIGTERM)
        codes["server"] = running["server"].wait(PATIENCE)
    finally:
        for process in running.values():
            process.kill()
    lines = {path.stem: path.read_text() for path in folder.glob("*.txt")}
    return Ended(folder, codes, lines, refusals)


def refused(folder: Path) -> str:
    """What a hospital is told that joins with a kit of another authority."""
    arguments = [sys.executable, "-m", "drmc", "federate", "join", "foreign/hospital-b", "hospital-b.json"]
    done = subprocess.run(
        arguments, cwd=folder, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 2
    return done.stderr


def connection(port: int, kit: Path | None) -> str:
    """What the server does with a program that trusts it blindly and shows a kit's certificate, or none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if kit is not None:
        context.load_cert_chain(kit / "startup" / "client.crt", kit / "startup" / "client.key")
    with socket.create_connection(("localhost", port), timeout=PATIENCE) as plain:
        try:
            with context.wrap_socket(plain) as secure:
                secure.settimeout(5)
                return "open" if secure.recv(1) else "closed"
        except TimeoutError:
            return "open"  # it waits for what the program has to say
        except OSError:
            return "closed"


def job_with_code(folder: Path) -> str:
    """How a job of the lead ends that brings code along, though it is otherwise the right one."""
    job = write_job(Plan.read(folder / "kits" / "lead" / "plan.json"), list(SITES), folder / "job")
    assert not [path for path in job.rglob("*") if path.is_file() and path.suffix != ".json"]
    (job / "app" / "custom").mkdir()
    (job / "app" / "custom" / "code.py").write_text("print('here')")
    code = """
import sys, time
from pathlib import Path
from drmc.federation.consortium import Lead
with Lead(Path("kits/lead")) as lead:
    while not all(lead.status().sites.values()):
        time.sleep(1)
    job = lead._ask(lambda session: session.submit_job(sys.argv[1]))
    while not (outcome := lead.outcome(job)).startswith("FINISHED"):
        time.sleep(1)
    print(outcome)
"""
    arguments = [sys.executable, "-c", code, str(job)]
    done = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout.strip() or done.stderr


def test_all_come_to_their_end(ended: Ended):
    assert ended.codes == {
        **{"killed": -9, "hospital-a": 0, "hospital-b": 0, "lead": 0},
        "server": 130,  # it runs until it is stopped
    }, ended.lines
    assert "hospital-b has left the run" in ended.lines["lead"]
    assert "finished: the models are in" in ended.lines["again"]


def test_the_weights_are_those_of_the_unbroken_run_in_one_process(ended: Ended, tmp_path: Path):
    plan = small_plan()
    train(together(plan, ended.folder / "data", tmp_path))
    common = weights(ended.folder / "kits" / "server" / "run" / "tiny.pt")
    assert largest_difference(common, weights(tmp_path / "tiny.pt")) <= 1e-6
    assert largest_difference(common, dict(initial_network(plan.config()).state_dict())) > 1e-4
    for site in SITES:
        assert same(weights(ended.folder / "out" / site / "tiny.pt"), common)


def test_validations_of_each_site_are_reported(ended: Ended):
    for name in ("lead", "server"):
        last = [line for line in ended.lines[name].splitlines() if line.startswith("validation at step 6")]
        assert last and all(site in last[-1] for site in SITES)


def test_a_site_without_a_certificate_of_the_consortium_is_turned_away(ended: Ended):
    last = ended.refusals["foreign"].strip().splitlines()[-1]
    assert "the server's certificate is not trusted" in last and "ask the lead" in last
    found = {name: ended.refusals[name] for name in ("member", "stranger", "nobody")}
    assert found == {"member": "open", "stranger": "closed", "nobody": "closed"}


def test_a_job_with_code_is_turned_away(ended: Ended):
    assert ended.refusals["code"].startswith("FINISHED:")
    assert ended.refusals["code"] != "FINISHED:COMPLETED"
    log = (ended.folder / "kits" / "server" / "service.log").read_text(errors="replace")
    assert "BYOC not permitted" in log


def test_what_crosses_is_weights_and_numbers(ended: Ended):
    names = {name for name, _ in initial_network(small_plan().config()).named_parameters()}
    arrays = {f"{part}.{name}" for part in ("network", "average") for name in names}
    for site in SITES:
        text = (ended.folder / "out" / site / "exchange.jsonl").read_text()
        messages = [json.loads(line) for line in text.splitlines()]
        assert {message["task"] for message in messages} == {"train", "validate", "finish"}
        for message in messages:
            assert not message["arrays"] or set(message["arrays"]) == arrays
            values = message["values"].values()
            assert all(isinstance(value, (int, float)) or value in ("last", "best") for value in values)
        sent = [message for message in messages if message["direction"] == "sent"]
        assert all(not message["arrays"] for message in sent if message["task"] != "train")
        assert str(ended.folder) not in text


def test_private_keys_are_for_their_owner_alone(ended: Ended):
    for kit in ("server", "lead", *SITES, "authority"):
        assert (ended.folder / "kits" / kit).stat().st_mode & 0o077 == 0
    assert not list((ended.folder / "kits").rglob("*.pkl"))
