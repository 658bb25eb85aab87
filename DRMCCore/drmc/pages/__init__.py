"""Self-contained pages: HTML, SVG and PNG as text."""
