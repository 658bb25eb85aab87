"""Denoised frames as a sequence beside the input's."""

from __future__ import annotations

from typing import Any

import slicer
from DRMCCoreLib.nodes.sequences import browserOf, sequenceOf


def showDenoised(inputVolume, outputVolume, arrays: list[Any], summaries: list[dict[str, Any]]):
    """Puts denoised frames (k, j, i) into a sequence of the input's browser; returns the new proxy.

    `outputVolume`, if it is a proxy of the same browser, gets its frames replaced; else the sequence is a new
    one.
    """
    from DRMCDenoiseLib import results  # SimpleITK is not needed before

    browser, source = browserOf(inputVolume), sequenceOf(inputVolume)
    strength = summaries[0]["strength"]
    sequence = None if outputVolume is None else browser.GetSequenceNode(outputVolume)
    isNew = sequence is None or sequence is source
    if isNew:
        sequence = slicer.vtkMRMLSequenceNode()
        sequence.SetName(
            slicer.mrmlScene.GenerateUniqueName(results.denoisedName(source.GetName(), strength))
        )
        slicer.mrmlScene.AddNode(sequence)
    sequence.RemoveAllDataNodes()
    sequence.SetIndexName(source.GetIndexName())
    sequence.SetIndexUnit(source.GetIndexUnit())
    sequence.SetIndexType(source.GetIndexType())
    sequence.SetNumericIndexValueTolerance(source.GetNumericIndexValueTolerance())
    for index, (array, summary) in enumerate(zip(arrays, summaries, strict=True)):
        frame = slicer.vtkMRMLScalarVolumeNode()
        results.fillDenoised(frame, array, source.GetNthDataNode(index), summary)
        frame.SetName(results.denoisedName(inputVolume.GetName(), summary["strength"]))
        sequence.SetDataNodeAtValue(frame, source.GetNthIndexValue(index))
        # It keeps a copy, and a copy has no units.
        results.setUnits(inputVolume, sequence.GetNthDataNode(index), summary)
    if isNew:
        browser.AddSynchronizedSequenceNode(sequence)
        browser.SetOverwriteProxyName(sequence, False)
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    proxy = browser.GetProxyNode(sequence)
    if isNew:
        name = results.denoisedName(inputVolume.GetName(), strength)
        proxy.SetName(slicer.mrmlScene.GenerateUniqueName(name))
    for node in (sequence, proxy):
        results.labelStrength(node, strength)
    results.setUnits(inputVolume, proxy, summaries[0])
    results.placeLike(inputVolume, proxy)
    return proxy
