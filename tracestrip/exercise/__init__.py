"""Puts the target through readiness, probes and commands."""
