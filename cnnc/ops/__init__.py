"""Every operator, declared once: attributes, shape rule, weights, initialisers, multiply-accumulates."""
