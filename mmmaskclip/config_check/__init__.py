"""Names every mistake of a config before anything is built."""
