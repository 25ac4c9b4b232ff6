"""References, images, and where they are read from and written to."""
