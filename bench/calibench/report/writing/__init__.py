"""Records -> words, numbers and tables, whatever page they stand on."""
