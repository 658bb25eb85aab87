"""The report of one denoised scan."""
