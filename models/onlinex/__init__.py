"""OnlineX: online reconstruction with an active and a stable state (docs/onlinex.md)."""
