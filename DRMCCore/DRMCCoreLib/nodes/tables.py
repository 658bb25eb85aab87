"""Tables of the engine as MRML tables."""

from __future__ import annotations

import csv
import math
from collections.abc import Collection
from pathlib import Path
from typing import Any

import slicer
import vtk
from drmc.texts import text_of_cell

from DRMCCoreLib.nodes.names import INPUT_REFERENCE


def readTable(path: Path, textColumns: Collection[str]) -> vtk.vtkTable:
    """A CSV file of the engine as a table: texts in `textColumns`, numbers elsewhere (NaN where empty)."""
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        names = list(reader.fieldnames or [])
        rows = list(reader)
    table = vtk.vtkTable()
    for name in names:
        column = vtk.vtkStringArray() if name in textColumns else vtk.vtkDoubleArray()
        column.SetName(name)
        for row in rows:
            text = row[name]
            if name in textColumns:
                column.InsertNextValue(text_of_cell(text))
            else:
                column.InsertNextValue(float(text) if text else float("nan"))
        table.AddColumn(column)
    return table


def tableRows(table: vtk.vtkTable, textColumns: Collection[str]) -> list[dict[str, Any]]:
    """The rows of such a table by column: texts in `textColumns`, numbers elsewhere, None where NaN."""
    names = [table.GetColumnName(index) for index in range(table.GetNumberOfColumns())]
    rows = []
    for row in range(table.GetNumberOfRows()):
        found: dict[str, Any] = {}
        for name in names:
            value = table.GetValueByName(row, name)
            if name in textColumns:
                found[name] = value.ToString()
            else:
                found[name] = None if math.isnan(value.ToDouble()) else value.ToDouble()
        rows.append(found)
    return rows


def showTable(table: vtk.vtkTable, node, name: str, inputNode):
    """Puts a table into a node (a new one of that name if None) and returns it."""
    if node is None:
        node = slicer.vtkMRMLTableNode()
        node.SetName(slicer.mrmlScene.GenerateUniqueName(name))
        slicer.mrmlScene.AddNode(node)
    node.SetAndObserveTable(table)
    node.SetNodeReferenceID(INPUT_REFERENCE, inputNode.GetID())
    return node
