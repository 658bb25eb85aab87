"""The regions of a procedural body: each module adds the strokes of its organs to a drawing.

Positions are those of a reference adult of 1.74 m in mm (x to the left, y posterior, z superior, 0 at the
trunk base), scaled by the habitus; sizes follow the published mathematical phantoms (MIRD-5,
Cristy-Eckerman).
"""
