"""DRMC: multi-center low-dose PET denoising by dynamic routing. Research use only.

Importing this package costs no torch; modules that need it import it themselves.
"""

__version__ = "0.1.0"
