"""What exactly is InfoNCE, and does this code compute it? A reference for the loss family, in pure Array API."""

__version__ = "0.1.0"
