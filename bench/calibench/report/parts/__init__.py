"""What stands under each heading of a report."""
