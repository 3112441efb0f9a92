"""A look inside a network: maps of its layers, its filters, and where on a picture it looks."""
