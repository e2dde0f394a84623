"""The formats of other libraries: one file each."""
