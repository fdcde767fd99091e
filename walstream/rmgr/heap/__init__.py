"""Tables, and the visibility map."""
