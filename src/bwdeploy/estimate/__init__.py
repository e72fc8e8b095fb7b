"""How fast a recipe should be: points over concurrency with a band, beside its `expect:` figures."""
