"""Every cell on the same blocks, with clocks, so that a kill loses one block."""
