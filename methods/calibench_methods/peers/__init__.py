"""Other libraries' own paths, as their users would take them."""
