"""Source text → plan: the dialect, the interpreter, its prelude, and errors in the words of the user's own files."""
