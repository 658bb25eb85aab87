"""Start-up kits: NVIDIA FLARE makes keys, certificates and settings; each kit gets the plan as well."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from drmc.denoising.staging import Claim, check_output_folder
from drmc.errors import DRMCError, InputError
from drmc.federation.layout import CONTROLLER, EXECUTOR, LEAD, SERVER
from drmc.federation.plan import PLAN, Plan
from drmc.files import read_json_object, write_json

AUTHORITY = "authority"
"""The folder with the consortium's own key, which can make further kits; it stays with the lead."""
_IMPL = "nvflare.lighter.impl"
_TEMPLATES = ["master_template.yml", "aws_template.yml", "azure_template.yml"]
_RESOURCES, _DEFAULT = Path("local/resources.json"), Path("local/resources.json.default")
_SECONDS_UNTIL_AWAY = 60
_NOT_SO = (KeyError, TypeError, IndexError)  # of JSON with other keys than NVIDIA FLARE writes


def organization(site: str) -> str:
    """The organization of a site in its certificate."""
    return site.replace("-", "_")


def make_kits(plan: Plan, output: Path, valid_days: int = 360) -> list[Path]:
    """Makes a kit for the server, one for the lead and one for each site.

    Args:
        plan: what the consortium agreed on.
        output: the folder of the kits, which must be empty or not exist.
        valid_days: days until all certificates end.

    Returns:
        The folders of the kits.

    Raises:
        InputError: the folder is not empty, or cannot be written.
        DRMCError: NVIDIA FLARE cannot make them.
    """
    output = Path(output)
    check_output_folder(output)
    if output.exists() and any(output.iterdir()):
        raise InputError(f"{output}: is not empty; kits are made once, name another folder with -o")
    with Claim(output) as claim:
        staging = claim.take()
        made = _provisioned(plan, staging / "work", valid_days)
        output.mkdir(parents=True, exist_ok=True)
        kits = []
        for name, folder in {SERVER: plan.server, LEAD: plan.lead, **{s: s for s in plan.sites}}.items():
            write_json(made / folder / PLAN, plan.to_dict())
            for unused in ("system_info.ipynb", "readme.txt", "start.sh", "sub_start.sh", "stop_fl.sh"):
                (made / folder / "startup" / unused).unlink(missing_ok=True)
            (made / folder / "readme.txt").unlink(missing_ok=True)
            os.chmod(made / folder, 0o700)  # it holds a private key
            kits.append(output / name)
            shutil.move(made / folder, output / name)
        shutil.move(made.parent / "state", output / AUTHORITY)
        os.chmod(output / AUTHORITY, 0o700)
    return kits


def _provisioned(plan: Plan, folder: Path, valid_days: int) -> Path:
    """The folder with what NVIDIA FLARE made."""
    from nvflare.lighter.constants import CtxKey
    from nvflare.lighter.prov_utils import prepare_builders
    from nvflare.lighter.provision import prepare_project
    from nvflare.lighter.provisioner import Provisioner

    people: list[dict[str, Any]] = [
        {"name": plan.server, "type": "server", "org": "consortium", "fed_learn_port": plan.port},
        *({"name": site, "type": "client", "org": organization(site)} for site in plan.sites),
        {"name": plan.lead, "type": "admin", "org": "consortium", "role": "lead"},
    ]
    project = {
        "api_version": 3,
        "name": plan.name.replace("-", "_"),
        "description": "DRMC",
        "gen_scripts": False,
        "participants": people,
        "builders": [
            {"path": f"{_IMPL}.workspace.WorkspaceBuilder", "args": {"template_file": _TEMPLATES}},
            {"path": f"{_IMPL}.static_file.StaticFileBuilder", "args": {"config_folder": "config"}},
            {"path": f"{_IMPL}.cert.CertBuilder", "args": {"root_valid_days": valid_days}},
            {"path": f"{_IMPL}.signature.SignatureBuilder"},
        ],
    }
    told = io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
        provisioner = Provisioner(str(folder), prepare_builders(project))
        context = provisioner.provision(prepare_project(project))
    if context.get(CtxKey.BUILD_ERROR):
        last = told.getvalue().strip().rpartition("\n")[2]
        raise DRMCError(f"NVIDIA FLARE could not make the kits ({last})")
    return Path(context[CtxKey.CURRENT_PROD_DIR])


def read_kit(kit: Path, wanted: str) -> tuple[Plan, str]:
    """The plan of a kit, and whose it is.

    Args:
        kit: the folder.
        wanted: "server", "lead" or "site", the only ones that the caller can use.

    Raises:
        InputError: it is no kit, or one of somebody else.
    """
    kit = Path(kit)
    files = {SERVER: "fed_server.json", LEAD: "fed_admin.json", "site": "fed_client.json"}
    kinds = [kind for kind, name in files.items() if (kit / "startup" / name).is_file()]
    if not kinds or not (kit / PLAN).is_file():
        raise InputError(f"{kit}: is no start-up kit; 'drmc federate provision' makes them")
    if kinds[0] != wanted:
        raise InputError(f"{kit}: is a kit of a {kinds[0]}; this needs one of a {wanted}")
    plan = Plan.read(kit / PLAN)
    name = wanted
    if wanted == "site":
        named = kit / "startup" / files["site"]
        try:
            name = str(read_json_object(named)["client"]["fqsn"])
        except _NOT_SO as error:
            raise InputError(f"{named}: is damaged ({error!r}): ask the lead for a new kit") from None
        if name not in plan.sites:
            raise InputError(f"{kit}: its plan has no site {name}: ask the lead for a new kit")
    return plan, name


def secure_site(kit: Path) -> None:
    """Writes what this site allows: our executor alone, no code in a job, no shell, no log that is sent away.

    It is written at every start, from what is installed at the site, whatever came with the kit.
    """
    with _settings(kit) as resources:
        resources["class_allow_list"] = [EXECUTOR]
        resources["allow_log_streaming"] = False
        kept = [one for one in resources["components"] if "log_streamer" not in one["id"]]
        resources["components"] = kept
    nothing = dict.fromkeys(
        ("operate", "shell_commands", "byoc", "clone_job", "server-predeployed-flwr"), "none"
    )
    rights = {"submit_job": "any", "manage_job": "any", "download_job": "none", "view": "any", **nothing}
    _write_rights(kit, rights)


def secure_server(kit: Path) -> None:
    """Writes the server's settings: our controller alone, no code, all files within the kit's folder."""
    with _settings(kit) as resources:
        resources["class_allow_list"] = [CONTROLLER]
        resources["servers"][0]["heart_beat_timeout"] = _SECONDS_UNTIL_AWAY
        store = kit.resolve() / "jobs"
        resources["snapshot_persistor"]["args"]["storage"]["args"]["root_dir"] = str(store / "snapshots")
        for component in resources["components"]:
            if component["id"] == "job_manager":
                component["args"]["uri_root"] = str(store / "stored")
            if component["id"] == "job_scheduler":
                component["args"]["max_jobs"] = 1
    nothing = dict.fromkeys(
        ("operate", "shell_commands", "byoc", "clone_job", "server-predeployed-flwr"), "none"
    )
    _write_rights(
        kit, {"submit_job": "any", "manage_job": "any", "download_job": "none", "view": "any", **nothing}
    )


@contextmanager
def _settings(kit: Path) -> Iterator[dict[str, Any]]:
    """Yields the settings that NVIDIA FLARE made for a kit, to be changed, and writes them."""
    try:
        resources = json.loads((kit / _DEFAULT).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{kit / _DEFAULT}: cannot be read ({error}): ask the lead for a new kit") from None
    try:
        yield resources
    except _NOT_SO as error:
        raise InputError(f"{kit / _DEFAULT}: is damaged ({error!r}): ask the lead for a new kit") from None
    write_json(kit / _RESOURCES, resources)


def _write_rights(kit: Path, lead: dict[str, str]) -> None:
    write_json(kit / "local/authorization.json", {"format_version": "1.0", "permissions": {"lead": lead}})
