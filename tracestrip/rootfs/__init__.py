"""The merged view of an image's layers, its extraction, and the layer that is cut out of it."""
