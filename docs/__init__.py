"""What documents are written with."""
