"""TOML and command line -> the cells of a run."""
