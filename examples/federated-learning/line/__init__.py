"""Two nodes fit one line, y = 3x + 1, without showing each other their points."""
