"""Many suites at once: a grid of models, data sets, methods and seeds, in a folder of run folders."""
