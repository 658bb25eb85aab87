"""Images, whatever their values mean: grids, files, resampling, masks."""
