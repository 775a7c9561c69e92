"""What a command or a call does from end to end, besides a run."""
