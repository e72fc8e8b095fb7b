"""How fast a step is, by arithmetic: a roofline with a floor for each layer, and drafted steps."""
