"""The server of `dilated serve`: from HTTP requests to labels, by one thread that computes."""
