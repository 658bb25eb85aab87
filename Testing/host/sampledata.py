"""Slicer's module Sample Data: keeps what modules register, by category, and loads it for scripts."""

from __future__ import annotations

import hashlib
import tempfile
import urllib.request
from pathlib import Path
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
        loadFileTypes=None,
        loadFiles=None,
        loadFileProperties=None,
        checksums=None,
        loadFileType=None,
    ):
        loadFileTypes = loadFileTypes or loadFileType
        lists = [fileNames, nodeNames, loadFileTypes, loadFiles, checksums]
        if any(len(one) != len(uris) for one in lists):
            raise ValueError("All fields of sample data source must have the same length")
        source = SimpleNamespace(
            sampleName=sampleName,
            uris=uris,
            fileNames=fileNames,
            nodeNames=nodeNames,
            customDownloader=customDownloader,
            thumbnailFileName=thumbnailFileName,
            loadFileTypes=loadFileTypes,
            loadFiles=loadFiles,
            checksums=checksums,
        )
        if not hasattr(slicer.modules, "sampleDataSources"):
            slicer.modules.sampleDataSources = {}
        sources = slicer.modules.sampleDataSources.setdefault(category, [])
        if source not in sources:
            sources.append(source)

    def downloadSamples(self, sampleName: str) -> list:
        """Loads the files one by one; a downloader of the source's own is for the button, not for scripts."""
        sources = [one for category in slicer.modules.sampleDataSources.values() for one in category]
        source = next(one for one in sources if one.sampleName == sampleName)
        nodes = []
        with tempfile.TemporaryDirectory() as cache:
            parts = (source.uris, source.fileNames, source.nodeNames, source.loadFileTypes, source.checksums)
            for uri, fileName, nodeName, fileType, checksum in zip(*parts, strict=True):
                path, _headers = urllib.request.urlretrieve(uri, str(Path(cache) / fileName))
                algorithm, _, digest = checksum.partition(":")
                assert hashlib.new(algorithm, Path(path).read_bytes()).hexdigest() == digest
                node = slicer.util.loadNodeFromFile(path, fileType, {"name": nodeName})
                if node.GetStorageNode() is not None:
                    slicer.mrmlScene.RemoveNode(node.GetStorageNode())
                nodes.append(node)
        return nodes

    def downloadSample(self, sampleName: str):
        return self.downloadSamples(sampleName)[0]


def module() -> ModuleType:
    """The module `SampleData`, to be put into sys.modules."""
    made = ModuleType("SampleData")
    made.SampleDataLogic = SampleDataLogic
    made.downloadSample = lambda sampleName: SampleDataLogic().downloadSample(sampleName)
    made.downloadSamples = lambda sampleName: SampleDataLogic().downloadSamples(sampleName)
    return made
