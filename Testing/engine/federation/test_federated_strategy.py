"""A federated training is the in-process strategy, whoever falls out and comes back."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from drmc.errors import CanceledError, DRMCError, InputError
from drmc.federation.common_model import Answer, CommonModel
from drmc.federation.member import FINISH, TRAIN, Member
from drmc.models.registry import find_model
from drmc.networks.unet3d import UNet3DConfig
from drmc.training.loop import train
from drmc.training.start import initial_network
from drmc.training.trainer import Trainer
from support.engine.federations import (
    PATIENTS,
    federate,
    finish,
    largest_difference,
    members,
    settings,
    small_plan,
    take_round,
    together,
    weights,
)
from support.engine.small_training import checkpoint, same

UNET = {"kind": "unet3d", **UNet3DConfig(width=2, pools=2).to_dict()}
FTL = {"strategy": "ftl", "federated_steps": 4}


@pytest.mark.parametrize("strategy", ["fedavg", "ftl"])
@pytest.mark.parametrize("network", [None, UNET], ids=["drmc", "unet"])
def test_it_is_the_strategy_in_one_process(strategy: str, network, hospitals: Path, tmp_path: Path):
    changes = {"strategy": strategy, **({"network": network, "patch": 16} if network else {})}
    plan = small_plan(training=changes)
    federate(plan, hospitals, tmp_path)
    train(together(plan, hospitals, tmp_path / "one"))
    common = weights(tmp_path / "server" / "tiny.pt")
    assert largest_difference(common, weights(tmp_path / "one" / "tiny.pt")) <= 1e-6
    start = dict(initial_network(plan.config()).state_dict())
    assert largest_difference(common, start) > 1e-4
    for site, center in plan.sites.items():
        assert same(weights(tmp_path / site / "tiny.pt"), common)
        if strategy == "ftl":
            own = weights(tmp_path / site / f"tiny-{center}.pt")
            assert largest_difference(own, weights(tmp_path / "one" / f"tiny-{center}.pt")) <= 1e-6
            assert largest_difference(own, common) > 1e-5


def test_the_best_weights_are_those_of_the_strategy(hospitals: Path, tmp_path: Path):
    """The best validation is not the last: a rate that is too high spoils the end."""
    plan = small_plan(training={"export": "best", "validate_every": 2, "learning_rate": 0.05, "steps": 8})
    common = federate(plan, hospitals, tmp_path)
    train(together(plan, hospitals, tmp_path / "one"))
    assert (
        largest_difference(weights(tmp_path / "server" / "tiny.pt"), weights(tmp_path / "one" / "tiny.pt"))
        < 1e-6
    )
    mine, theirs = (find_model(tmp_path / f / "tiny.pt").card["training"] for f in ("server", "one"))
    assert mine["patients"] == theirs["patients"] == PATIENTS and mine["simulated"]
    assert mine["weights_step"] == theirs["weights_step"] < common.step
    for key in ("validation_gain", "validation_psnr"):
        assert mine[key] == pytest.approx(theirs[key], abs=1e-4)


def test_a_site_that_was_killed_repeats_its_round(hospitals: Path, tmp_path: Path, monkeypatch):
    plan = small_plan()
    federate(plan, hospitals, tmp_path / "unbroken")
    common, sites = CommonModel(plan, tmp_path / "server"), members(plan, hospitals, tmp_path)
    take_round(common, sites)
    original = Trainer.train_step

    def stop(self, sampler):
        sites["hospital-b"].request_stop()
        return original(self, sampler)

    with monkeypatch.context() as patched, pytest.raises(CanceledError):
        patched.setattr(Trainer, "train_step", stop)
        sites["hospital-b"].answer(TRAIN, common.arrays, {"round": 1})
    for member in sites.values():
        member.close()
    sites = members(plan, hospitals, tmp_path)  # started again
    take_round(common, sites)
    # the server forgets a round that the sites have done already, and is started again
    common = CommonModel(plan, tmp_path / "server")
    for member in sites.values():
        member.answer(TRAIN, common.arrays, {"round": 2})
    while common.next_round is not None:
        take_round(common, sites)
    finish(common, sites)
    for place in ("server", *plan.sites):
        assert same(weights(tmp_path / place / "tiny.pt"), weights(tmp_path / "unbroken" / place / "tiny.pt"))


def test_steps_alone_go_on_from_a_checkpoint(hospitals: Path, tmp_path: Path, monkeypatch):
    plan = small_plan(training={"strategy": "ftl", "federated_steps": 2})
    federate(plan, hospitals, tmp_path / "unbroken")
    common, sites = CommonModel(plan, tmp_path / "server"), members(plan, hospitals, tmp_path)
    take_round(common, sites)
    arrays, about = common.finish()
    original = Trainer.train_step

    def stop(self, sampler):
        record = original(self, sampler)
        if self.step == 4:
            sites["hospital-a"].request_stop()
        return record

    with monkeypatch.context() as patched, pytest.raises(CanceledError):
        patched.setattr(Trainer, "train_step", stop)
        sites["hospital-a"].answer(FINISH, arrays, about)
    sites["hospital-a"].close()
    assert checkpoint(tmp_path / "hospital-a")["step"] == 4
    again = Member(plan, "hospital-a", settings(hospitals, tmp_path, "hospital-a"))
    numbers = again.answer(FINISH, arrays, about)[1]
    assert numbers["own.psnr"] > 0
    again.close()
    for name in ("tiny", "tiny-A"):
        found, expected = (
            weights(folder / "hospital-a" / f"{name}.pt") for folder in (tmp_path, tmp_path / "unbroken")
        )
        assert same(found, expected)


def test_the_others_go_on_without_a_site(hospitals: Path, tmp_path: Path):
    plan, told = small_plan(), []
    common, sites = CommonModel(plan, tmp_path / "server"), members(plan, hospitals, tmp_path)
    take_round(common, {"hospital-a": sites["hospital-a"]})
    sites["hospital-b"].close()
    sites["hospital-b"] = Member(plan, "hospital-b", settings(hospitals, tmp_path, "hospital-b"), told.append)
    take_round(common, sites)
    notices = [record["message"] for record in told if record["event"] == "notice"]
    assert len(notices) == 1 and notices[0].startswith("the others are at step 2, this site is at 0")
    records = [json.loads(line) for line in (tmp_path / "server" / "rounds.jsonl").read_text().splitlines()]
    assert [record["away"] for record in records if record["event"] == "round"] == [["hospital-b"], []]
    for member in sites.values():
        member.close()


def test_a_site_is_told_of_a_patient_in_both_splits_and_so_are_readers_of_its_log(hospitals, tmp_path):
    mine, told = Path(shutil.copytree(hospitals / "hospital-a", tmp_path / "data" / "hospital-a")), []
    manifest = json.loads((mine / "dataset.json").read_text())
    again = {**manifest["cases"][0], "id": "A-again", "split": "validation", "patient": "A-train-0"}
    (mine / "dataset.json").write_text(json.dumps({**manifest, "cases": [*manifest["cases"], again]}))
    plan = small_plan()
    site = Member(plan, "hospital-a", settings(tmp_path / "data", tmp_path, "hospital-a"), told.append)
    site.answer(TRAIN, CommonModel(plan, tmp_path / "server").arrays, {"round": 0})
    site.close()
    expected = "A/A-train-0: in the splits train and validation"
    assert told[0]["event"] == "notice" and expected in told[0]["message"]
    first = json.loads((tmp_path / "hospital-a" / "training.jsonl").read_text().splitlines()[0])
    assert expected in first["warnings"][0]


def test_only_weights_of_the_network_and_numbers_leave_a_site(hospitals: Path, tmp_path: Path):
    plan = small_plan(training={"validate_every": 2})
    common = CommonModel(plan, tmp_path / "server")
    site = Member(plan, "hospital-a", settings(hospitals, tmp_path, "hospital-a"))
    site.answer(TRAIN, common.arrays, {"round": 0})
    arrays, numbers = site.answer(TRAIN, common.arrays, {"round": 1})
    site.close()
    parameters = {name for name, _ in initial_network(plan.config()).named_parameters()}
    assert set(arrays) == {f"{part}.{name}" for part in ("network", "average") for name in parameters}
    assert all(isinstance(value, float) for value in numbers.values())
    assert {key.partition(".")[0] for key in numbers} == {"patients", "simulated", "loss", "validation"}
    assert numbers["patients"] == 2


def test_weights_that_do_not_fit_are_refused(hospitals: Path, tmp_path: Path):
    common = CommonModel(small_plan(), tmp_path / "server")
    name = next(iter(common.arrays))
    good, numbers = dict(common.arrays), {"patients": 2.0}
    common.check("hospital-a", Answer(good, numbers))
    bad = {
        "sent another network": {key: value for key, value in good.items() if key != name},
        "has values that are not finite": {**good, name: good[name] * float("nan")},
        "is not an array of float32": {**good, name: good[name].astype("float64")},
    }
    for message, arrays in bad.items():
        with pytest.raises(DRMCError, match=message):
            common.check("hospital-a", Answer(arrays, numbers))
    with pytest.raises(DRMCError, match="hospital-a: sent no number of training patients"):
        common.check("hospital-a", Answer(good, {}))


def test_another_plan_does_not_go_on_with_the_run(hospitals: Path, tmp_path: Path):
    plan = small_plan()
    federate(plan, hospitals, tmp_path)
    with pytest.raises(InputError, match="belongs to the run of another plan"):
        CommonModel(small_plan(training={"seed": 2}), tmp_path / "server")
    with pytest.raises(InputError, match="made with another 'seed'"):
        other = Member(
            small_plan(training={"seed": 2}), "hospital-a", settings(hospitals, tmp_path, "hospital-a")
        )
        other.answer(TRAIN, CommonModel(plan, tmp_path / "server").arrays, {"round": 1})
    other.close()
    wrong = replace(settings(hospitals, tmp_path, "hospital-a"), center="Z")
    with pytest.raises(InputError, match="has no center Z"):
        Member(plan, "hospital-a", wrong)
