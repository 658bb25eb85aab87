"""Images without any meaning of their values: grids, files, resampling, masks."""
