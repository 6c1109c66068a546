"""Small helpers without any knowledge of Tesseract."""
