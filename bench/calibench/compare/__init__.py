"""Records against records: which differences are real, and what follows from that."""
