"""One module per command: its options, what it calls, what it prints."""
