"""What all figures share: colours, labels, and a figure with its words."""
