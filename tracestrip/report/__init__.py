"""What a run has to tell."""
