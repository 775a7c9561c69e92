"""What was measured -> the fields of a record: quality on one side, cost on the other."""
