"""What lies on disk and in a published repository: written whole, read back checked."""
