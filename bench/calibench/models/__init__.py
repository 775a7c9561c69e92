"""What a method is given: a checkpoint, batches, one shared pass, and the way to a `Predictive`."""
