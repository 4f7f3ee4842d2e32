"""What the authors of adapters, and our own tests, test with."""
