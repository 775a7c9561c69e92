"""Where a model draws random numbers, and drawing there: the engine below the methods."""
