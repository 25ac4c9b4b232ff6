"""From what was observed to what stays."""
