"""One privacy curve a file: pure functions of numbers."""
