"""The only place that opens a connection, or tells a child how to."""
