"""What a network sees: maps of its layers, its filters, and where on a picture it looks."""
