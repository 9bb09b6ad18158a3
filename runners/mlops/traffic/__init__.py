"""Traffic on a laptop: rows as requests, replayed at a steady rate, or as load that measures a server."""
