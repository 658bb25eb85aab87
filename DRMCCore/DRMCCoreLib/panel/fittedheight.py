"""Gives a part of a panel the height that it needs at its width."""

from __future__ import annotations

import qt


class FittedHeight(qt.QObject):
    """Keeps the minimum height of a widget at what its layout needs at its present width.

    Labels that wrap their words need more height the narrower they are. Slicer takes a module's widget out of
    the scroll area of its module panel when another module is opened; put back, it no longer makes the area's
    content higher, and the widgets would be pressed below their minimum heights, one over the other.
    """

    def __init__(self, widget):
        qt.QObject.__init__(self)
        self._widget = widget
        widget.installEventFilter(self)

    def eventFilter(self, watched, event) -> bool:
        """Called by Qt before the widget gets an event."""
        if event.type() in (qt.QEvent.LayoutRequest, qt.QEvent.Resize):
            self.fit()
        return False

    def fit(self) -> None:
        """Sets the minimum height."""
        layout = self._widget.layout()
        height = layout.totalHeightForWidth(self._widget.width) if layout.hasHeightForWidth() else 0
        if height != self._widget.minimumHeight:  # 0: that of the layout, which no text makes higher
            self._widget.setMinimumHeight(height)
