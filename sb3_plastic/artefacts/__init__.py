"""Models as files: what is in them, and other forms that they take."""
