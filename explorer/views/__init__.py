"""One screen or panel a file."""
