"""Rows in Trackio's own local store are read back by it as the records have them."""
