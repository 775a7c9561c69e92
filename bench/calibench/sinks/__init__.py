"""Where a run goes besides its folder: stores of experiment trackers, one module per tool."""
