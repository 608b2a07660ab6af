"""Where frames come from: files, cameras, addresses, stores, and streams made on the spot."""
