"""Plain scripts that measure and print one table each."""
