"""Slicer's module Sample Data: keeps what modules register, by category."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace

import slicer


class SampleDataLogic:
    """The part of the logic with which modules register their data."""

    @staticmethod
    def registerCustomSampleDataSource(
        category="Custom",
        sampleName=None,
        uris=None,
        fileNames=None,
        nodeNames=None,
        customDownloader=None,
        thumbnailFileName=None,
        loadFileType=None,
        loadFiles=None,
        loadFileProperties=None,
        checksums=None,
    ):
        lists = [fileNames, nodeNames, loadFileType, loadFiles, checksums]
        if any(len(one) != len(uris) for one in lists):
            raise ValueError("All fields of sample data source must have the same length")
        source = SimpleNamespace(
            sampleName=sampleName,
            uris=uris,
            fileNames=fileNames,
            nodeNames=nodeNames,
            customDownloader=customDownloader,
            thumbnailFileName=thumbnailFileName,
            loadFileType=loadFileType,
            loadFiles=loadFiles,
            checksums=checksums,
        )
        if not hasattr(slicer.modules, "sampleDataSources"):
            slicer.modules.sampleDataSources = {}
        sources = slicer.modules.sampleDataSources.setdefault(category, [])
        if source not in sources:
            sources.append(source)


def module() -> ModuleType:
    """The module `SampleData`, to be put into sys.modules."""
    made = ModuleType("SampleData")
    made.SampleDataLogic = SampleDataLogic
    return made
