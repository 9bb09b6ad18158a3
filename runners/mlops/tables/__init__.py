"""Tables: reading and writing data files, and saying what their columns hold."""
