"""Tables, columns and their schema."""
