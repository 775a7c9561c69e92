"""Several sets of weights: trained apart, met along one training run, or drawn around it."""
