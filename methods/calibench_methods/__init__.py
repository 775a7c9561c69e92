"""The uncertainty methods that come with calibench, one file each; calibench finds them by entry point."""
