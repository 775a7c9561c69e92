"""Files of predictions that others made: probabilities and labels, and what each column means."""
