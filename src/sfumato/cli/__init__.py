"""The command line. What a command needs is imported inside it, so that help comes at once."""
