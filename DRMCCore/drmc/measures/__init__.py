"""Numbers of images, lesions and routing."""
