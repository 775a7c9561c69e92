"""What a prediction is worth: scoring rules and calibration errors, as pure functions in float64.

Each metric is a `calibench.types.Metric`, registered as an entry point in the group `calibench.metrics`.
Nothing here touches a model, and nothing guesses: probabilities that are not probabilities are refused.
"""
