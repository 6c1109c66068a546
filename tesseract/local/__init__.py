"""The laptop cloud: a whole stage on 127.0.0.1, without Docker or an account. Nothing outside this folder knows of it."""

from tesseract.local.cloud import absence, down, status, up
from tesseract.local.state import Stack

__all__ = ["Stack", "absence", "down", "status", "up"]
