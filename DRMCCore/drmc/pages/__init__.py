"""Pages without a dependency: HTML, SVG and PNG as text."""
