"""What lies in a run folder: records, predictions, the journal, and how a row is called."""
