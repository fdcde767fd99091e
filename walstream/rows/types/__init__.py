"""Output functions of the builtin types: stored bytes to the text that COPY prints."""
