"""What becomes of the panel's choices when scenes are saved, closed and loaded, and when nodes go away."""

from __future__ import annotations

import pytest
from support.slicer.scene import oblique, phantom, segmentationNode, volumeNode

pytestmark = pytest.mark.usefixtures("model")

VOLUMES = ("inputVolume", "outputVolume", "referenceVolume")
TABLES = ("lesionTable", "routingTable")
NAMES = (*VOLUMES, *TABLES, "lesions", "report")


def filled(panel, slicer):
    """The panel's parameters with a node in every place."""
    parameters = panel._parameterNode
    low = volumeNode(slicer, phantom(), oblique(), units="{SUVbw}g/ml", name="PET")
    for name in VOLUMES:
        setattr(parameters, name, low if name == "inputVolume" else None)
    for name in ("outputVolume", "referenceVolume"):
        node = volumeNode(slicer, phantom(seed=1), oblique(), units="{SUVbw}g/ml", name=name)
        setattr(parameters, name, node)
    parameters.lesions = segmentationNode(slicer, low, {"Hot": phantom() > 5})
    for name in TABLES:
        setattr(parameters, name, slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", name))
    parameters.report = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode", "report")
    parameters.report.SetText("<html></html>")
    parameters.windowSUV = 7.5
    return parameters


def chosen(panel) -> dict[str, str | None]:
    """The name of the node in every place, as the parameters say and as the MRML node itself says."""
    parameters = panel._parameterNode
    found = {}
    for name in NAMES:
        node = getattr(parameters, name)
        assert node is parameters.parameterNode.GetNodeReference(name), name
        found[name] = None if node is None else node.GetName()
    return found


def saved(slicer, folder) -> str:
    """Saves the scene with all its data; the path of the .mrml file."""
    scene = slicer.mrmlScene
    path = folder / "scene.mrml"
    scene.SetURL(str(path))
    for node in slicer.util.getNodesByClass("vtkMRMLStorableNode"):
        if not node.GetSaveWithScene() or node.GetHideFromEditors() or not node.GetModifiedSinceRead():
            continue
        node.AddDefaultStorageNode()
        storage = node.GetStorageNode()
        if storage is not None:
            ending = storage.GetDefaultWriteFileExtension()
            storage.SetFileName(str(folder / f"{node.GetID()}.{ending}"))
            assert storage.WriteData(node), node.GetName()
    assert scene.Commit(str(path))
    return str(path)


def load(slicer, path: str, *, clear: bool = True) -> None:
    slicer.mrmlScene.SetURL(path)
    assert slicer.mrmlScene.Connect() if clear else slicer.mrmlScene.Import()


@pytest.mark.parametrize("clear", [True, False], ids=["in the place of the present one", "into an empty one"])
def test_a_scene_loaded_while_the_module_is_open_brings_everything_back(panel, qtSlicer, tmp_path, clear):
    filled(panel, qtSlicer)
    before = chosen(panel)
    assert None not in before.values()
    path = saved(qtSlicer, tmp_path)
    if not clear:
        qtSlicer.mrmlScene.Clear(0)
        assert set(chosen(panel).values()) == {None}
    load(qtSlicer, path, clear=clear)
    assert chosen(panel) == before and panel._parameterNode.windowSUV == 7.5
    ui = panel.ui
    shown = [ui.inputSelector, ui.outputSelector, ui.lesionsSelector, ui.referenceSelector]
    assert [one.currentNode().GetName() for one in shown] == [
        before[name] for name in ("inputVolume", "outputVolume", "lesions", "referenceVolume")
    ]
    assert ui.parameterSetSelector.currentNode() is panel._parameterNode.parameterNode


def test_a_scene_loaded_while_another_module_is_open_brings_everything_back(panel, qtSlicer, tmp_path):
    filled(panel, qtSlicer)
    before = chosen(panel)
    path = saved(qtSlicer, tmp_path)
    panel.exit()
    panel.parent.isEntered = False
    load(qtSlicer, path)
    panel.parent.isEntered = True
    panel.enter()
    assert chosen(panel) == before


def test_another_set_than_the_scenes_own_is_left_when_a_scene_is_loaded(panel, qtSlicer, tmp_path):
    filled(panel, qtSlicer)
    before = chosen(panel)
    path = saved(qtSlicer, tmp_path)
    panel.ui.parameterSetSelector.addNode()
    load(qtSlicer, path)
    assert chosen(panel) == before and panel.ui.parameterSetSelector.nodeCount() == 1


@pytest.mark.parametrize("name", ["outputVolume", "referenceVolume", "lesions"])
def test_no_other_node_takes_the_place_of_one_that_was_deleted(panel, qtSlicer, name):
    """A selector moves to the next node: a run would overwrite or measure a node that nobody chose."""
    parameters = filled(panel, qtSlicer)
    volumeNode(qtSlicer, phantom(), oblique(), name="Innocent")
    segmentationNode(qtSlicer, parameters.inputVolume, {"Other": phantom() > 5}, name="Innocent too")
    before = chosen(panel)
    qtSlicer.mrmlScene.RemoveNode(getattr(parameters, name))
    assert chosen(panel) == before | {name: None}


def test_sets_can_be_chosen_again_after_the_scene_was_closed(panel, qtSlicer):
    """Closing takes the attribute by which the selector knows the scene's own set."""
    selector = panel.ui.parameterSetSelector
    qtSlicer.mrmlScene.Clear(0)
    own = panel._parameterNode.parameterNode
    assert own.GetAttribute("ModuleName") == "DRMCDenoise" and selector.currentNode() is own
    other = selector.addNode()
    assert selector.nodeCount() == 2 and panel._parameterNode.parameterNode is other
    selector.setCurrentNode(own)
    assert panel._parameterNode.parameterNode is own
    volume = volumeNode(qtSlicer, phantom(), oblique(), units="{SUVbw}g/ml")
    panel._parameterNode.outputVolume = volume
    assert selector.currentNode() is own


def test_what_a_run_has_said_does_not_stand_beside_a_scan_of_the_next_scene(panel, qtSlicer):
    """A scene that is closed while another module is open: its volumes' IDs are given again."""
    from drmc.texts import RESEARCH_USE

    first = volumeNode(qtSlicer, phantom(), oblique(), units="{SUVbw}g/ml").GetID()
    panel._parameterNode.inputVolume = qtSlicer.mrmlScene.GetNodeByID(first)
    panel.ui.statusLabel.setText("Done in 6 s on cpu.")
    panel.parent.isEntered = False
    panel.exit()
    qtSlicer.mrmlScene.Clear(0)
    assert volumeNode(qtSlicer, phantom(), oblique(), units="{SUVbw}g/ml").GetID() == first
    panel.parent.isEntered = True
    panel.enter()
    assert panel._parameterNode.inputVolume is not None
    assert panel.ui.statusLabel.text == RESEARCH_USE


def test_a_volume_that_was_chosen_once_is_freed_with_its_scene(panel, qtSlicer):
    """Slicer's own class for observers keeps all that it has ever observed."""
    import gc

    import vtk

    gone = []
    for seed in range(2):
        node = volumeNode(qtSlicer, phantom(seed=seed), oblique(), units="{SUVbw}g/ml")
        node.GetImageData().AddObserver(vtk.vtkCommand.DeleteEvent, lambda *_: gone.append(1))
        panel._parameterNode.inputVolume = node
    del node
    qtSlicer.mrmlScene.Clear(0)
    gc.collect()
    assert gone == [1, 1]


def test_a_module_that_is_opened_often_keeps_one_parameter_node(panel, qtSlicer):
    """Each has an observer for every parameter, which reads it at every change."""
    import gc

    def count() -> int:
        gc.collect()
        return sum(type(one).__name__ == "DRMCDenoiseParameterNode" for one in gc.get_objects())

    before = count()
    for _ in range(5):
        panel.exit()
        panel.enter()
    assert count() == before
