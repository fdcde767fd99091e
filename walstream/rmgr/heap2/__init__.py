"""Tables: what did not fit the codes of Heap."""
