"""The command line: words to requests, results to stdout, everything else to stderr."""
