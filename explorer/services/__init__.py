"""What works for a script, the command line and the screens alike."""
