"""`drmc federate` on the command line: kits, and one line for what is refused."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from drmc.cli.main import main
from drmc.errors import InputError
from drmc.federation.attend import _Tail
from drmc.federation.kits import secure_server, secure_site
from drmc.federation.plan import FEW_STEPS, Plan, rounds
from support import REPOSITORY
from support.engine.federations import SITES, small_plan
from support.engine.small_training import free_port


def written(folder: Path, **changes) -> Path:
    path = folder / "project.json"
    path.write_text(json.dumps({**small_plan().to_dict(), **changes}))
    return path


def refusal(capsys, *arguments) -> str:
    """The one line of a refusal."""
    capsys.readouterr()
    assert main(["federate", *map(str, arguments)]) == 2
    out, err = capsys.readouterr()
    assert not out and err.count("\n") == 1
    return err


@pytest.fixture(scope="module")
def kits(tmp_path_factory) -> Path:
    pytest.importorskip("nvflare")
    folder = tmp_path_factory.mktemp("kits")
    plan = written(folder, port=free_port())
    assert main(["federate", "provision", str(plan), "-o", str(folder / "kits"), "--valid-days", "30"]) == 0
    return folder / "kits"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sites": {"hospital-a": "A"}}, "a federation has at least two"),
        ({"sites": {"hospital-a": "A", "hospital-b": "A"}}, "two of them have the same center"),
        ({"sites": {"Hospital": "A", "hospital-b": "B"}}, "'Hospital' must be small letters"),
        ({"min_sites": 3}, "min_sites = 3: there are 2 sites"),
        ({"servr": "x"}, "unknown key 'servr' (did you mean 'server'?)"),
        ({"training": {"dataset": "x"}}, "training: 'dataset' is not of the plan"),
        ({"training": {"strategy": "joint"}}, "strategy = joint: must be fedavg or ftl"),
        ({"training": {"strategy": "flmrcm"}}, "strategy = flmrcm: must be fedavg or ftl"),
        ({"training": {"stepz": 3}}, "unknown key 'stepz' (did you mean 'steps'?)"),
        ({"port": 0}, "port = 0: must be a whole number in [1, 65535]"),
    ],
)
def test_a_bad_plan_is_one_line(changes, message: str, tmp_path: Path, capsys):
    pytest.importorskip("nvflare")
    line = refusal(capsys, "provision", written(tmp_path, **changes), "-o", tmp_path / "kits")
    assert message in line and "project.json" in line
    assert not (tmp_path / "kits").exists()


def test_what_does_not_belong_to_an_action_is_one_line(kits: Path, tmp_path: Path, capsys):
    assert "start takes no config" in refusal(capsys, "start", kits / "lead", "x.json")
    assert "join: config is missing" in refusal(capsys, "join", kits / "hospital-a")
    assert "provision: -o is missing" in refusal(capsys, "provision", written(tmp_path))
    assert "is not empty" in refusal(capsys, "provision", written(tmp_path), "-o", kits)
    assert "is no start-up kit" in refusal(capsys, "serve", tmp_path)
    assert "is a kit of a server; this needs one of a lead" in refusal(capsys, "status", kits / "server")


@pytest.mark.parametrize("days", [0, -1, 99_999_999])
def test_certificates_have_days_that_a_calendar_has(days: int, tmp_path: Path, capsys):
    pytest.importorskip("nvflare")
    plan, out = written(tmp_path), tmp_path / "kits"
    assert f"--valid-days {days}:" in refusal(capsys, "provision", plan, "-o", out, "--valid-days", days)
    assert not out.exists()


@pytest.mark.parametrize("place", ["file", "file/kits"])
def test_kits_are_not_made_where_no_folder_can_be(place: str, tmp_path: Path, capsys):
    pytest.importorskip("nvflare")
    (tmp_path / "file").write_text("a regular file")
    assert "-o" in refusal(capsys, "provision", written(tmp_path), "-o", tmp_path / place)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"client": []}'])
def test_a_damaged_kit_is_one_line(text: str, tmp_path: Path, capsys):
    pytest.importorskip("nvflare")
    kit, config = tmp_path / "kit", tmp_path / "site.json"
    for folder in ("startup", "local"):
        (kit / folder).mkdir(parents=True)
    (kit / "plan.json").write_text(json.dumps(small_plan().to_dict()))
    (kit / "startup" / "fed_client.json").write_text(text)
    assert "fed_client.json" in refusal(capsys, "join", kit, config)
    (kit / "local" / "resources.json.default").write_text(text)
    for secure in (secure_server, secure_site):
        with pytest.raises(InputError, match=r"resources\.json\.default: .*ask the lead for a new kit"):
            secure(kit)
    assert [path.name for path in (kit / "local").iterdir()] == ["resources.json.default"]


def test_wrong_settings_of_a_site_are_one_line(kits: Path, hospitals: Path, tmp_path: Path, capsys):
    config = tmp_path / "site.json"
    there = {"dataset": str(hospitals / "hospital-b"), "output": "out"}
    for settings, message in (
        ({"dataset": "nowhere", "output": "out"}, "no such dataset"),
        ({**there, "center": "C"}, "has no center C (there are B)"),
        ({"output": "out"}, "key 'dataset' is missing"),
        ({"dataset": "x", "output": "out", "seed": 1}, "unknown key 'seed'"),
    ):
        config.write_text(json.dumps(settings))
        assert message in refusal(capsys, "join", kits / "hospital-a", config)
    assert not (tmp_path / "out").exists()


def test_a_port_in_use_is_one_line(kits: Path, capsys):
    with socket.socket() as taken:
        taken.bind(("", Plan.read(kits / "server" / "plan.json").port))
        taken.listen()
        assert "cannot be opened" in refusal(capsys, "serve", kits / "server")


def test_a_kit_allows_our_classes_alone_and_no_code(kits: Path):
    secure_site(kits / "hospital-a")
    secure_server(kits / "server")
    for kit, name in (("hospital-a", "executor.SiteExecutor"), ("server", "controller.FederatedRounds")):
        resources = json.loads((kits / kit / "local" / "resources.json").read_text())
        assert resources["class_allow_list"] == [f"drmc.federation.{name}"]
        assert resources["class_list_enforcement_mode"] == "enforce"
        assert str(Path("/tmp/nvflare")) not in json.dumps(resources)
        lead = json.loads((kits / kit / "local" / "authorization.json").read_text())["permissions"]["lead"]
        assert {lead[right] for right in ("byoc", "shell_commands", "operate", "download_job")} == {"none"}
    site = json.loads((kits / "hospital-a" / "local" / "resources.json").read_text())
    assert not site["allow_log_streaming"] and "streamer" not in json.dumps(site["components"])


def test_certificates_end_when_it_was_said(kits: Path):
    from cryptography import x509

    for kit, name in (("server", "server"), ("lead", "client"), *((site, "client") for site in SITES)):
        certificate = x509.load_pem_x509_certificate((kits / kit / "startup" / f"{name}.crt").read_bytes())
        assert 28 <= (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days <= 31


def test_rounds_are_those_of_the_strategy():
    plan = small_plan(training={"steps": 7, "round_steps": 2, "validate_every": 3})
    found = rounds(plan.config())
    assert [(one.first, one.last) for one in found] == [(0, 2), (2, 4), (4, 6), (6, 7)]
    assert [one.judged for one in found] == [False, False, True, True]
    transfer = small_plan(training={"strategy": "ftl", "steps": 8, "federated_steps": 3})
    assert [one.last for one in rounds(transfer.config())] == [2, 3]


def test_the_example_is_a_plan():
    plan = Plan.read(REPOSITORY / "examples" / "federation.json")
    assert plan.config().round_steps >= FEW_STEPS


def test_plans_differ_by_fingerprint_also_in_the_order_of_sites(tmp_path: Path):
    plan = small_plan()
    assert Plan.read(written(tmp_path)).fingerprint == plan.fingerprint
    turned = small_plan(sites=dict(reversed(SITES.items())))
    assert len({plan.fingerprint, turned.fingerprint, small_plan(training={"seed": 5}).fingerprint}) == 3


def test_a_line_that_is_being_written_waits(tmp_path: Path):
    path = tmp_path / "events.jsonl"
    tail = _Tail(path)
    assert tail.read() == []
    path.write_text('{"event": "a"}\n{"eve')
    assert tail.read() == [{"event": "a"}]
    with path.open("a") as file:
        file.write('nt": "b"}\n')
    assert tail.read() == [{"event": "b"}] and tail.read() == []
