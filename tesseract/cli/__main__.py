"""`python -m tesseract.cli`."""

from tesseract.cli import main

main()
