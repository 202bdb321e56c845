"""What a compiled extension needs and holds, read from its bytes."""
